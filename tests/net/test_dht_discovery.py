"""The DHT as the program sees it: starts, ends, and comes back by itself."""

import json
import os
import stat
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import DhtError, LocalProtocolError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address
from libernet.net.dht.discovery import DhtDiscovery
from libernet.net.dht.state import STATE_FILE, load_state, save_state
from libernet.net.dht.upkeep import MAX_GREETINGS
from libernet.net.discovery import RECORD_SECONDS
from tests.support.dht import (
    LOOPBACK,
    ManualClock,
    bound_socket,
    discovery,
    free_port,
    new_keys,
    running,
    until,
)

BLOCK = BlockId.of(b"a block")


async def found_ports(node: DhtDiscovery) -> list[int]:
    return sorted(each.address.port for each in await node.find(BLOCK))


def contacts(node: DhtDiscovery) -> int:
    return node.status()["contacts"]


async def test_a_node_that_came_before_its_bootstrap_node_finds_its_way_later() -> None:
    port = free_port()
    async with running(discovery(1, port)) as early:
        with pytest.raises(DhtError):
            await early.find(BLOCK)
        with pytest.raises(DhtError):
            await early.announce(BLOCK)
        async with running(discovery(2, udp_port=port)), running(discovery(3, port)) as late:
            await until(lambda: contacts(early) == contacts(late) == 2)
            await early.announce(BLOCK)
            assert await found_ports(late) == [1]


async def test_two_groups_that_came_before_their_bootstrap_node_grow_together() -> None:
    port = free_port()
    first, second = discovery(1, port), discovery(2, port)
    async with running(first), running(second):
        pair_of_first = discovery(3, port, first.udp_port)
        pair_of_second = discovery(4, port, second.udp_port)
        async with running(pair_of_first), running(pair_of_second):
            await until(lambda: contacts(first) and contacts(second))
            await first.announce(BLOCK)
            assert await found_ports(pair_of_second) == []
            async with running(discovery(5, udp_port=port)):
                with trio.fail_after(10):
                    while await found_ports(pair_of_second) != [1]:  # noqa: ASYNC110 # as until()
                        await trio.sleep(0.05)


async def test_a_find_at_the_very_start_waits_for_the_first_greeting() -> None:
    async with running(discovery(1)) as first, running(discovery(2, first.udp_port)) as second:
        await second.announce(BLOCK)
        async with running(discovery(3, first.udp_port)) as third:
            assert await found_ports(third) == [2]


async def test_who_names_neighbours_without_end_has_a_few_of_them_greeted() -> None:
    async with running(discovery(1)) as there, running(discovery(2)) as node:
        for port in range(10_000, 11_000):
            node.greet(PeerAddress(LOOPBACK, port))
        [family] = node._nodes
        assert family._run is not None
        upkeep = family._run.upkeep
        assert len(upkeep._named) == MAX_GREETINGS
        await until(lambda: not upkeep._named)
        node.greet(PeerAddress(LOOPBACK, there.udp_port))
        await until(lambda: contacts(node))


async def test_a_node_that_restarts_has_its_id_and_contacts_without_any_bootstrap(
    tmp_path: Path,
) -> None:
    keys = new_keys()
    async with running(discovery(1)) as stays:
        async with running(discovery(2, stays.udp_port, folder=tmp_path, identity=keys)) as node:
            await until(lambda: contacts(node))
            await stays.announce(BLOCK)
            node_id = node.status()["node_id"]
        async with running(discovery(2, folder=tmp_path, identity=keys)) as again:
            assert again.status()["node_id"] == node_id
            assert await found_ports(again) == [1]


async def test_the_state_is_json_that_only_its_owner_reads(tmp_path: Path) -> None:
    async with (
        running(discovery(1)) as other,
        running(discovery(2, other.udp_port, folder=tmp_path)) as node,
    ):
        await until(lambda: contacts(node))
    path = tmp_path / STATE_FILE
    known = [["127.0.0.1", other.udp_port]]
    assert json.loads(path.read_text()) == {"version": 2, "contacts": known}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [STATE_FILE]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"version":2}',
        b'{"version":2,"contacts":[["127.0.0.1",70000]]}',
        b'{"version":3,"contacts":[]}',
        b'{"version":0,"contacts":[]}',
        b" " * 300_000,
    ],
)
async def test_a_damaged_state_means_no_contacts_and_a_warning(
    damaged: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / STATE_FILE).write_bytes(damaged)
    async with (
        running(discovery(1)) as other,
        running(discovery(2, other.udp_port, folder=tmp_path)) as node,
    ):
        await until(lambda: contacts(node))
    assert load_state(tmp_path) == (Address(LOOPBACK, other.udp_port),)
    assert ["starts without its contacts" in each.message for each in caplog.records] == [True]


