"""Whole nodes on loopback, with stores on the disk and a DHT of their own."""

import json
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import (
    BlockNotFound,
    LibernetError,
    NetworkError,
    PeerRefused,
    PeerUnreachable,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.source import Origin
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_index import BlockClass, StoreTotals
from libernet.net import network as module
from libernet.net import sweeper
from libernet.net.address import PeerAddress
from libernet.net.dht.discovery import DhtDiscovery
from libernet.net.dht.state import STATE_FILE
from libernet.net.exchange.client import ExchangeClient
from libernet.net.network import Network, NetworkSettings
from libernet.net.ports import first_free_port
from tests.support.dht import until
from tests.support.networks import HOST, ROOT, ROOT_ID, RunningNode, Swarm, swarm_in

LARGE = random.Random(1).randbytes(SMALL_BLOCK_BYTES + 1)
LARGE_ID = BlockId.of(LARGE)
SMALL = [b"small %d" % number for number in range(100)]


@pytest.fixture
async def swarm(quick_folder: Path) -> AsyncIterator[Swarm]:
    async with swarm_in(quick_folder) as made:
        yield made


async def eventually(get: Callable[[], object]) -> None:
    await until(get, seconds=20)


async def test_blocks_come_from_a_peer_that_was_named(swarm: Swarm) -> None:
    first = await swarm.node("first")
    first.put(LARGE, ROOT)
    second = await swarm.node("second", first.address)
    assert await second.get(LARGE_ID) == LARGE
    assert await second.get(ROOT_ID) == ROOT
    assert second.store.get(LARGE_ID) == LARGE


async def test_both_sides_say_what_went_between_them(swarm: Swarm) -> None:
    first = await swarm.node("first")
    first.put(LARGE, *SMALL)
    second = await swarm.node("second", first.address)
    second.network.fetcher.bring([BlockId.of(block) for block in SMALL], Origin(ROOT_ID))
    await second.get(LARGE_ID)
    for block in SMALL:
        await second.get(BlockId.of(block))
    told, other = first.network.status(), second.network.status()
    count, size_bytes = len(SMALL) + 1, len(LARGE) + sum(map(len, SMALL))
    assert (told["served"]["blocks"], told["served"]["bytes"]) == (count, size_bytes)
    assert (other["fetched"]["blocks"], other["fetched"]["bytes"]) == (count, size_bytes)
    assert told["fetched"] == other["served"] == dict.fromkeys(told["fetched"], 0)
    assert told["connections"] > 0
    [peer] = other["peers"]
    assert (peer["delivered"], peer["bytes"], peer["failed"]) == (count, size_bytes, 0)
    [own] = [each["node_id"] for each in told["discovery"]["members"] if each["kind"] == "dht"]
    await eventually(lambda: second.network.status()["peers"][0]["node_id"] == own)
    assert 0 < peer["round_trip_seconds"] < 5
    assert peer["bytes_per_second"] > 0


async def test_a_node_keeps_blocks_for_a_node_that_it_accepts(swarm: Swarm) -> None:
    giver = await swarm.node("giver")
    keeper = await swarm.node("keeper", accept=[giver.network.status()["node"]])
    client = giver.network.peer(keeper.address).client
    for block in (LARGE, ROOT):
        await client.put(BlockId.of(block), block)
        await client.put(BlockId.of(block), block)
    keeper.put(SMALL[0])
    keeper.store.flush()
    asked = [LARGE_ID, ROOT_ID, BlockId.of(SMALL[0]), BlockId.of(SMALL[1])]
    assert await client.which(asked) == {LARGE_ID, ROOT_ID}
    totals = keeper.store.totals_by_class()
    assert totals[BlockClass.HELD] == StoreTotals(2, len(LARGE) + len(ROOT))
    assert await client.get(LARGE_ID) == LARGE
    other = await swarm.node("other")
    with pytest.raises(PeerRefused, match="accept_from"):
        await other.network.peer(keeper.address).client.put(LARGE_ID, LARGE)


async def test_no_more_connections_are_taken_than_settings_allow(swarm: Swarm) -> None:
    node = await swarm.node("node", max_connections=2)
    node.put(LARGE)
    first = [ExchangeClient(node.address) for _ in range(2)]
    for client in first:
        assert await client.get(LARGE_ID) == LARGE
    one_more = ExchangeClient(node.address)
    with pytest.raises(PeerUnreachable):
        await one_more.get(LARGE_ID)
    for client in (*first, one_more):
        client.close()


async def test_blocks_go_no_faster_than_settings_allow(swarm: Swarm) -> None:
    node = await swarm.node("node", upload_bytes_per_second=50_000)
    node.put(LARGE)
    client = ExchangeClient(node.address)
    began = trio.current_time()
    with trio.fail_after(60):
        assert await client.get(LARGE_ID) == LARGE
    client.close()
    assert trio.current_time() - began > len(LARGE) / 50_000 - 0.2


async def test_what_this_machine_puts_unsigned_is_a_guest(swarm: Swarm) -> None:
    keeper = await swarm.node("keeper")
    client = ExchangeClient(keeper.address)
    await client.put(LARGE_ID, LARGE)
    client.close()
    totals = keeper.store.totals_by_class()
    assert totals[BlockClass.GUEST] == StoreTotals(1, len(LARGE))
    assert keeper.store.like.best(LARGE_ID) == [(LARGE_ID, len(LARGE))]


async def test_small_blocks_are_brought_together(swarm: Swarm) -> None:
    first = await swarm.node("first")
    first.put(*SMALL)
    second = await swarm.node("second", first.address)
    ids = [BlockId.of(block) for block in SMALL]
    second.network.fetcher.bring(ids, Origin(ROOT_ID))
    assert [await second.get(block_id) for block_id in ids] == SMALL


async def test_a_root_is_found_through_a_node_that_has_none_of_the_blocks(swarm: Swarm) -> None:
    bootstrap = await swarm.node("bootstrap")
    first = await swarm.node("first", bootstrap.address)
    first.put(LARGE, ROOT)
    first.network.announcer.add(ROOT_ID)
    await eventually(lambda: not first.network.announcer.pending())
    second = await swarm.node("second", bootstrap.address)
    assert await second.get(ROOT_ID) == ROOT
    assert await second.get(LARGE_ID) == LARGE


async def test_who_fetched_a_root_gives_it_on_when_its_maker_is_gone(swarm: Swarm) -> None:
    bootstrap = await swarm.node("bootstrap")
    first = await swarm.node("first", bootstrap.address)
    first.put(LARGE, ROOT)
    first.network.announcer.add(ROOT_ID)
    await eventually(lambda: not first.network.announcer.pending())
    second = await swarm.node("second", bootstrap.address)
    for block_id in (ROOT_ID, LARGE_ID):
        await second.get(block_id)
    await eventually(lambda: not second.network.announcer.pending())
    first.scope.cancel()
    third = await swarm.node("third", bootstrap.address)
    assert await third.get(ROOT_ID) == ROOT
    assert await third.get(LARGE_ID) == LARGE


async def test_who_gave_blocks_is_asked_again_after_a_start_that_names_nobody(
    swarm: Swarm,
) -> None:
    bootstrap = await swarm.node("bootstrap")
    first = await swarm.node("first", bootstrap.address)
    first.put(LARGE, *SMALL)
    second = await swarm.node("second", first.address)
    for block in SMALL:
        await second.get(BlockId.of(block))
    second.scope.cancel()
    bootstrap.scope.cancel()
    await eventually(lambda: second.network.status()["listening"] is None)
    (swarm.folder / "second" / STATE_FILE).unlink()

    again = await swarm.node("second", PeerAddress(HOST, first_free_port(HOST, 0)))
    assert await again.get(LARGE_ID) == LARGE
    hinted = again.network.status()["discovery"]["members"]
    assert {"kind": "remembered", "peers": [str(first.address)]} in hinted
    await eventually(lambda: _contacts(again) > 0)


def _contacts(node: RunningNode) -> int:
    members = node.network.status()["discovery"]["members"]
    return sum(member["contacts"] for member in members if member["kind"] == "dht")


async def test_what_nobody_has_is_said_in_the_status(swarm: Swarm) -> None:
    first = await swarm.node("first")
    second = await swarm.node("second", first.address)
    with pytest.raises(BlockNotFound):
        await second.get(LARGE_ID)
    status = json.loads(json.dumps(second.network.status()))
    assert status["listening"] == second.address.port
    (failure,) = status["failures"]
    assert failure["block"] == str(LARGE_ID)
    assert failure["path"] == "/file"
    assert failure["asked"] == [str(first.address)]
    assert [peer["address"] for peer in status["peers"]] == [str(first.address)]


async def test_what_could_not_be_announced_is_said_and_announced_later(
    swarm: Swarm,
) -> None:
    port = first_free_port(HOST, 0)
    early = await swarm.node("early", PeerAddress(HOST, port))
    early.put(ROOT)
    early.network.announcer.add(ROOT_ID)
    with trio.move_on_after(0.5):
        await eventually(lambda: not early.network.announcer.pending())
    assert early.network.status()["not_announced"] == [str(ROOT_ID)]
    await swarm.node("bootstrap", port=port)
    await eventually(lambda: not early.network.announcer.pending())
    assert early.network.status()["not_announced"] == []


async def test_a_block_is_found_by_its_own_id_when_the_providers_of_its_root_are_gone(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "CHANGES_SECONDS", 0.2)
    bootstrap = await swarm.node("bootstrap")
    origin = await swarm.node("origin", bootstrap.address)
    origin.put(ROOT, LARGE)
    origin.network.announcer.add(ROOT_ID)
    reader = await swarm.node("reader", bootstrap.address)
    await eventually(lambda: not origin.network.announcer.pending())
    assert await reader.get(LARGE_ID) == LARGE
    origin.scope.cancel()
    await eventually(lambda: reader.network.status()["sweep"]["blocks"])
    # The others know each other in a network as small as this one, and would be asked for anything.
    monkeypatch.setattr(DhtDiscovery, "peers_hint", lambda self: [])
    late = await swarm.node("late", bootstrap.address)
    assert await late.get(LARGE_ID) == LARGE
    assert str(reader.address) in {each["address"] for each in late.network.status()["peers"]}
    with pytest.raises(BlockNotFound):
        await late.get(ROOT_ID)


async def test_what_was_fetched_is_here_without_the_network(swarm: Swarm) -> None:
    first = await swarm.node("first")
    first.put(LARGE)
    second = await swarm.node("second", first.address)
    await second.get(LARGE_ID)
    second.scope.cancel()
    await eventually(lambda: second.network.status()["listening"] is None)
    assert await second.get(LARGE_ID) == LARGE
    with pytest.raises(NetworkError):
        await second.get(ROOT_ID)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_port_that_is_taken_for_either_protocol_is_left_out(
    swarm: Swarm, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((HOST, 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        node = await swarm.node("node", port=port)
        assert node.address.port > port


async def test_nowhere_to_listen_is_an_error_at_the_start(quick_folder: Path) -> None:
    with Store(quick_folder / "store") as store:
        settings = NetworkSettings(host="192.0.2.1", port=4848)
        network = Network(store, settings, quick_folder)
        with pytest.raises(ExceptionGroup) as caught:
            await network.run()
        assert caught.group_contains((LibernetError, OSError))


async def test_a_network_that_breaks_starts_again_on_its_port(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RESTART_SECONDS", 0.3)
    first = await swarm.node("first")
    first.put(LARGE, ROOT)
    second = await swarm.node("second", first.address)
    assert await second.get(ROOT_ID) == ROOT
    port = second.address.port

    async def break_down() -> None:
        raise ZeroDivisionError("a bug")

    nursery = second.network.fetcher._nursery
    assert nursery is not None
    nursery.start_soon(break_down)
    await eventually(lambda: second.network.status()["listening"] is None)
    with pytest.raises(NetworkError):
        await second.get(LARGE_ID)
    await eventually(lambda: second.network.status()["listening"] == port)
    assert await second.get(LARGE_ID) == LARGE
    assert "the network broke" in caplog.text
