"""What was wrong with datagrams, without letting them fill the log."""

import logging
from collections import Counter
from collections.abc import Callable

from libernet.net.dht.contact import Address

LINE_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Complaints:
    """Counts of dropped datagrams by reason, and a line about each kind once a minute at most.

    State: the counts, whose reasons are constants of this program; how many datagrams were
    dropped since the last line about them, and when the last line of each kind was.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._unsaid = 0
        self._said: dict[int, float] = {}

    def note(self, reason: str, sender: Address) -> None:
        """Count a datagram that was dropped."""
        self.counts[reason] += 1
        self._unsaid += 1
        if self._may_say(logging.INFO):
            _log.info("Dropped %d datagram(s), the last from %s: %s", self._unsaid, sender, reason)
            self._unsaid = 0

    def note_bug(self, error: Exception, sender: Address) -> None:
        """Count a datagram that met with a mistake of this program."""
        self.counts["unforeseen"] += 1
        if self._may_say(logging.ERROR):
            _log.error("A datagram from %s met with a mistake here", sender, exc_info=error)

    def _may_say(self, level: int) -> bool:
        now = self._clock()
        if now - self._said.get(level, float("-inf")) < LINE_SECONDS:
            return False
        self._said[level] = now
        return True
