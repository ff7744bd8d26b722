"""Limits of rate, fairness between hosts and silence, on a virtual clock and in memory."""

import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from libernet.blocks.errors import PeerUnreachable
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.exchange.admission import AcceptanceRules, Admission
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.connection import ServerLimits
from libernet.net.exchange.line import Line, Lines
from libernet.net.exchange.peer_connection import Pace
from libernet.net.exchange.reception import Reception
from libernet.net.exchange.server import ExchangeServer
from tests.support.exchange import PEER, DictIntake, DictOffer, MemoryPeerStream, served_by

LIMITS = ServerLimits(connections=99, connections_per_host=40)
HERE = "127.0.0.1"


def blocks_of(size_bytes: int, count: int) -> list[bytes]:
    return [random.Random(n).randbytes(size_bytes) for n in range(count)]


class Node:
    """A server with *blocks*, its lines, and clients of it in memory."""

    def __init__(
        self, nursery: trio.Nursery, blocks: list[bytes], *, up: int = 0, down: int = 0
    ) -> None:
        self.lines = Lines(Line(up), Line(down))
        self.intake = DictIntake()
        reception = Reception(Admission(AcceptanceRules(), bytes(32)), self.intake)
        offer = DictOffer(blocks)
        self.server = ExchangeServer(offer, reception, limits=LIMITS, lines=self.lines)
        self._nursery = nursery

    def client(self, host: str = HERE, *, up: int = 0, down: int = 0) -> ExchangeClient:
        dial = served_by(self._nursery, partial(self.server.serve, address=host))
        return ExchangeClient(PEER, dial=dial, lines=Lines(Line(up), Line(down)))


async def fetch_all(client: ExchangeClient, blocks: list[bytes]) -> None:
    for block in blocks:
        assert await client.get(BlockId.of(block)) == block


