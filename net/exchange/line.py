"""The lines up and down, of limited rate, that all hosts share evenly."""

import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import trio

from libernet.net.exchange.buffers import Buffers

_PIECES_PER_SECOND = 50
_LEAST_PIECE_BYTES = 1024
_LARGEST_PIECE_BYTES = 64 * 1024

_BURST_SECONDS = 0.1
"""How much may pass at once after a pause: little beside what a router queues."""

_LONG_SECONDS = 5.0
"""Whom answers on their way take that long already is better off elsewhere: after 10 s without a
byte our own client gives up."""


@dataclass(order=True, slots=True)
class _Ticket:
    """One piece that waits: of one host's, those of what was begun first come first."""

    place: int
    may_pass: trio.Event = field(default_factory=trio.Event, compare=False)


class Line:
    """Let *bytes_per_second* pass, 0 for as many as come.

    Hosts that wait take turns, a piece each, however many connections each of them has.

    State: `_waiting`, tickets by host in the order of turns, each a heap; `_current`, whose turn it
    is, None if nobody waits: its task waits for the line and then gives the turn on; `_free_at`,
    when the line is free again, by trio's clock; `_owed`, by host, bytes on their way out.
    """

    def __init__(self, bytes_per_second: int = 0) -> None:
        self.bytes_per_second = bytes_per_second
        self._waiting: dict[str, list[_Ticket]] = {}
        self._current: _Ticket | None = None
        self._free_at = 0.0
        self._owed: dict[str, int] = {}
        self._places = itertools.count()

    @property
    def piece_bytes(self) -> int:
        """How much may pass in one turn."""
        wanted = self.bytes_per_second // _PIECES_PER_SECOND
        return min(max(wanted, _LEAST_PIECE_BYTES), _LARGEST_PIECE_BYTES)

    def is_busy_for(self, host: str) -> bool:
        """Say whether what is on its way to *host* will take long."""
        if not self.bytes_per_second:
            return False
        return self._owed.get(host, 0) * len(self._owed) > _LONG_SECONDS * self.bytes_per_second

    def place(self) -> int:
        """Return a place behind all that was given out."""
        return next(self._places)

    @contextmanager
    def owing(self, host: str, size_bytes: int) -> Iterator[None]:
        """Count bytes that are on their way to *host*."""
        self._owed[host] = self._owed.get(host, 0) + size_bytes
        try:
            yield
        finally:
            self._owed[host] -= size_bytes
            if not self._owed[host]:
                del self._owed[host]

    async def turn(self, host: str, size_bytes: int, place: int) -> None:
        """Wait until *size_bytes*, at most `piece_bytes`, may pass to or from *host*."""
        ticket = _Ticket(place)
        heapq.heappush(self._waiting.setdefault(host, []), ticket)
        if self._current is None:
            self._give_turn()
        try:
            await ticket.may_pass.wait()
            await trio.sleep_until(self._free_at)
            earliest = trio.current_time() - _BURST_SECONDS
            self._free_at = max(self._free_at, earliest) + size_bytes / self.bytes_per_second
        finally:
            self._leave(host, ticket)

    def _leave(self, host: str, ticket: _Ticket) -> None:
        tickets = self._waiting[host]
        tickets.remove(ticket)
        heapq.heapify(tickets)
        is_current = self._current is ticket
        if is_current or not tickets:
            del self._waiting[host]
        if is_current and tickets:
            self._waiting[host] = tickets  # behind the others
        if is_current:
            self._give_turn()

    def _give_turn(self) -> None:
        first = next(iter(self._waiting.values()), None)
        self._current = first[0] if first else None
        if self._current is not None:
            self._current.may_pass.set()


@dataclass(frozen=True, slots=True)
class Lines:
    """What all connections of a node share, whoever made them."""

    up: Line = field(default_factory=Line)
    down: Line = field(default_factory=Line)
    buffers: Buffers = field(default_factory=Buffers)


class Passage:
    """What one connection with *host* sends and receives, on the lines it shares.

    *paused* is a context in which time does not count against the other end: what this node's own
    limits take is not its fault.
    """

    def __init__(
        self, lines: Lines, host: str, paused: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._lines = lines
        self._host = host
        self._paused = paused

    async def send(self, data: bytes, send_all: Callable[[bytes], Awaitable[None]]) -> None:
        """Send *data* by *send_all*, as the line up gets free."""
        up = self._lines.up
        if not up.bytes_per_second:
            await send_all(data)
            return
        place = up.place()
        for at in range(0, len(data), up.piece_bytes):
            piece = data[at : at + up.piece_bytes]
            with self._paused(), up.owing(self._host, len(data) - at):
                await up.turn(self._host, len(piece), place)
            await send_all(piece)

    def receivable(self, wanted_bytes: int) -> int:
        """Return how much of *wanted_bytes* to receive at one time."""
        down = self._lines.down
        return min(wanted_bytes, down.piece_bytes) if down.bytes_per_second else wanted_bytes

    async def received(self, size_bytes: int) -> None:
        """Wait until as much may be received again as the line down lets through."""
        down = self._lines.down
        if down.bytes_per_second and size_bytes:
            with self._paused():
                await down.turn(self._host, size_bytes, down.place())
