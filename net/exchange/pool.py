"""The connections to one peer, kept from one question to the next."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import PeerUnreachable
from libernet.net.address import PeerAddress
from libernet.net.exchange.http_exchange import Answer, Question
from libernet.net.exchange.line import Lines
from libernet.net.exchange.peer_connection import Pace, PeerConnection
from libernet.net.exchange.streams import Dial


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How much of one peer this node uses, and how long it waits for it.

    *connections*: questions under way at one time. *connect_seconds*: for a connection.
    *idle_seconds*: how long a connection is kept unused, less than servers keep it; *rest_seconds*:
    how long a buffer is, which a large answer has filled.
    """

    connections: int = 16
    connect_seconds: float = 5
    idle_seconds: float = 45
    rest_seconds: float = 3
    pace: Pace = field(default_factory=Pace)


class ConnectionPool:
    """Ask *peer* several questions at a time, each on a connection of its own.

    State: `round_trip_seconds`, how long the last connection took to be made; `_kept`, connections
    that wait for a question, the last used last; `_places`, how many more questions may be asked
    now; `_unreachable_at`, when connecting failed last, on trio's clock; `_is_closed`, after which
    no connection is kept.
    """

    def __init__(
        self, peer: PeerAddress, dial: Dial, limits: ClientLimits, lines: Lines | None = None
    ) -> None:
        """Ask on *lines* that may be shared with others."""
        self._lines = lines or Lines()
        self.round_trip_seconds: float | None = None
        self._peer = peer
        self._dial = dial
        self._limits = limits
        self._kept: list[PeerConnection] = []
        self._places = trio.Semaphore(limits.connections)
        self._unreachable_at = float("-inf")
        self._is_closed = False

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[Answer]:
        """Ask as soon as there is a place; the answer's body lasts until the end of the block.

        Raises PeerUnreachable, PeerTimeout and RemoteProtocolError.
        """
        began = trio.current_time()
        async with self._places:
            if self._unreachable_at > began:  # a hundred that wait shall not find out one by one
                raise PeerUnreachable(f"peer {self._peer} could not be reached a moment ago")
            connection, answer = await self._answer(question)
            try:
                yield answer
            finally:
                self._keep(connection)

    async def _answer(self, question: Question) -> tuple[PeerConnection, Answer]:
        kept = self._kept_connection()
        if kept is not None:
            try:
                return kept, await kept.ask(question)
            except PeerUnreachable:
                if kept.received_bytes:
                    raise
                # The peer closed it as idle while the question was under way: that is no failure.
        connection = await self._connect()
        return connection, await connection.ask(question)

    def _kept_connection(self) -> PeerConnection | None:
        self.close_idle()
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None

    async def _connect(self) -> PeerConnection:
        began = trio.current_time()
        try:
            with trio.move_on_after(self._limits.connect_seconds):
                stream = await self._dial(self._peer)
                self.round_trip_seconds = trio.current_time() - began
                return PeerConnection(self._peer, stream, self._limits.pace, self._lines)
            seconds = f"{self._limits.connect_seconds:g} s"
            raise PeerUnreachable(f"peer {self._peer} did not accept a connection in {seconds}")
        except PeerUnreachable:
            self._unreachable_at = trio.current_time()
            raise

    def _keep(self, connection: PeerConnection) -> None:
        connection.rest()
        if self._is_closed:
            connection.close()
        else:
            self._kept.append(connection)

    def close_idle(self) -> None:
        """Close the connections that nobody has used for long; never waits.

        Memory that no answer needed for a moment goes earlier.
        """
        now = trio.current_time()
        self._lines.buffers.trim(now - self._limits.rest_seconds)
        oldest = now - self._limits.idle_seconds
        while self._kept and self._kept[0].last_used < oldest:
            self._kept.pop(0).close()

    def close(self) -> None:
        """Close every connection that is not answering, and the others after their answer."""
        self._is_closed = True
        while self._kept:
            self._kept.pop().close()
