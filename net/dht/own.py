"""What this node announced itself."""

from collections.abc import Callable

from libernet.net.dht.records import pack_own_record
from libernet.net.discovery import RECORD_SECONDS


class OwnRecords:
    """The keys announced from here, so that whoever asks this node hears it first-hand.

    That is what makes a network of two work, and one whose nodes came after the announcement.

    State: by key what is told of it, and when that ends; all end in the order in which they were
    made.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[bytes, tuple[list[bytes], float]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: bytes, port: int, flags: int) -> None:
        """Remember an announcement, for RECORD_SECONDS."""
        self._records.pop(key, None)
        self._records[key] = [pack_own_record(port, flags)], self._clock() + RECORD_SECONDS

    def add_signed(self, key: bytes, record: bytes) -> None:
        """Remember that *record* was left with others, unless the announcement is gone."""
        if key in self._records:
            self._records[key][0][1:] = [record]

    def discard(self, key: bytes) -> None:
        """Forget the announcement of *key*, if there is one."""
        self._records.pop(key, None)

    def of(self, key: bytes) -> list[bytes]:
        """Return the records of what was announced for *key*, one, two or none."""
        self._expire()
        return self._records.get(key, ([], 0))[0]

    def _expire(self) -> None:
        now = self._clock()
        while self._records:
            key = next(iter(self._records))
            if self._records[key][1] > now:
                return
            del self._records[key]
