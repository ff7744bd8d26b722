"""How many blocks went one way, and how fast they go now."""

import math
from typing import Any

import trio

_LATELY_SECONDS = 5.0
"""What `bytes_per_second` looks back on: what came so long ago counts a third."""


class Traffic:
    """Blocks and their bytes, counted from the start; used in trio's thread.

    State: `blocks` and `bytes`; `_lately`, the bytes of which older ones count ever less, as it
    was at `_at` on trio's clock.
    """

    def __init__(self) -> None:
        self.blocks = 0
        self.bytes = 0
        self._lately = 0.0
        self._at = -math.inf

    def add(self, blocks: int, size_bytes: int) -> None:
        """Count blocks that went, of so many bytes together."""
        self.blocks += blocks
        self.bytes += size_bytes
        self._lately = self._faded() + size_bytes
        self._at = trio.current_time()

    def bytes_per_second(self) -> float:
        """Return how fast it goes now; what just began counts slowly."""
        return self._faded() / _LATELY_SECONDS

    def status(self) -> dict[str, Any]:
        """Return it all, as plain values for JSON."""
        rate = round(self.bytes_per_second())
        return {"blocks": self.blocks, "bytes": self.bytes, "bytes_per_second": rate}

    def _faded(self) -> float:
        return self._lately * math.exp((self._at - trio.current_time()) / _LATELY_SECONDS)
