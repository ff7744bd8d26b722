"""A node of the DHT for one family of IP addresses, as trio code sees it: starts, ends, calls.

An IPv4 and an IPv6 socket cannot share a table: neither can send where the other's contacts are.
"""

import functools
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from libernet.blocks.errors import DhtError
from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, AddressPolicy, Contact
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.node import DhtNode
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.portal import Portal
from libernet.net.dht.remembered import Remembered
from libernet.net.dht.upkeep import Pace, Upkeep

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked for; the kernel gives what net.core.rmem_max allows. With the usual 208 KiB a hundred
look-ups at once lose two answers of five, with megabytes none."""

RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 60.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Run:
    """What exists while the node runs."""

    portal: Portal
    node: DhtNode
    upkeep: Upkeep


class FamilyNode:
    """A node with a socket, a table and a thread of its own, which comes back when it breaks.

    State: _run, None while it is down; _own, its announcements, which outlive that; udp_port, the
    real one once bind() was called; _socket, until run() takes it.
    Tasks: those of run(): the thread, and Upkeep.
    """

    def __init__(
        self,
        bind: Address,
        identity: Identity,
        *,
        private_network: bool,
        bootstrap: Sequence[PeerAddress],
        remembered: Remembered,
        clock: Callable[[], float],
        pace: Pace,
    ) -> None:
        family = socket.AF_INET6 if ":" in bind.ip else socket.AF_INET
        self.policy = AddressPolicy(family, private_network=private_network)
        self.udp_port = bind.port
        self._bind_ip = bind.ip
        self._identity = identity
        self._bootstrap = [each for each in bootstrap if self.policy.may_speak(each.host)]
        self._remembered = remembered
        self._clock = clock
        self._pace = pace
        self._own = OwnRecords(clock)
        self._socket: socket.socket | None = None
        self._run: _Run | None = None

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """Whom it knows now."""
        return self._run.node.contacts if self._run else ()

    @property
    def is_client(self) -> bool:
        """Say whether it was found out that others do not reach it."""
        return self._run is not None and self._run.node.reachability.is_reachable is False

    def bind(self, port: int) -> None:
        """Open the socket, at any port for 0; OSError."""
        self.udp_port = port
        self._socket = self._bound()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until cancelled, after bind(); started when calls can be made.

        Should it break, it is started again, and until then all calls raise DhtError.
        """
        sock, self._socket = self._socket or self._bound(), None
        delay = RESTART_SECONDS
        while True:
            with sock:
                started = trio.current_time()
                failure = await self._serve(sock, task_status)
            task_status = trio.TASK_STATUS_IGNORED
            if trio.current_time() > started + LAST_RESTART_SECONDS:
                delay = RESTART_SECONDS
            _log.error(
                "The DHT broke and starts again in %g s: %r", delay, failure, exc_info=failure
            )
            sock = await self._bind_again(delay)
            delay = min(2 * delay, LAST_RESTART_SECONDS)

    def close(self) -> None:
        """Close the socket, if run() never took it."""
        if self._socket is not None:
            self._socket.close()

    async def call(self, act: Callable[[DhtNode], Coroutine[Any, Any, T]]) -> T:
        """Return what *act* does in the node's loop, after a try to reach somebody if it knows
        nobody; DhtError."""
        run = await self._in_touch()
        return await run.portal.call(act, run.node)

    async def tell(self, act: Callable[[DhtNode], Coroutine[Any, Any, T]]) -> T:
        """Do as call(), once it is known whether others reach this node."""
        run = await self._in_touch()
        await run.upkeep.settle()
        return await run.portal.call(act, run.node)

    def greet(self, address: PeerAddress) -> None:
        """Make the acquaintance of a node that was met otherwise, if it is one of the DHT."""
        if self._run is not None and self.policy.may_speak(address.host):
            self._run.upkeep.greet(address)

    def status(self) -> dict[str, Any]:
        """Return whom it knows, what it holds and what it was asked; {} while it is down."""
        if self._run is None:
            return {}
        return {"family": self.policy.family_name} | self._run.node.status()

    async def _in_touch(self) -> _Run:
        await self._running().upkeep.reach()
        return self._running()

    def _running(self) -> _Run:
        if self._run is None:
            raise DhtError("the DHT is not running")
        return self._run

    async def _serve(
        self, sock: socket.socket, task_status: trio.TaskStatus[None]
    ) -> BaseException | None:
        """Be a node on *sock* until its loop or thread ends; return why it did."""
        node = DhtNode(self._identity, self.policy, self._own, clock=self._clock)
        name = f"dht {self.policy.family_name}"
        portal = Portal(functools.partial(node.serve, sock), name=name)
        upkeep = Upkeep(
            portal,
            node,
            bootstrap=self._bootstrap,
            remembered=self._remembered,
            pace=self._pace,
        )
        try:
            async with portal, trio.open_nursery() as nursery:
                await nursery.start(upkeep.run)
                self._run = _Run(portal, node, upkeep)
                task_status.started()
                await portal.ended.wait()
                nursery.cancel_scope.cancel()
        except DhtError as exc:
            return exc
        finally:
            self._run = None
        return portal.failure

    def _bound(self) -> socket.socket:
        sock = socket.socket(self.policy.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            if self.policy.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((self._bind_ip, self.udp_port))
        except BaseException:
            sock.close()
            raise
        self.udp_port = sock.getsockname()[1]
        return sock

    async def _bind_again(self, delay: float) -> socket.socket:
        while True:
            await trio.sleep(delay)
            try:
                return self._bound()
            except OSError as exc:
                _log.warning("The DHT cannot have its port %d back: %s", self.udp_port, exc)
                delay = LAST_RESTART_SECONDS
