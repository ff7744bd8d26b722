"""What somebody reads just now and a collection must leave alone, though it may be forgotten."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from libernet.blocks.reference import Reference


class Leases:
    """Bundles of one's own that are being read. State: _held, how many read each."""

    def __init__(self) -> None:
        self._held: Counter[Reference] = Counter()

    @contextmanager
    def held(self, references: Iterable[Reference]) -> Iterator[None]:
        """Keep all that bundles need while the body runs, also if their snapshots are forgotten."""
        held = list(references)
        self._held.update(held)
        try:
            yield
        finally:
            self._held -= Counter(held)

    def references(self) -> list[Reference]:
        """Return what opens the bundles that are being read."""
        return list(self._held)
