"""Which blocks a store holds, a few at a time however many there are, and which came and went."""

import threading
from collections.abc import Iterable
from typing import Final

from libernet.blocks.ids import BlockId
from libernet.blocks.store_index import BlockIndex

MAX_CHANGES: Final = 50_000
"""Ids noted between two times that somebody takes them: 6 MB at most. The others are forgotten."""

# Blobs of LBRYnet have ids of 48 bytes, and nobody looks for them in the DHT.
_BEHIND = "SELECT id FROM block WHERE id > ? AND length(id) = 32 ORDER BY id LIMIT ?"


class Holdings:
    """The committed blocks of a store by their ids, for any thread.

    State: _changed, ids of blocks that came or went since they were taken last; None until
    somebody follows them.
    """

    def __init__(self, index: BlockIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._changed: set[bytes] | None = None
        index.on_change = self._note

    def behind(self, block_id: bytes, limit: int) -> list[bytes]:
        """Return up to *limit* ids behind an id, in order; b"" is the start."""
        return [row[0] for row in self._index.ask_all(_BEHIND, block_id, limit)]

    def follow(self) -> None:
        """Note from now on what comes and goes."""
        with self._lock:
            if self._changed is None:
                self._changed = set()

    def take_changes(self) -> list[BlockId]:
        """Return the ids of blocks that came or went, each once, and begin anew."""
        with self._lock:
            taken, self._changed = self._changed, set()
        return [BlockId(each) for each in taken or ()]

    def _note(self, block_ids: Iterable[bytes]) -> None:
        with self._lock:
            if self._changed is not None:
                for block_id in block_ids:
                    if len(block_id) == 32 and len(self._changed) < MAX_CHANGES:
                        self._changed.add(bytes(block_id))
