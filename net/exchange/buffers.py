"""Memory for the answers of peers, lent from one question to the next whoever answers."""

import mmap

import trio

from libernet.net.exchange.wire import MAX_BODY_BYTES

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Buffers:
    """Lend buffers of MAX_BODY_BYTES: as many are in memory as answers came at one time lately.

    Of a mapping only the pages that an answer reaches take memory; a bytearray is all zeroed, and
    most answers are half as long as the longest.

    State: `_idle`, those that nobody has, each with when it was given back; the last one at the
    end, and lent first.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[float, memoryview]] = []

    def __len__(self) -> int:
        return len(self._idle)

    def lend(self) -> memoryview:
        """Return a buffer, which holds anything; `give_back` ends that."""
        if self._idle:
            return self._idle.pop()[1]
        return memoryview(mmap.mmap(-1, MAX_BODY_BYTES, _PRIVATE))

    def give_back(self, buffer: memoryview) -> None:
        """Take a buffer that nobody looks at any more."""
        self._idle.append((trio.current_time(), buffer))

    def trim(self, before: float) -> None:
        """Let go of those that were given back before a moment on trio's clock."""
        self._idle = [each for each in self._idle if each[0] >= before]
