"""Who may be connected at one time, and who makes way for others."""

from collections import Counter
from typing import Protocol

from libernet.net.address import region_of

_MANY = 8
"""Whose host or region has so many gives one up for somebody who has none, though it is in use: our
own client asks one peer up to 16 questions at a time, and another answers what comes of it."""


class Guest(Protocol):
    """A connection: since when, on trio's clock, it is in use or idle."""

    is_busy: bool
    since: float

    def make_way(self) -> None:
        """End it."""


class Places:
    """The connections there are, never more than *most*, of one host *most_per_host*.

    State: _guests, whose each is: the region of its address, and its host.
    """

    def __init__(self, most: int, most_per_host: int) -> None:
        self._most = most
        self._most_per_host = most_per_host
        self._guests: dict[Guest, tuple[bytes, str]] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def refusal(self, address: str, host: str) -> str:
        """Say why nobody else at an address can be connected; empty when somebody can.

        Then there is room: another may have gone.
        """
        of_host = sum(each == host for _, each in self._guests.values())
        if of_host >= self._most_per_host:
            return f"it has {of_host} connections already"
        if len(self._guests) < self._most:
            return ""
        goes = self._next_to_go(region_of(address), host)
        if goes is None:
            return f"there are {len(self._guests)} connections already"
        self.remove(goes)
        goes.make_way()
        return ""

    def add(self, guest: Guest, address: str, host: str) -> None:
        """Give a guest the place that there is."""
        self._guests[guest] = (region_of(address), host)

    def remove(self, guest: Guest) -> None:
        """Take a place back, if that was not done."""
        self._guests.pop(guest, None)

    def _next_to_go(self, region: bytes, host: str) -> Guest | None:
        """Return a guest of the region that has most, and of its host that has most.

        None where the newcomer's would have as many then. The one that is idle longest goes, or,
        for somebody who has none where there are many, the one in use longest.
        """
        regions = Counter(each for each, _ in self._guests.values())
        hosts = Counter(each for _, each in self._guests.values())

        def surplus(guest: Guest) -> int:
            of_region, of_host = self._guests[guest]
            if of_region == region:
                return hosts[of_host] - hosts[host]
            return regions[of_region] - regions[region]

        heavier = [each for each in self._guests if surplus(each) > 1]
        if not heavier:
            return None
        most = max(map(surplus, heavier))
        goes = min(
            (each for each in heavier if surplus(each) == most),
            key=lambda each: (each.is_busy, -hosts[self._guests[each][1]], each.since),
        )
        return goes if not goes.is_busy or (most >= _MANY and not hosts[host]) else None
