"""How many requests one asker may make."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

REQUESTS_PER_SECOND = 100.0
BURST_REQUESTS = 500.0
"""A sweep of a thousand announcements comes from one address within seconds, and is served."""

MAX_ASKERS = 4096


class RateLimiter:
    """A bucket of requests for each asker, which fills again over time.

    State: what is left and since when, for the MAX_ASKERS that asked last.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, asker: Hashable) -> bool:
        """Count a request of *asker*; False when it made too many of late."""
        now = self._clock()
        left, since = self._left.get(asker, (BURST_REQUESTS, now))
        left = min(BURST_REQUESTS, left + (now - since) * REQUESTS_PER_SECOND)
        allowed = left >= 1
        self._left[asker] = (left - 1 if allowed else left, now)
        self._left.move_to_end(asker)
        if len(self._left) > MAX_ASKERS:
            self._left.popitem(last=False)
        return allowed