class TestRates:
    @pytest.mark.parametrize("rate", [30_000, 1_000_000])
    @pytest.mark.parametrize("limited", ["server", "client"])
    async def test_fetching_takes_as_long_as_the_limit_says(
        self, autojump_clock: MockClock, nursery: trio.Nursery, rate: int, limited: str
    ) -> None:
        blocks = blocks_of(rate, 10)
        node = Node(nursery, blocks, up=rate if limited == "server" else 0)
        client = node.client(down=rate if limited == "client" else 0)
        await fetch_all(client, blocks)
        assert 9.8 <= trio.current_time() <= 10.5

    @pytest.mark.parametrize("limited", ["server", "client"])
    async def test_putting_too(
        self, autojump_clock: MockClock, nursery: trio.Nursery, limited: str
    ) -> None:
        blocks = blocks_of(100_000, 10)
        node = Node(nursery, [], down=100_000 if limited == "server" else 0)
        client = node.client(up=100_000 if limited == "client" else 0)
        for block in blocks:
            await client.put(BlockId.of(block), block)
        assert len(node.intake.kept) == len(blocks)
        assert 9.8 <= trio.current_time() <= 10.5

    async def test_without_a_limit_nothing_waits(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        blocks = blocks_of(1_000_000, 10)
        await fetch_all(Node(nursery, blocks).client(), blocks)
        assert trio.current_time() == 0

    async def test_after_a_pause_only_little_comes_at_once(self, autojump_clock: MockClock) -> None:
        line = Line(100_000)
        for _ in range(3):
            await trio.sleep(1000)
            began, passed = trio.current_time(), 0
            while trio.current_time() == began:
                await line.turn("a", line.piece_bytes, line.place())
                passed += line.piece_bytes
            assert passed <= 100_000 * 0.1 + 2 * line.piece_bytes

    async def test_the_limit_is_one_for_all_connections(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        blocks = blocks_of(50_000, 20)
        node = Node(nursery, blocks, up=200_000)
        async with trio.open_nursery() as readers:
            for number, block in enumerate(blocks):
                client = node.client(f"192.0.2.{number}")
                readers.start_soon(fetch_all, client, [block])
        assert 4.8 <= trio.current_time() <= 5.5

    async def test_what_the_own_limit_takes_is_not_the_peers_fault(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        (block,) = blocks_of(200_000, 1)
        node = Node(nursery, [block])
        await fetch_all(node.client(down=2000), [block])
        assert 95 <= trio.current_time() <= 105
        small = block[:100_000]
        await node.client(up=2500).put(BlockId.of(small), small)
        assert 135 <= trio.current_time() <= 145
        pace = Pace(answer_seconds=1000, patience_seconds=1000)
        slow = Node(nursery, [block], up=2000)
        client = slow.client()
        client._pool._limits = type(client._limits)(pace=pace)
        await fetch_all(client, [block])
        assert trio.current_time() >= 230


class TestFairness:
    async def test_a_host_gets_no_more_by_more_connections(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        (block,) = blocks_of(20_000, 1)
        node = Node(nursery, [block], up=1_000_000)
        got = {"192.0.2.1": 0, "192.0.2.2": 0}

        async def read(host: str) -> None:
            client = node.client(host)
            while True:
                await client.get(BlockId.of(block))
                got[host] += len(block)

        for _ in range(32):
            nursery.start_soon(read, "192.0.2.1")
        nursery.start_soon(read, "192.0.2.2")
        await trio.sleep(15)
        many, one = got.values()
        assert one + many == pytest.approx(15_000_000, rel=0.05)
        assert many <= one * 1.1

    async def test_what_a_host_asked_for_first_comes_first(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        line = Line(100_000)
        came = []

        async def send(number: int) -> None:
            place = line.place()
            for _ in range(10):
                await line.turn("a", 2000, place)
            came.append(number)

        for number in range(5):
            nursery.start_soon(send, number)
            await wait_all_tasks_blocked()
        await trio.sleep(5)
        assert came == [0, 1, 2, 3, 4]

    async def test_who_stops_to_wait_gives_its_turn_away(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        line = Line(1000)
        passed = []

        async def pass_once(host: str, patience: float) -> None:
            with trio.move_on_after(patience):
                await line.turn(host, 1000, line.place())
                passed.append(host)

        await line.turn("first", 1000, line.place())
        hosts = ["impatient", "b", "impatient", "c", "impatient"]
        for number, host in enumerate(hosts):
            patience = 0.1 * (number + 1) if host == "impatient" else 100
            nursery.start_soon(pass_once, host, patience)
            await wait_all_tasks_blocked()
        await trio.sleep(100)
        assert passed == ["b", "c"]
        began = trio.current_time()
        await line.turn("last", 1000, line.place())
        assert trio.current_time() == began

    async def test_who_would_wait_too_long_is_sent_elsewhere(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        blocks = blocks_of(600_000, 2)
        node = Node(nursery, blocks, up=100_000)
        nursery.start_soon(fetch_all, node.client("192.0.2.1"), blocks[:1])
        await trio.sleep(0.5)
        with pytest.raises(PeerUnreachable, match="busy"):
            await node.client("192.0.2.1").get(BlockId.of(blocks[1]))
        assert await node.client("192.0.2.1").has(BlockId.of(blocks[1]))
        await trio.sleep(10)
        await fetch_all(node.client("192.0.2.1"), blocks[1:])


class TestSilence:
    async def test_who_takes_no_answer_is_ended_though_both_lines_made_it_wait(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        """What it sends waits for the line down while the answer waits for the line up."""
        (block,) = blocks_of(20_000, 1)
        node = Node(nursery, [block], up=1000, down=40)
        client, far = lockstep_stream_pair()
        nursery.start_soon(node.server.serve, far, HERE)
        await client.send_all(
            f"GET /sha256/{BlockId.of(block)} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        )

        async def send_more() -> None:
            await trio.sleep(0.1)
            await client.send_all(b"GET ")

        nursery.start_soon(send_more)
        with trio.move_on_after(1.5):
            while True:
                await client.receive_some()
        await trio.sleep(2 * LIMITS.request_seconds)
        assert node.server.connections == 0

    async def test_a_connection_that_nobody_uses_carries_nothing_and_ends(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        blocks = blocks_of(1000, 1)
        node = Node(nursery, blocks)
        sent: list[tuple[float, int]] = []
        serve = partial(node.server.serve, address=HERE)
        dial_memory = served_by(nursery, serve)

        async def dial(peer: PeerAddress) -> MemoryPeerStream:
            stream = await dial_memory(peer)
            assert isinstance(stream, MemoryPeerStream)
            send, receive = stream.send_all, stream.receive_into

            async def send_all(data: bytes) -> None:
                sent.append((trio.current_time(), len(data)))
                await send(data)

            async def receive_into(buffer: memoryview) -> int:
                count = await receive(buffer)
                sent.append((trio.current_time(), count))
                return count

            stream.send_all = send_all  # type: ignore[method-assign]
            stream.receive_into = receive_into  # type: ignore[method-assign]
            return stream

        client = ExchangeClient(PEER, dial=dial)
        await fetch_all(client, blocks)
        exchanged = len(sent)
        await trio.sleep(3600)
        assert len(sent) == exchanged
        assert node.server.connections == 0
