"""How well a peer delivers, by what it delivered lately."""

from dataclasses import dataclass

import trio

GUESSED_BYTES = 512 * 1024
"""What a block is taken to have before it is here: our chunks have that on average."""

_PRIOR_RATE = 4e6  # bytes per second of a peer that nothing is known of: a good line uphill
_PRIOR_ROUND_TRIP_SECONDS = 0.05
_HALF_LIFE_SECONDS = 60.0  # what was measured so long ago counts half: networks change
_TELLING_BYTES = 64 * 1024  # less is over before it tells of a rate
_WEIGHTY_BYTES = 2 * 1024 * 1024  # so many tell as much as all before
_FEW = 2  # questions under way, among which one for little is not held up
_TROUBLE = 0.5  # part of the time that each failure adds
_LEAST_SECONDS = 1e-4


@dataclass(frozen=True, slots=True)
class Errand:
    """A question on its way to a peer: since when, and how it was with the peer then.

    That is how many questions were under way, this included, and what it had sent in its life.
    """

    began: float
    under_way: int
    sent_bytes: int


class Standing:
    """What to expect of one peer.

    State
      under_way    questions that it has not answered
      sent_bytes  blocks that it sent
      _rate        bytes per second, of all that it sends at one time together; None before any
      _round_trip  seconds until the first byte comes; _is_timed, whether that is no guess
      _measured    when, on trio's clock; -inf before anything was
      _trouble     failures, those of _HALF_LIFE_SECONDS ago counted half; _troubled, the last one
    What it sent of all questions while one of them was under way, a round trip apart, tells of the
    rate (as in BBR, draft-cardwell-iccrg-bbr-congestion-control): no timer looks, and times without
    a question do not count.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.sent_bytes = 0
        self._rate: float | None = None
        self._round_trip = _PRIOR_ROUND_TRIP_SECONDS
        self._is_timed = False
        self._measured = float("-inf")
        self._trouble = 0.0
        self._troubled = 0.0

    @property
    def is_measured(self) -> bool:
        """Say whether it has ever sent anything."""
        return self._measured > float("-inf")

    @property
    def rate(self) -> float:
        """Bytes per second; goes back to what strangers are given credit for as time passes."""
        if self._rate is None:
            return _PRIOR_RATE
        return _PRIOR_RATE + (self._rate - _PRIOR_RATE) * _trust(self._measured)

    @property
    def round_trip_seconds(self) -> float:
        """How long it takes to begin with an answer."""
        return self._round_trip

    def expected_seconds(self, more: int = 1) -> float:
        """Return how long it takes until all that is under way is answered, and so many more.

        Failures make it longer: part of what is asked will have to be asked of another peer.
        """
        seconds = self._round_trip + (self.under_way + more) * GUESSED_BYTES / self.rate
        return seconds * (1 + _TROUBLE * self._trouble_now())

    def asked(self) -> Errand:
        """Note a question; `over` ends it."""
        self.under_way += 1
        return Errand(trio.current_time(), self.under_way, self.sent_bytes)

    def failed(self) -> None:
        """Note that it did not do what it should."""
        self._trouble = self._trouble_now() + 1
        self._troubled = trio.current_time()

    def over(self, errand: Errand, size_bytes: int | None) -> None:
        """Note an answer with *size_bytes* of blocks, 0 for none.

        None when it was an error, or nobody waits for it any more: that tells of nothing.
        """
        self.under_way -= 1
        if size_bytes is None:
            return
        self.sent_bytes += size_bytes
        seconds = max(trio.current_time() - errand.began, _LEAST_SECONDS)
        if size_bytes < _TELLING_BYTES:
            self._note_round_trip(errand, seconds)
        else:
            self._round_trip = min(self._round_trip, seconds)
            waited = self._round_trip if self._is_timed else 0.0
            sending = max(seconds - waited, seconds / 8)
            self._note_rate((self.sent_bytes - errand.sent_bytes) / sending, size_bytes)
        self._measured = trio.current_time()

    def _note_round_trip(self, errand: Errand, seconds: float) -> None:
        self._is_timed = True
        if seconds < self._round_trip or not self.is_measured:
            self._round_trip = seconds
        elif errand.under_way <= _FEW:  # else it waited behind others
            self._round_trip += (seconds - self._round_trip) / 4

    def _note_rate(self, rate: float, size_bytes: int) -> None:
        """Take in that it sent at a rate, at least: what is asked for may have been too little."""
        if self._rate is None:
            self._rate = rate
        elif rate > self.rate:
            self._rate = (self.rate + rate) / 2
        else:
            weight = size_bytes / (size_bytes + _WEIGHTY_BYTES)
            self._rate = 1 / ((1 - weight) / self.rate + weight / rate)

    def _trouble_now(self) -> float:
        return self._trouble * _trust(self._troubled) if self._trouble else 0.0


def _trust(measured: float) -> float:
    """Return how much something counts that was measured then."""
    return float(0.5 ** ((trio.current_time() - measured) / _HALF_LIFE_SECONDS))
