"""A network of many nodes of the DHT in one asyncio loop, on a clock that jumps.

The nodes are real ones, from the socket up: each datagram is encoded, takes its time or gets lost,
is decoded and judged. Only the sockets are simulated. What would take minutes of waiting takes as
long as the processor needs.
"""

import asyncio
import contextlib
import itertools
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from libernet.blocks.errors import DhtError
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.node import DhtNode
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.upkeep import Pace
from libernet.net.discovery import HTTP_EXCHANGE
from libernet.net.identity import NodeIdentity
from tests.support.dht import JumpingLoop

SEED_BYTES = 32
WALL_CLOCK_START = 1.8e9
UDP_PORT = 4848
EXCHANGE_PORT = 4848

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wires:
    """How datagrams travel: each way takes *one_way* seconds, give or take *jitter*, and *loss* of
    all arrive nowhere."""

    one_way: float = 0.025
    jitter: float = 0.01
    loss: float = 0.0


class SimulatedLoop(JumpingLoop):
    """A loop whose datagram sockets are ends of *wires*.

    State: _ends, by address who receives there; longest_bytes, of all datagrams sent.
    """

    def __init__(self, wires: Wires, seed: int) -> None:
        super().__init__()
        self.wires = wires
        self.longest_bytes = 0
        self._random = random.Random(seed)
        self._ends: dict[Address, asyncio.DatagramProtocol] = {}

    # The original has more options, which nobody here uses.
    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], *, sock: socket.socket
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Give the address that *sock* stands for to a protocol."""
        address = cast(SimulatedSocket, sock).address
        protocol = protocol_factory()
        self._ends[address] = protocol
        transport = _Transport(self, address, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def unplug(self, address: Address) -> None:
        """Let nothing arrive at *address* any more."""
        self._ends.pop(address, None)

    def carry(self, datagram: bytes, sender: Address, to: Address) -> None:
        """Deliver a datagram after its time, if it is not lost."""
        self.longest_bytes = max(self.longest_bytes, len(datagram))
        if self._random.random() >= self.wires.loss:
            wires = self.wires
            delay = wires.one_way + self._random.uniform(-wires.jitter, wires.jitter)
            self.call_later(delay, self._deliver, datagram, sender, to)

    def _deliver(self, datagram: bytes, sender: Address, to: Address) -> None:
        end = self._ends.get(to)
        if end is not None:
            end.datagram_received(datagram, sender)


@dataclass(frozen=True, slots=True)
class SimulatedSocket:
    """What a node serves on: nothing but its address."""

    address: Address


class _Transport(asyncio.DatagramTransport):
    def __init__(
        self, loop: SimulatedLoop, address: Address, protocol: asyncio.DatagramProtocol
    ) -> None:
        super().__init__()
        self._loop = loop
        self._address = address
        self._protocol = protocol
        self._is_closed = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._loop.carry(data, self._address, addr)

    def is_closing(self) -> bool:
        return self._is_closed

    def abort(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.unplug(self._address)
            self._loop.call_soon(self._protocol.connection_lost, None)


class SimulatedNetwork:
    """Nodes that join one after the other, each in an address block of its own.

    State: nodes, in the order in which they joined, and the address of each; _serving, by living
    node the task in which it serves; random, what chance there is.
    Tasks: for each node one that serves, and while upkept() lasts one that tidies.
    """

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.loop = loop
        self.nodes: list[DhtNode] = []
        self.random = random.Random(seed)
        self._addresses: dict[DhtNode, Address] = {}
        self._serving: dict[DhtNode, asyncio.Task[None]] = {}

    def living(self) -> list[DhtNode]:
        """Return the nodes that were not killed."""
        return list(self._serving)

    async def add(
        self, *, address: Address | None = None, keys: NodeIdentity | None = None
    ) -> DhtNode:
        """Start a node that knows nobody."""
        number = len(self.nodes)
        address = address or Address(f"24.{number >> 8}.{number & 255}.1", UDP_PORT)
        keys = keys or NodeIdentity(self.random.randbytes(SEED_BYTES))
        clock = self.loop.time
        node = DhtNode(
            Identity(keys, EXCHANGE_PORT, HTTP_EXCHANGE),
            AddressPolicy(socket.AF_INET, private_network=False),
            OwnRecords(clock),
            clock=clock,
            wall_clock=lambda: WALL_CLOCK_START + clock(),
        )
        ready = asyncio.Event()
        sock = cast(socket.socket, SimulatedSocket(address))
        self._serving[node] = asyncio.create_task(node.serve(sock, ready.set))
        self._addresses[node] = address
        self.nodes.append(node)
        await ready.wait()
        return node

    async def join(self) -> float:
        """Add a node that greets one of the living; return how many seconds joining took."""
        living = self.living()
        node = await self.add()
        began = self.loop.time()
        for delay in itertools.count() if living else ():
            await asyncio.sleep(delay * Pace().first_retry)
            if (await node.greet([self._bootstrap(living)]))[0]:
                break
        await node.fill()
        return self.loop.time() - began

    def address(self, node: DhtNode) -> Address:
        """Return where a node receives."""
        return self._addresses[node]

    def _bootstrap(self, nodes: list[DhtNode]) -> Address:
        return self._addresses[self.random.choice(nodes)]

    async def kill(self, *nodes: DhtNode) -> None:
        """Let nodes vanish without a word."""
        for node in nodes:
            self.loop.unplug(self._addresses[node])
            await self._end(node)

    async def kill_share(self, share: float) -> None:
        """Let a share of the living vanish, picked at random."""
        living = self.living()
        await self.kill(*self.random.sample(living, round(share * len(living))))

    @contextlib.asynccontextmanager
    async def upkept(self) -> AsyncIterator[None]:
        """Let all nodes tidy themselves now and then meanwhile, as Upkeep does."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep_tidy(node)) for node in self.living()]
            yield
            for task in tasks:
                task.cancel()

    def requests(self) -> Counter[str]:
        """Return what all nodes together counted."""
        return sum((node.endpoint.counts for node in self.nodes if node.endpoint), Counter())

    def records(self) -> int:
        """Return how many records the living hold."""
        return sum(len(node.responder.providers) for node in self.living())

    async def tidy(self) -> None:
        """Let all nodes tidy themselves once."""
        for node in self.living():
            await node.tidy()

    async def close(self) -> None:
        """End all nodes."""
        for node in self.living():
            await self._end(node)

    async def _keep_tidy(self, node: DhtNode) -> None:
        pace = Pace().tidying
        await asyncio.sleep(self.random.uniform(0, pace))
        while True:
            with contextlib.suppress(DhtError):
                await node.tidy()
            await asyncio.sleep(pace)

    async def _end(self, node: DhtNode) -> None:
        task = self._serving.pop(node)
        task.cancel()
        await asyncio.wait([task])


def simulate(
    work: Callable[[SimulatedNetwork], Coroutine[Any, Any, T]],
    *,
    nodes: int,
    wires: Wires = Wires(),  # a value
    seed: int = 1,
) -> T:
    """Return what *work* makes of a network that so many nodes have joined."""

    async def run() -> T:
        loop = cast(SimulatedLoop, asyncio.get_running_loop())
        network = SimulatedNetwork(loop, seed)
        try:
            for _ in range(nodes):
                await network.join()
            return await work(network)
        finally:
            await network.close()

    random.seed(seed)  # what the nodes draw from
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(wires, seed)) as runner:
        return runner.run(run())
