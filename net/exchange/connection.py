"""One connection to the peer port: hypercorn's HTTP/1.1 on a stream of ours, with bounded waits.

hypercorn's own trio worker is not used on an open port, for three reasons seen in version 0.18: it
sends in a shielded scope without a deadline, so that a client which reads nothing keeps a block in
memory and the node from stopping; what goes wrong in one connection ends all of them; and there is
no limit to their number.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ASGIFramework

from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.net.exchange.line import Lines, Passage
from libernet.net.exchange.protocol import block_protocol

RECEIVE_BYTES = 16 * 1024

MAX_CONNECTIONS = 128
"""From all peers at one time: as many MiB of memory when all are sent the largest block."""

MAX_IGNORED_BYTES = MAX_BLOCK_BYTES + 64 * 1024
"""How much of a refused body is read, so that the client gets to the answer before the reset: the
original's sends all of a block before it looks for one."""


IPV6_HOST_BITS = 64
"""Addresses that differ in these low bits are one host: who has one has them all."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much of this node its peers may use.

    *head_seconds*: from connecting to the end of the first request's head. *request_seconds*: from
    there until the last byte of the answer is with the kernel; 1 MiB in 60 s are 17 kB/s.
    *idle_seconds*: between requests. *linger_seconds*: for a refused client to read why.
    """

    connections: int = MAX_CONNECTIONS
    connections_per_host: int = 32
    head_seconds: float = 10
    request_seconds: float = 60
    idle_seconds: float = 60
    linger_seconds: float = 2


@dataclass(frozen=True, slots=True)
class Client:
    """Who is connected: the IP *address*, the *host* that it counts as, the *lines* it shares."""

    address: str
    host: str
    lines: Lines


class Connection:
    """Serve one client until it leaves or overstays.

    State: `_life`, whose deadline is when this connection ends if nothing happens, and `_overdue`,
    what the client did wrong then; `_pauses`, how many wait for a line of this node, and
    `_left_seconds`, what is left until the deadline after that; `_is_closing`, set once the last
    answer is sent: what still arrives is thrown away; `is_busy`, whether a request is under way,
    and `since` when, on trio's clock, it is or is not. After run(): `fault`, what the client did
    wrong, empty if nothing; `bug`, what went wrong here.

    Tasks: `run`, which receives; below it at most one of hypercorn's that answers.
    """

    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        stream: trio.abc.HalfCloseableStream,
        limits: ServerLimits,
        client: Client,
    ) -> None:
        self._client = client
        self._passage = Passage(client.lines, client.host, self._paused)
        self._app = app
        self._config = config
        self._stream = stream
        self._limits = limits
        self._life = trio.CancelScope()
        self._pauses = 0
        self._left_seconds = 0.0
        self._overdue = ""
        self._is_closing = False
        self.is_busy = False
        self.since = trio.current_time()
        self.fault = ""
        self.bug: BaseException | None = None

    async def run(self) -> None:
        """Return when the connection is over, whatever the reason; the stream is then closed."""
        try:
            with self._life:
                seconds = self._limits.head_seconds
                self._allow(seconds, f"it asked for nothing within {seconds:g} s")
                await self._serve()
            if self._life.cancelled_caught and trio.current_time() >= self._life.deadline:
                self._blame(self._overdue)
        except* Exception as bugs:  # noqa: BLE001 - arbitrary bytes meet hypercorn and h11 here
            self.bug = bugs
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            protocol = block_protocol(
                self._app,
                self._config,
                nursery,
                self._handle,
                address=self._client.address,
                blame=self._blame,
            )
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._receive(protocol)
            nursery.cancel_scope.cancel()  # whoever is still answering answers nobody

    async def _receive(self, protocol: H11Protocol) -> None:
        ignored_bytes = 0
        while ignored_bytes < MAX_IGNORED_BYTES:
            wanted = self._passage.receivable(RECEIVE_BYTES)
            data = bytes(await self._stream.receive_some(wanted))
            if not data:
                return
            await self._passage.received(len(data))
            if self._is_closing:
                ignored_bytes += len(data)
            else:
                await protocol.handle(RawData(data))

    async def _handle(self, event: Event) -> None:
        """Do what hypercorn's protocol asks for."""
        match event:
            case RawData(data=data):
                await self._send(data)
            case Closed():
                await self._close()
            case Updated(idle=True):
                self._is_now(busy=False)
                self._allow(self._limits.idle_seconds)
            case Updated(idle=False):
                self._is_now(busy=True)
                seconds = self._limits.request_seconds
                self._allow(seconds, f"a request took it more than {seconds:g} s")

    def make_way(self) -> None:
        """End, because others are to have this place."""
        self._blame("others have fewer connections")
        self._life.cancel()

    def _is_now(self, *, busy: bool) -> None:
        self.is_busy = busy
        self.since = trio.current_time()

    def _allow(self, seconds: float, overdue: str = "") -> None:
        if self._is_closing:
            return
        self._left_seconds = seconds
        self._overdue = overdue
        if not self._pauses:
            self._life.deadline = trio.current_time() + seconds

    def _blame(self, fault: str) -> None:
        """Note what the client did wrong; the first counts."""
        self.fault = self.fault or fault

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Stop the clock; what is received may wait while an answer does."""
        if not self._pauses:
            self._left_seconds = self._life.deadline - trio.current_time()
            self._life.deadline = inf
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._life.deadline = trio.current_time() + self._left_seconds

    async def _send(self, data: bytes) -> None:
        try:
            await self._passage.send(data, self._stream.send_all)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._life.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _close(self) -> None:
        if self._is_closing:
            return
        self._allow(self._limits.linger_seconds)
        self._is_closing = True
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._life.cancel()


def host_of(address: str) -> str:
    """Return what connections are counted by: the address, of IPv6 the network only."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 128 - IPV6_HOST_BITS), strict=False))
