"""One connection to a peer, for one question at a time, each under a deadline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

import trio

from libernet.blocks.errors import PeerTimeout
from libernet.net.address import PeerAddress
from libernet.net.exchange.http_exchange import Answer, Question, ask
from libernet.net.exchange.line import Lines, Passage
from libernet.net.exchange.streams import ByteStream, PeerStream

_RECEIVED_AT_ONCE = 16 * 1024
"""What is there already, of up to a megabyte, would be copied in one step of the event loop, and so
for each connection in turn: a read of a local file beside that took 37 ms (p99), and 17 so. With
32 KiB it took 21, and a file over loopback a tenth less."""

_SENT_AT_ONCE = 64 * 1024  # of a long question, so that it is seen to move


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an answer may take.

    The whole at most *answer_seconds*, and as much longer as a long question takes at
    *least_bytes_per_second*. And a pause ends it once it took *patience_seconds* longer than what
    has come so far takes at that rate: a peer that only drips is found out soon.
    """

    answer_seconds: float = 30
    patience_seconds: float = 10
    least_bytes_per_second: int = 16 * 1024

    def seconds(self, received_bytes: int, sent_bytes: int = 0) -> float:
        """Return how long after the beginning to wait for more than these have moved."""
        sending = sent_bytes / self.least_bytes_per_second
        patience = self.patience_seconds + received_bytes / self.least_bytes_per_second
        return sending + min(self.answer_seconds, patience)


class PeerConnection:
    """Ask *peer* one question at a time over *stream*.

    State: `_is_open`, set only between a complete answer and the next question; `_buffer`, which
    holds the body of the last answer until the connection rests, else None; `received_bytes` since
    the last question; `last_used`, by trio's clock.
    """

    def __init__(
        self, peer: PeerAddress, stream: PeerStream, pace: Pace, lines: Lines | None = None
    ) -> None:
        """Ask on *lines* that may be shared with others."""
        self._lines = lines or Lines()
        self.received_bytes = 0
        self.last_used = trio.current_time()
        self._peer = peer
        self._stream = stream
        self._pace = pace
        self._buffer: memoryview | None = None
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Say whether another question may be asked: the peer is there and silent."""
        return self._is_open and self._stream.is_quiet()

    def rest(self) -> None:
        """Let go of the last answer; to be called before the next question."""
        if self._buffer is not None:
            self._lines.buffers.give_back(self._buffer)
            self._buffer = None

    def close(self) -> None:
        """Close it; never waits."""
        self._is_open = False
        self._stream.close()

    async def ask(self, question: Question) -> Answer:
        """Return what the peer answers, whatever the status; its body lasts until `rest`.

        Raises PeerTimeout, RemoteProtocolError, and PeerUnreachable when the connection breaks.
        After an error or a cancellation the connection is closed.
        """
        self._is_open = False
        self.received_bytes = 0
        buffer = self._lines.buffers.lend()
        patience = _Patience(self._pace, question.heard)
        passage = Passage(self._lines, self._peer.host, patience.paused)
        watched = _WatchedStream(self._stream, passage, patience)
        try:
            with patience.scope:
                answer = await ask(self._peer, watched, question, buffer)
                self._is_open = answer.can_follow
                self._buffer = buffer
                return answer
        finally:
            if self._buffer is None:
                self._lines.buffers.give_back(buffer)
            self.received_bytes = patience.received_bytes
            self.last_used = trio.current_time()
            if not self._is_open:
                self._stream.close()
        raise PeerTimeout(
            f"peer {self._peer} sent {self.received_bytes} bytes of an answer in "
            f"{self.last_used - patience.began:.0f} s"
        )


class _Patience:
    """How long one question may go on.

    State: `scope`, cancelled at its end; `began`, when the question did, but for the time that was
    not the peer's; what was received and sent since.
    """

    def __init__(self, pace: Pace, heard: Callable[[int], None]) -> None:
        self._heard = heard
        self.scope = trio.CancelScope()
        self.began = trio.current_time()
        self.received_bytes = 0
        self._sent_bytes = 0
        self._pace = pace
        self._renew()

    def moved(self, *, received_bytes: int = 0, sent_bytes: int = 0) -> None:
        """Have more patience with a peer that does something."""
        self.received_bytes += received_bytes
        self._sent_bytes += sent_bytes
        if received_bytes:
            self._heard(received_bytes)
        self._renew()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lose none in this context."""
        paused_at = trio.current_time()
        self.scope.deadline = inf
        try:
            yield
        finally:
            self.began += trio.current_time() - paused_at
            self._renew()

    def _renew(self) -> None:
        seconds = self._pace.seconds(self.received_bytes, self._sent_bytes)
        self.scope.deadline = self.began + seconds


class _WatchedStream:
    """A stream within the limits of this node, under the eyes of its patience."""

    def __init__(self, stream: ByteStream, passage: Passage, patience: _Patience) -> None:
        self._stream = stream
        self._passage = passage
        self._patience = patience

    async def send_all(self, data: bytes) -> None:
        if len(data) <= _SENT_AT_ONCE:
            await self._passage.send(data, self._stream.send_all)
            return
        for at in range(0, len(data), _SENT_AT_ONCE):
            piece = data[at : at + _SENT_AT_ONCE]
            await self._passage.send(piece, self._stream.send_all)
            self._patience.moved(sent_bytes=len(piece))

    async def receive_into(self, buffer: memoryview) -> int:
        wanted = self._passage.receivable(min(len(buffer), _RECEIVED_AT_ONCE))
        received_bytes = await self._stream.receive_into(buffer[:wanted])
        self._patience.moved(received_bytes=received_bytes)
        await self._passage.received(received_bytes)
        return received_bytes
