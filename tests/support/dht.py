"""Nodes of the DHT on loopback, and an asyncio loop whose clock jumps."""

import asyncio
import contextlib
import secrets
import selectors
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import trio

from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.discovery import DhtDiscovery
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.node import DhtNode
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.upkeep import Pace
from libernet.net.discovery import HTTP_EXCHANGE
from libernet.net.identity import NodeIdentity

LOOPBACK = "127.0.0.1"
QUICK = Pace(first_retry=0.1, last_retry=0.4, greeting=0.5, tidying=0.2)

T = TypeVar("T")


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop for coroutines without I/O: when all wait, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.virtual = 0.0

    def time(self) -> float:
        return self.virtual


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for no file: the time that a loop would wait has passed at once."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()
        self._loop.virtual += timeout
        return super().select(0)


def run_jumping(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(coroutine)


def bound_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((LOOPBACK, 0))
    return sock


def new_keys() -> NodeIdentity:
    return NodeIdentity(secrets.token_bytes(32))


def free_port() -> int:
    with bound_socket() as sock:
        return int(sock.getsockname()[1])


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def address_of(sock: socket.socket) -> Address:
    return Address(*sock.getsockname())


@contextlib.asynccontextmanager
async def serving(
    exchange_port: int = 4848,
    *,
    clock: Callable[[], float] | None = None,
    private_network: bool = True,
    flags: int = HTTP_EXCHANGE,
    keys: NodeIdentity | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[tuple[DhtNode, Address]]:
    """Run a node in this asyncio loop."""
    clock = clock or asyncio.get_running_loop().time
    policy = AddressPolicy(socket.AF_INET, private_network=private_network)
    identity = Identity(keys or new_keys(), exchange_port, flags)
    node = DhtNode(identity, policy, OwnRecords(clock), clock=clock, wall_clock=wall_clock)
    ready = asyncio.Event()
    with bound_socket() as sock:
        address = address_of(sock)
        task = asyncio.create_task(node.serve(sock, ready.set))
        try:
            await ready.wait()
            yield node, address
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def network(count: int, **options: Any) -> AsyncIterator[list[DhtNode]]:
    """Run *count* nodes that know each other; node number i serves blocks on port 1000 + i."""
    async with contextlib.AsyncExitStack() as stack:
        pairs = [
            await stack.enter_async_context(serving(1000 + number, **options))
            for number in range(count)
        ]
        nodes = [node for node, _ in pairs]
        for node in nodes[1:]:
            await node.greet([pairs[0][1]])
            await node.fill()
        yield nodes


def sent(nodes: list[DhtNode]) -> int:
    return sum(node.endpoint.counts["sent"] for node in nodes if node.endpoint)


def discovery(
    exchange_port: int,
    *bootstrap: int | PeerAddress,
    host: str = LOOPBACK,
    udp_port: int = 0,
    folder: Path | None = None,
    **options: Any,
) -> DhtDiscovery:
    """Return a node of loopback that bootstraps from UDP ports there, or from others."""
    usual: dict[str, Any] = {"pace": QUICK, "identity": new_keys()}
    return DhtDiscovery(
        Address(host, udp_port),
        exchange_port=exchange_port,
        bootstrap=[
            each if isinstance(each, PeerAddress) else PeerAddress(host or LOOPBACK, each)
            for each in bootstrap
        ],
        state_folder=folder,
        private_network=True,
        **(usual | options),
    )


@contextlib.asynccontextmanager
async def running(node: DhtDiscovery) -> AsyncIterator[DhtDiscovery]:
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield node
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until *condition* holds; other threads make it so."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 # no thread can set an event of trio's
            await trio.sleep(0.01)
