"""What this node announced itself."""

from collections.abc import Callable

from libernet.net.discovery import RECORD_SECONDS


class OwnRecords:
    """The keys announced from here, so that whoever asks this node hears it first-hand.

    That is what makes a network of two work, and one whose nodes came after the announcement.

    State: by key the port and flags announced and when that ends; all end in the order in which
    they were made.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[bytes, tuple[int, int, float]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: bytes, port: int, flags: int) -> None:
        """Remember an announcement, for RECORD_SECONDS."""
        self._records.pop(key, None)
        self._records[key] = (port, flags, self._clock() + RECORD_SECONDS)

    def discard(self, key: bytes) -> None:
        """Forget the announcement of *key*, if there is one."""
        self._records.pop(key, None)

    def of(self, key: bytes) -> list[tuple[int, int]]:
        """Return port and flags announced for *key*: one pair or none."""
        self._expire()
        found = self._records.get(key)
        return [found[:2]] if found else []

    def _expire(self) -> None:
        now = self._clock()
        while self._records:
            key = next(iter(self._records))
            if self._records[key][2] > now:
                return
            del self._records[key]
