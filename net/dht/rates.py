"""How many requests one address may make."""

from collections import OrderedDict
from collections.abc import Callable

REQUESTS_PER_SECOND = 100.0
BURST_REQUESTS = 500.0
"""A sweep of a thousand announcements comes from one address within seconds, and is served."""

MAX_ADDRESSES = 4096


class RateLimiter:
    """A bucket of requests for each address, which fills again over time.

    State: what is left and since when, for the MAX_ADDRESSES that asked last.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, ip: str) -> bool:
        """Count a request from *ip*; False when it made too many of late."""
        now = self._clock()
        left, since = self._left.get(ip, (BURST_REQUESTS, now))
        left = min(BURST_REQUESTS, left + (now - since) * REQUESTS_PER_SECOND)
        allowed = left >= 1
        self._left[ip] = (left - 1 if allowed else left, now)
        self._left.move_to_end(ip)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return allowed
