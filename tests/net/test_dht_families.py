"""IPv4 and IPv6 at one time: a node of each, found and announced through as one."""

import errno
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.dht.discovery import DhtDiscovery
from libernet.net.dht.family import FamilyNode
from libernet.net.dht.keys import SHA256_NAMESPACE, routing_key
from libernet.net.dht.neighbourhood import Swept
from libernet.net.dht.state import STATE_FILE
from tests.support.dht import LOOPBACK, discovery, has_ipv6, running, until

BLOCK = BlockId.of(b"a block")
OTHER_BLOCK = BlockId.of(b"another block")
IPV6_LOOPBACK = "::1"
both_families = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def on_both(exchange_port: int, *bootstrap: PeerAddress, **options: object) -> DhtDiscovery:
    return discovery(exchange_port, *bootstrap, host="", **options)


def at(host: str, node: DhtDiscovery) -> PeerAddress:
    return PeerAddress(host, node.udp_port)


def contacts(node: DhtDiscovery) -> dict[str, int]:
    """Return how many contacts it has in each family."""
    return {each["family"]: each["contacts"] for each in node.status()["families"]}


async def found(node: DhtDiscovery, block_id: BlockId = BLOCK) -> set[str]:
    return {str(each.address) for each in await node.find(block_id)}


@both_families
async def test_nodes_meet_over_ipv6_alone() -> None:
    async with (
        running(discovery(1, host=IPV6_LOOPBACK)) as first,
        running(discovery(2, first.udp_port, host=IPV6_LOOPBACK)) as second,
    ):
        await second.announce(BLOCK)
        assert await found(first) == {"[::1]:2"}


@both_families
async def test_what_is_announced_is_known_over_both_and_what_both_know_is_found() -> None:
    async with (
        running(on_both(1)) as first,
        running(discovery(4, first.udp_port)) as of_ipv4,
        running(discovery(6, first.udp_port, host=IPV6_LOOPBACK)) as of_ipv6,
    ):
        await until(lambda: contacts(first) == {"IPv4": 1, "IPv6": 1})
        await first.announce(BLOCK)
        assert await found(of_ipv4) == {"127.0.0.1:1"}
        assert await found(of_ipv6) == {"[::1]:1"}
        await of_ipv4.announce(OTHER_BLOCK)
        await of_ipv6.announce(OTHER_BLOCK)
        assert await found(first, OTHER_BLOCK) == {"127.0.0.1:4", "[::1]:6"}
        assert set(map(str, first.peers_hint())) == {"127.0.0.1:4", "[::1]:6"}
        await first.withdraw(BLOCK)
        for node in (of_ipv4, of_ipv6):
            assert await found(node) == set()


@both_families
async def test_a_sweep_tells_both_and_takes_back_from_both() -> None:
    keys = sorted(routing_key(SHA256_NAMESPACE, each) for each in (BLOCK, OTHER_BLOCK))
    async with (
        running(on_both(1)) as first,
        running(discovery(4, first.udp_port)) as of_ipv4,
        running(discovery(6, first.udp_port, host=IPV6_LOOPBACK)) as of_ipv6,
    ):
        await until(lambda: contacts(first) == {"IPv4": 1, "IPv6": 1})
        swept = await first.sweep(keys)
        assert (swept.keys, swept.records, swept.kept) == (2, 4, 4)
        for block_id in (BLOCK, OTHER_BLOCK):
            assert await found(of_ipv4, block_id) == {"127.0.0.1:1"}
            assert await found(of_ipv6, block_id) == {"[::1]:1"}
        assert (await first.sweep_away(keys[:1])).kept == 2
        assert of_ipv4.status()["records"] == of_ipv6.status()["records"] == 1


@dataclass
class Family:
    """A node of a network in which so many keys are neighbours."""

    contacts: range
    neighbours: int
    told: list[bytes] = field(default_factory=list)
    steps: int = 0
    is_client: bool = False

    async def tell(self, act: Callable[["Family"], Awaitable[Swept]]) -> Swept:
        return await act(self)

    async def sweep(self, keys: Sequence[bytes], port: int, flags: int) -> Swept:
        self.steps += 1
        self.told += keys[: self.neighbours]
        return Swept(len(keys[: self.neighbours]), 0, 0, 0)


