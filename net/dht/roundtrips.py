"""How long answers take, as it was so far."""

FIRST_SECONDS = 0.5
LEAST_SECONDS = 0.1
MOST_SECONDS = 1.0


class RoundTrips:
    """A running estimate of when an answer is late: mean and deviation as in RFC 6298.

    State: both in seconds, None before the first answer.
    """

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    def add(self, seconds: float) -> None:
        """Take in how long one answer took."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
        self._mean += (seconds - self._mean) / 8

    def patience(self) -> float:
        """Return after how many seconds another node is asked beside one that is silent."""
        if self._mean is None:
            return FIRST_SECONDS
        return min(max(self._mean + 4 * self._deviation, LEAST_SECONDS), MOST_SECONDS)
