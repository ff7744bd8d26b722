"""One connection to a peer, for one question at a time, each under a deadline."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from libernet.blocks.errors import PeerTimeout
from libernet.net.address import PeerAddress
from libernet.net.exchange.http_exchange import Answer, Question, ask
from libernet.net.exchange.streams import ByteStream, PeerStream
from libernet.net.exchange.wire import MAX_BATCH_ANSWER_BYTES

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
    holds the body of the last answer; `received_bytes` since the last question; `last_used`, by
    trio's clock.
    """

    def __init__(self, peer: PeerAddress, stream: PeerStream, pace: Pace) -> None:
        self.received_bytes = 0
        self.last_used = trio.current_time()
        self._peer = peer
        self._stream = stream
        self._pace = pace
        self._buffer = memoryview(bytearray(MAX_BATCH_ANSWER_BYTES))
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Say whether another question may be asked: the peer is there and silent."""
        return self._is_open and self._stream.is_quiet()

    def close(self) -> None:
        """Close it; never waits."""
        self._is_open = False
        self._stream.close()

    async def ask(self, question: Question) -> Answer:
        """Return what the peer answers, whatever the status; its body lasts until the next one.

        Raises PeerTimeout, RemoteProtocolError, and PeerUnreachable when the connection breaks.
        After an error or a cancellation the connection is closed.
        """
        self._is_open = False
        self.received_bytes = sent = 0
        started = trio.current_time()
        try:
            with trio.CancelScope(deadline=started + self._pace.seconds(0)) as scope:

                def count(received_bytes: int, sent_bytes: int = 0) -> None:
                    nonlocal sent
                    self.received_bytes += received_bytes
                    sent += sent_bytes
                    scope.deadline = started + self._pace.seconds(self.received_bytes, sent)

                counted = _CountedStream(self._stream, count)
                answer = await ask(self._peer, counted, question, self._buffer)
                self._is_open = answer.can_follow
                return answer
        finally:
            self.last_used = trio.current_time()
            if not self._is_open:
                self._stream.close()
        raise PeerTimeout(
            f"peer {self._peer} sent {self.received_bytes} bytes of an answer in "
            f"{self.last_used - started:.0f} s"
        )


class _CountedStream:
    def __init__(self, stream: ByteStream, count: Callable[[int, int], None]) -> None:
        self._stream = stream
        self._count = count

    async def send_all(self, data: bytes) -> None:
        if len(data) <= _SENT_AT_ONCE:
            await self._stream.send_all(data)
            return
        for at in range(0, len(data), _SENT_AT_ONCE):
            piece = data[at : at + _SENT_AT_ONCE]
            await self._stream.send_all(piece)
            self._count(0, len(piece))

    async def receive_into(self, buffer: memoryview) -> int:
        received_bytes = await self._stream.receive_into(buffer)
        self._count(received_bytes, 0)
        return received_bytes
