"""The DHT as a Discovery: what the rest of the program, which is trio, sees of it."""

import functools
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from libernet.blocks.errors import DhtError, FormatError, LocalProtocolError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.keys import IDENTIFIER_NAMESPACE, SHA256_NAMESPACE, node_id_of, routing_key
from libernet.net.dht.node import DhtNode
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.portal import Portal
from libernet.net.dht.state import load_state
from libernet.net.dht.upkeep import Pace, Upkeep
from libernet.net.discovery import HTTP_EXCHANGE, WANTED_PROVIDERS, Provider
from libernet.net.identity import NodeIdentity

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked for; the kernel gives what net.core.rmem_max allows. With the usual 208 KiB a hundred
look-ups at once lose two answers of five, with megabytes none."""

RESTART_SECONDS = 1.0
LAST_RESTART_SECONDS = 60.0
MAX_HINTS = 16

_log = logging.getLogger(__name__)


def boot_clock() -> float:
    """Return seconds since the machine started, counted while it sleeps too: records age then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Run:
    """What exists while the DHT runs."""

    portal: Portal
    node: DhtNode
    upkeep: Upkeep


class DhtDiscovery:
    """A node of the DHT. Behaves as libernet.net.discovery.Discovery says, while run() runs.

    *exchange_port* is announced, together with the IP address that others see this node at; 0
    says that it serves no blocks, and then announce() is a mistake. *bootstrap* nodes are dialled
    wherever they are; other private addresses only on a *private_network*. *state_folder* keeps
    its contacts from one start to the next.

    State: _run, None while the DHT is down; _own, this node's announcements, which outlive it;
    _remembered, where contacts were. udp_port is the real one once run() has started.
    Tasks: those of run(): the thread, and Upkeep.
    """

    def __init__(
        self,
        bind: Address,
        *,
        identity: NodeIdentity,
        exchange_port: int,
        bootstrap: Sequence[PeerAddress] = (),
        state_folder: Path | None = None,
        private_network: bool = False,
        clock: Callable[[], float] = boot_clock,
        pace: Pace | None = None,
    ) -> None:
        self.udp_port = bind.port
        self._bind_host = bind.ip
        self._exchange_port = exchange_port
        self._bootstrap = tuple(bootstrap)
        self._folder = state_folder
        self._flags = HTTP_EXCHANGE if exchange_port else 0
        self._identity = identity
        self._clock = clock
        self._pace = pace or Pace()
        family = socket.AF_INET6 if ":" in bind.ip else socket.AF_INET
        self._policy = AddressPolicy(family, private_network=private_network)
        self._own = OwnRecords(clock)
        self._remembered: tuple[Address, ...] = ()
        self._run: _Run | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until cancelled; started as soon as the socket is open.

        OSError when it cannot be bound. Should the DHT break later, it is started again, and
        until then all calls raise DhtError.
        """
        sock = self._bind()
        self._load()
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

    async def announce(self, block_id: BlockId) -> None:
        """Leave a record at the nodes nearest to the block's key; DhtError when none took it."""
        if not self._exchange_port:
            raise LocalProtocolError("a node that serves no blocks has nothing to announce")
        key = routing_key(SHA256_NAMESPACE, block_id)
        run = await self._in_touch()
        await run.upkeep.settle()
        await run.portal.call(run.node.announce_signed, key, self._exchange_port, self._flags)

    async def withdraw(self, block_id: BlockId) -> None:
        """Take the record back where it can be reached; elsewhere it ends by itself."""
        key = routing_key(SHA256_NAMESPACE, block_id)
        run = await self._in_touch()
        await run.portal.call(run.node.withdraw_signed, key, self._exchange_port)

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Ask ever nearer nodes for providers of the block; DhtError if none of them answers."""
        key = routing_key(SHA256_NAMESPACE, block_id)
        run = await self._in_touch()
        return await run.portal.call(run.node.find, key, want)

    async def announce_identifier(self, identifier: bytes, port: int) -> int:
        """Say that another program is reached at this machine's *port*; return how many know.

        For RECORD_SECONDS. Raises DhtError when nobody took it.
        """
        run = await self._in_touch()
        await run.upkeep.settle()
        key = routing_key(IDENTIFIER_NAMESPACE, identifier)
        return await run.portal.call(run.node.announce, key, port, 0)

    async def find_identifier(self, identifier: bytes, *, want: int) -> list[PeerAddress]:
        """Return where programs announced an identifier; DhtError if nobody answers."""
        run = await self._in_touch()
        key = routing_key(IDENTIFIER_NAMESPACE, identifier)
        return [each.address for each in await run.portal.call(run.node.find, key, want)]

    def peers_hint(self) -> list[PeerAddress]:
        """Return where contacts serve blocks, those first that answered last."""
        contacts = self._run.node.contacts if self._run else ()
        serving = [
            each
            for each in contacts
            if each.exchange_port and each.flags & HTTP_EXCHANGE and not each.failures
        ]
        serving.sort(key=lambda each: -each.seen)
        return [PeerAddress(each.ip, each.exchange_port) for each in serving[:MAX_HINTS]]

    def greet(self, address: PeerAddress) -> None:
        """Make the acquaintance of a node that was met otherwise, if it is one of the DHT."""
        if self._run is not None:
            self._run.upkeep.greet(address)

    def status(self) -> dict[str, Any]:
        """Return the node's id and port, whom it knows, what it holds and what it was asked."""
        answer: dict[str, Any] = {
            "kind": "dht",
            "node_id": node_id_of(self._identity.public_key).hex(),
            "udp_port": self.udp_port,
            "is_running": self._run is not None,
            "contacts": 0,
        }
        if self._run is not None:
            answer |= self._run.node.status()
        return answer

    async def _in_touch(self) -> _Run:
        """Return the running node, after another try to reach somebody if it knows nobody."""
        run = self._running()
        await run.upkeep.reach()
        return self._running()

    def _running(self) -> _Run:
        if self._run is None:
            raise DhtError("the DHT is not running")
        return self._run

    async def _serve(
        self, sock: socket.socket, task_status: trio.TaskStatus[None]
    ) -> BaseException | None:
        """Be a node on *sock* until its loop or thread ends; return why it did."""
        identity = Identity(self._identity, self._exchange_port, self._flags)
        node = DhtNode(identity, self._policy, self._own, clock=self._clock)
        portal = Portal(functools.partial(node.serve, sock), name="dht")
        upkeep = Upkeep(
            portal,
            node,
            bootstrap=self._bootstrap,
            remembered=self._remembered,
            folder=self._folder,
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
            self._remembered = upkeep.remembered
        return portal.failure

    def _bind(self) -> socket.socket:
        sock = socket.socket(self._policy.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            if self._policy.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((self._bind_host, self.udp_port))
        except BaseException:
            sock.close()
            raise
        self.udp_port = sock.getsockname()[1]
        return sock

    async def _bind_again(self, delay: float) -> socket.socket:
        while True:
            await trio.sleep(delay)
            try:
                return self._bind()
            except OSError as exc:
                _log.warning("The DHT cannot have its port %d back: %s", self.udp_port, exc)
                delay = LAST_RESTART_SECONDS

    def _load(self) -> None:
        if self._folder is None:
            return
        try:
            self._remembered = load_state(self._folder)
        except (FormatError, OSError) as exc:
            _log.warning("The DHT starts without its contacts: %s", exc)
