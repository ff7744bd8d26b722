"""A set of ids for walks over more blocks than there is memory for objects."""

import secrets
from array import array
from typing import Final

from libernet.blocks.ids import StoredId

_KNOWN_BYTES: Final = 8
_FIRST_SLOTS: Final = 1024  # always a power of two


class IdSet:
    """Ids that were added, in 16 to 32 bytes of memory for each: a terabyte's take 50 MB.

    Each is known by its first 8 bytes: one in a million million million is taken for another.
    State: _slots, these as numbers, each where `_slot` finds it; 0 is none.
    """

    def __init__(self) -> None:
        self._salt = secrets.randbits(64) | 1  # nobody else knows which ids get in each other's way
        self._slots = array("Q", bytes(_KNOWN_BYTES * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, block_id: StoredId) -> bool:
        """Add an id and return whether it is new."""
        known = int.from_bytes(block_id[:_KNOWN_BYTES]) or 1
        slot = self._slot(known)
        if self._slots[slot]:
            return False
        self._slots[slot] = known
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _slot(self, known: int) -> int:
        """Return where an id is, or the free slot where it would be."""
        slots, last = self._slots, len(self._slots) - 1
        slot = (known * self._salt >> 32) & last
        while (found := slots[slot]) and found != known:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", bytes(2 * _KNOWN_BYTES * len(before)))
        for known in before:
            if known:
                self._slots[self._slot(known)] = known
