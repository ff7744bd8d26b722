"""Who takes most room of something that all share."""

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Crowds(Generic[T]):
    """Things by the crowd that each is of. Every call takes the same time, however many there are.

    State: _crowds, what each has that has something, the newest last; _by_size, of these all that
    have so much; _most, the largest of these sizes, or 0.
    """

    def __init__(self) -> None:
        self._crowds: dict[bytes, dict[T, None]] = {}
        self._by_size: dict[int, set[bytes]] = {}
        self._most = 0

    def add(self, crowd: bytes, thing: T) -> None:
        """Add what is not there."""
        of_crowd = self._crowds.setdefault(crowd, {})
        of_crowd[thing] = None
        self._moved(crowd, len(of_crowd) - 1, len(of_crowd))

    def remove(self, crowd: bytes, thing: T) -> None:
        """Remove what is there."""
        of_crowd = self._crowds[crowd]
        del of_crowd[thing]
        self._moved(crowd, len(of_crowd) + 1, len(of_crowd))
        if not of_crowd:
            del self._crowds[crowd]

    def next_to_go(self, crowd: bytes) -> T | None:
        """Return the newest of what a largest crowd has, to be removed for one more of *crowd*.

        None if that would be as large then.
        """
        if len(self._crowds.get(crowd, ())) + 1 >= self._most:
            return None
        largest = self._crowds[next(iter(self._by_size[self._most]))]
        thing, _ = largest.popitem()  # reversed() would look at all that went before
        largest[thing] = None
        return thing

    def _moved(self, crowd: bytes, before: int, after: int) -> None:
        if before:
            self._by_size[before].remove(crowd)
            if not self._by_size[before]:
                del self._by_size[before]
        if after:
            self._by_size.setdefault(after, set()).add(crowd)
        if after > self._most or self._most not in self._by_size:
            self._most = after