async def test_a_small_network_of_one_family_does_not_hold_a_sweep_of_the_other_up() -> None:
    """Each step takes one look-up in the large network, however many keys there are."""
    small, large = Family(range(5), 1000), Family(range(100), 10)
    node = on_both(1)
    node._nodes = [small, large]
    keys = rest = [number.to_bytes(20) for number in range(100)]
    while rest:
        before = large.steps
        rest = rest[(await node.sweep(rest)).keys :]
        assert large.steps == before + 1
    assert small.told == large.told == keys


@both_families
async def test_a_name_leads_to_the_families_that_it_has_addresses_of() -> None:
    async with running(on_both(1)) as first, running(on_both(2, at("localhost", first))) as second:
        await until(lambda: contacts(second)["IPv4"] == 1)
        # Not each machine calls ::1 localhost.
        assert contacts(second)["IPv6"] in (0, 1)


@both_families
async def test_an_address_is_greeted_by_the_node_of_its_family() -> None:
    async with running(on_both(1)) as first, running(on_both(2)) as second:
        second.greet(at(IPV6_LOOPBACK, first))
        await until(lambda: contacts(second) == {"IPv4": 0, "IPv6": 1})
        second.greet(at(LOOPBACK, first))
        await until(lambda: contacts(second) == {"IPv4": 1, "IPv6": 1})


@both_families
async def test_contacts_of_both_are_remembered_in_one_file(tmp_path: Path) -> None:
    async with running(on_both(1)) as first:
        to_both = [at(LOOPBACK, first), at(IPV6_LOOPBACK, first)]
        async with running(on_both(2, *to_both, folder=tmp_path)) as second:
            await until(lambda: contacts(second) == {"IPv4": 1, "IPv6": 1})
        kept = json.loads((tmp_path / STATE_FILE).read_text())["contacts"]
        assert sorted(kept) == [[LOOPBACK, first.udp_port], [IPV6_LOOPBACK, first.udp_port]]
        async with running(on_both(2, folder=tmp_path)) as again:
            await until(lambda: contacts(again) == {"IPv4": 1, "IPv6": 1})


@both_families
async def test_a_family_in_which_nobody_is_known_does_not_fail_an_announcement() -> None:
    async with running(discovery(1)) as first, running(on_both(2, at(LOOPBACK, first))) as second:
        await second.announce(BLOCK)
        assert await found(first) == {"127.0.0.1:2"}


@both_families
async def test_a_family_that_knows_somebody_must_not_fail() -> None:
    async with running(discovery(1)) as first, running(on_both(2, at(LOOPBACK, first))) as second:
        async with running(discovery(3, host=IPV6_LOOPBACK)) as third:
            second.greet(at(IPV6_LOOPBACK, third))
            await until(lambda: contacts(second) == {"IPv4": 1, "IPv6": 1})
        with pytest.raises(DhtError):
            await second.announce(BLOCK)
        assert await found(first) == {"127.0.0.1:2"}
        # By now the silent one is forgotten.
        await second.announce(BLOCK)


async def test_a_machine_without_ipv6_does_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bind = FamilyNode.bind

    def only_ipv4(self: FamilyNode, port: int) -> None:
        if self.policy.family_name == "IPv6":
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        bind(self, port)

    monkeypatch.setattr(FamilyNode, "bind", only_ipv4)
    async with running(on_both(1)) as first, running(on_both(2, at(LOOPBACK, first))) as second:
        await until(lambda: contacts(second) == {"IPv4": 1})
        await second.announce(BLOCK)
        assert await found(first) == {"127.0.0.1:2"}
        await second.withdraw(BLOCK)
    assert {each.message for each in caplog.records} == {
        "The DHT does without IPv6: [Errno 97] Address family not supported by protocol"
    }