def test_contacts_are_read_from_a_state_of_version_1_too(tmp_path: Path) -> None:
    old = b'{"version":1,"node_id":"%s","contacts":[["127.0.0.1",4848]]}' % (b"a" * 40)
    (tmp_path / STATE_FILE).write_bytes(old)
    assert load_state(tmp_path) == (Address("127.0.0.1", 4848),)


async def test_remembered_addresses_that_nobody_may_dial_are_not_dialled(tmp_path: Path) -> None:
    odd = [Address(ip, 4848) for ip in ("0.0.0.0", "255.255.255.255", "host", "", "224.0.0.1")]
    save_state(tmp_path, odd)
    async with running(discovery(1, folder=tmp_path)) as node:
        with pytest.raises(DhtError):
            await node.find(BLOCK)
        assert node.status()["requests"] == {}


async def test_announcements_end_after_a_day() -> None:
    clock = ManualClock()
    async with (
        running(discovery(1, clock=clock)) as first,
        running(discovery(2, first.udp_port, clock=clock)) as second,
    ):
        await second.announce(BLOCK)
        clock.now += RECORD_SECONDS - 1
        assert await found_ports(first) == [2]
        clock.now += 1
        assert await found_ports(first) == []


async def test_when_the_thread_dies_calls_fail_and_the_node_comes_back_at_its_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def die() -> None:
        raise SystemExit

    async with running(discovery(1)) as first, running(discovery(2, first.udp_port)) as second:
        await second.announce(BLOCK)
        before = first.udp_port
        with pytest.raises(DhtError):
            await first._nodes[0]._run.portal.call(die)
        await until(lambda: not first.status()["is_running"])
        for call in (first.find, first.announce, first.withdraw):
            with pytest.raises(DhtError):
                await call(BLOCK)
        assert first.peers_hint() == []
        await until(lambda: contacts(first))
        assert first.udp_port == before
        assert await found_ports(first) == [2]
    assert ["broke and starts again" in each.message for each in caplog.records] == [True]


async def test_before_and_after_it_runs_calls_fail() -> None:
    node = discovery(1)
    for _ in range(2):
        with pytest.raises(DhtError):
            await node.find(BLOCK)
        assert node.status()["is_running"] is False
        async with running(node):
            assert node.status()["is_running"] is True


async def test_a_port_that_is_taken_is_told_at_the_start() -> None:
    with bound_socket() as sock:
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="in use"):
                await nursery.start(discovery(1, udp_port=sock.getsockname()[1]).run)


async def test_a_node_that_serves_no_blocks_finds_them_and_announces_none() -> None:
    async with running(discovery(1)) as first, running(discovery(0, first.udp_port)) as second:
        await until(lambda: contacts(first))
        await first.announce(BLOCK)
        assert await found_ports(second) == [1]
        assert first.peers_hint() == []
        assert second.peers_hint() == [PeerAddress(LOOPBACK, 1)]
        with pytest.raises(LocalProtocolError):
            await second.announce(BLOCK)


async def test_a_bootstrap_node_by_name_and_one_that_no_name_server_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with running(discovery(1)) as first:
        node = DhtDiscovery(
            Address(LOOPBACK, 0),
            identity=new_keys(),
            exchange_port=2,
            bootstrap=[
                PeerAddress("localhost", first.udp_port),
                PeerAddress("no-such-host.invalid", 4848),
            ],
            private_network=False,
        )
        async with running(node):
            await until(lambda: contacts(node) and caplog.records)
    assert ["no-such-host.invalid" in record.message for record in caplog.records] == [True]


async def test_it_ends_soon_with_a_hundred_finds_under_way() -> None:
    async def find(node: DhtDiscovery) -> None:
        with pytest.raises(DhtError):
            await node.find(BLOCK)

    with bound_socket() as silent:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(1):
                async with running(discovery(1, silent.getsockname()[1])) as node:
                    for _ in range(100):
                        nursery.start_soon(find, node)
                    await trio.testing.wait_all_tasks_blocked()
