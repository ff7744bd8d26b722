"""What the DHT costs and finds: a thousand simulated nodes, and one that is asked.

The nodes are real, their sockets are not, and their clock jumps: seconds of a look-up are those
that a person would wait. The processor's seconds are measured at one node that holds much.
"""

import asyncio
import gc
import random
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import mean, median, quantiles

import msgspec

from benchmarks.rounds import Samples, say
from libernet.blocks.errors import DhtError
from libernet.net.dht.contact import Address, Contact
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.node import DhtNode
from libernet.net.dht.records import plain_record
from libernet.net.dht.wire import (
    FIND_REQUEST_BYTES,
    Announce,
    Envelope,
    Find,
    Found,
    Ping,
    Request,
    encode,
)
from libernet.net.discovery import HTTP_EXCHANGE, RECORD_SECONDS
from tests.support.simulation import EXCHANGE_PORT, UDP_PORT, SimulatedNetwork, simulate

RECORDS_HELD = 100_000
REQUESTS_TIMED = 2_000


class Dht:
    """Measures, and collects the figures; State: samples."""

    def __init__(self) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def run(self, *, quick: bool) -> None:
        """Measure everything, in about five minutes; with *quick* little of it."""
        nodes, keys = (50, 20) if quick else (1000, 500)
        say(f"the DHT: {nodes} nodes, then half of them")
        simulate(partial(self._find, keys), nodes=nodes)
        say(f"the DHT: {nodes} nodes, of which a quarter is dead")
        simulate(partial(self._miss, keys), nodes=nodes)
        say("the DHT: nodes that rest, and records that end")
        simulate(self._rest, nodes=50 if quick else 200)
        simulate(self._end, nodes=25)
        for held in (0, RECORDS_HELD - REQUESTS_TIMED):
            say(f"the DHT: requests to a node that holds {held:,} records")
            simulate(partial(self._serve, held), nodes=1)

    async def _find(self, keys: int, network: SimulatedNetwork) -> None:
        self._record("dht.join", _late([await network.join() for _ in range(20)]))
        announced = [network.random.randbytes(KEY_BYTES) for _ in range(keys)]
        requests = []
        for key in announced:
            node = network.random.choice(network.living())
            before = _sent(node)
            await node.announce(key, EXCHANGE_PORT, HTTP_EXCHANGE)
            requests.append(_sent(node) - before)
        # The first ones still make acquaintances.
        self._record("dht.announce", mean(requests[keys // 2 :]))
        await self._find_all(network, announced, "dht.find")
        swept = await self._sweep(network, 20 * keys)
        await network.kill_share(0.5)
        await self._find_all(network, announced, "dht.half_dead")
        await self._find_swept(network, swept, "dht.sweep.half_dead")
        self._record("dht.datagram", network.loop.longest_bytes)

    async def _find_all(
        self, network: SimulatedNetwork, announced: list[bytes], figure: str
    ) -> None:
        found, seconds = 0, []
        for key in announced:
            others = [node for node in network.living() if not node.own.of(key)]
            began = network.loop.time()
            found += bool(await _find(network.random.choice(others), key))
            seconds.append(network.loop.time() - began)
        self._record(f"{figure}.found", found / len(announced) * 100)
        self._record(f"{figure}.p50", median(seconds))
        self._record(f"{figure}.p95", _late(seconds))

    async def _sweep(self, network: SimulatedNetwork, count: int) -> list[bytes]:
        """Measure a sweep of *count* keys; return some of them."""
        publisher = network.nodes[0]
        keys = rest = sorted(network.random.randbytes(KEY_BYTES) for _ in range(count))
        before, sent_bytes = _sent(publisher), 0
        while rest:
            told = await publisher.sweep(rest, EXCHANGE_PORT, HTTP_EXCHANGE)
            sent_bytes += told.sent_bytes
            rest = rest[told.keys :]
        self._record("dht.sweep.requests", (_sent(publisher) - before) / count)
        self._record("dht.sweep.bytes", sent_bytes / count)
        sample = network.random.sample(keys, count // 20)
        await self._find_swept(network, sample, "dht.sweep.found")
        return sample

    async def _find_swept(self, network: SimulatedNetwork, keys: list[bytes], figure: str) -> None:
        others = [node for node in network.living() if node is not network.nodes[0]]
        found = [bool(await _find(network.random.choice(others), key)) for key in keys]
        self._record(figure, sum(found) / len(found) * 100)

    async def _miss(self, keys: int, network: SimulatedNetwork) -> None:
        await network.kill_share(0.25)
        seconds = []
        for _ in range(keys):
            began = network.loop.time()
            node = network.random.choice(network.living())
            await _find(node, network.random.randbytes(KEY_BYTES))
            seconds.append(network.loop.time() - began)
        self._record("dht.miss.p50", median(seconds))
        self._record("dht.miss.p95", _late(seconds))

    async def _rest(self, network: SimulatedNetwork) -> None:
        """Measure what the node with most to do sends while all rest, and one holds a lot."""
        _hold(network.nodes[0], RECORDS_HELD)
        seconds = 2 * 3600.0
        before = [_sent(node) for node in network.nodes]
        async with network.upkept():
            await asyncio.sleep(seconds)
        sent = [_sent(node) - was for node, was in zip(network.nodes, before, strict=True)]
        self._record("dht.idle", max(sent) / seconds)

    async def _end(self, network: SimulatedNetwork) -> None:
        publisher = network.nodes[-1]
        for _ in range(20):
            key = network.random.randbytes(KEY_BYTES)
            await publisher.announce(key, EXCHANGE_PORT, HTTP_EXCHANGE)
        await network.kill(publisher)
        await asyncio.sleep(RECORD_SECONDS + 300)
        await network.tidy()
        self._record("dht.left", network.records())

    async def _serve(self, held: int, network: SimulatedNetwork) -> None:
        node = network.nodes[0]
        _hold(node, held)
        _fill_table(node)
        kinds: dict[str, Callable[[bytes], Request]] = {
            "ping": lambda token: Ping(),
            "find": lambda token: Find(random.randbytes(KEY_BYTES), 8),
            "announce": lambda token: Announce(
                random.randbytes(KEY_BYTES), token, EXCHANGE_PORT, HTTP_EXCHANGE
            ),
        }
        for kind, request in kinds.items():
            figure = f"dht.{kind}.{'much' if held else 'nothing'}"
            self._record(figure, _seconds_of(node, request))

    def _record(self, figure: str, value: float) -> None:
        self.samples[figure]["libernet"].append(value)


async def _find(node: DhtNode, key: bytes) -> int:
    """Return how many providers a node finds; none when nobody answers it."""
    try:
        return len(await node.find(key, 8))
    except DhtError:
        return 0


def _sent(node: DhtNode) -> int:
    return node.endpoint.counts["sent"] if node.endpoint else 0


def _late(seconds: list[float]) -> float:
    """Return what nineteen of twenty do not exceed."""
    return quantiles(seconds, n=20)[-1]


def _hold(node: DhtNode, records: int) -> None:
    """Let a node hold records of 250 address blocks."""
    for number in range(records):
        provider = Address(f"25.0.{number % 250}.{number % 199}", EXCHANGE_PORT)
        record = plain_record(provider, HTTP_EXCHANGE, node.policy)
        node.responder.providers.add(random.randbytes(KEY_BYTES), record)


def _fill_table(node: DhtNode) -> None:
    """Let a node know as many others as its table has room for."""
    for number in range(20_000):
        address = Address(f"26.{number % 250}.{number // 250}.1", UDP_PORT)
        node.table.add(Contact(random.randbytes(KEY_BYTES), address))


def _seconds_of(node: DhtNode, request: Callable[[bytes], Request]) -> float:
    """Return the processor time of one request from a stranger, from its bytes to the answer's."""
    assert node.endpoint is not None
    datagrams = []
    for number in range(REQUESTS_TIMED):
        sender = Address(f"27.0.{number % 250}.1", UDP_PORT)
        find = Envelope(bytes(8), random.randbytes(KEY_BYTES), 0, 0, Find(bytes(KEY_BYTES), 0))
        answer = node.responder.answer(find, sender, FIND_REQUEST_BYTES)
        assert isinstance(answer, Found)
        envelope = msgspec.structs.replace(find, body=request(answer.token))
        datagrams.append((encode(envelope), sender))
    served = node.endpoint.counts["served"]
    gc.collect()
    gc.freeze()  # or what a thousand other nodes hold in this process may be looked through amid it
    began = time.thread_time()
    for datagram, sender in datagrams:
        node.endpoint.datagram_received(datagram, sender)
    seconds = time.thread_time() - began
    gc.unfreeze()
    assert node.endpoint.counts["served"] == served + REQUESTS_TIMED
    return seconds / REQUESTS_TIMED
