"""Which blocks this node speaks of when it is asked for those whose ids are like another one.

Only blocks kept for others and public ones: who asks learns nothing of private ones. Ids are
sorted, so those with the most leading bits in common with a target stand around its place: outwards
on either side the bits in common never become more. The best 100 are therefore among the 100 next
to it on each side, however many blocks there are.
"""

from collections.abc import Iterable
from typing import Final

from libernet.blocks.ids import BlockId
from libernet.blocks.store_index import HELD_PIN, BlockIndex
from libernet.blocks.store_queue import PutQueue

LIKE_LIMIT: Final = 100
"""How many the original answers."""

# Blobs have ids of 48 bytes, and nobody searches for any like those.
_OTHERS = (
    "SELECT id, size FROM block INDEXED BY others_block WHERE class IN (3, 4) AND length(id) = 32"
)
# CROSS JOIN keeps the order of the tables: the few public ones first, each then looked up.
_PUBLIC = "SELECT public.id, block.size FROM public CROSS JOIN block ON block.id = public.id"
_AROUND = (
    f"{_OTHERS} AND id >= ? ORDER BY id LIMIT ?",
    f"{_PUBLIC} WHERE public.id >= ? ORDER BY public.id LIMIT ?",
    f"{_OTHERS} AND id < ? ORDER BY id DESC LIMIT ?",
    f"{_PUBLIC} WHERE public.id < ? ORDER BY public.id DESC LIMIT ?",
)
_IS_TOLD = f"""SELECT 1 FROM block WHERE id = ?1 AND (class IN (3, 4)
    OR EXISTS (SELECT 1 FROM public WHERE public.id = ?1)
    OR EXISTS (SELECT 1 FROM pin WHERE pin.id = ?1 AND owner = '{HELD_PIN}'))"""


class LikeIndex:
    """The public blocks of a store and those kept for others, by what their ids are like."""

    def __init__(self, index: BlockIndex, queue: PutQueue) -> None:
        self._index = index
        self._queue = queue

    def make_public(self, block_ids: Iterable[BlockId]) -> None:
        """Let everybody who asks be told of these blocks, here or not yet, durably."""
        rows = [(bytes(block_id),) for block_id in block_ids]
        with self._queue.commit_lock:
            self._index.commit(("INSERT OR IGNORE INTO public VALUES (?)", rows))

    def make_private(self, block_ids: Iterable[BlockId]) -> None:
        """Speak of these blocks no more, durably."""
        rows = [(bytes(block_id),) for block_id in block_ids]
        with self._queue.commit_lock:
            self._index.commit(("DELETE FROM public WHERE id = ?", rows))

    def tells(self, block_id: BlockId) -> bool:
        """Say whether the block is here and others may be told of it (5 us)."""
        return bool(self._index.ask_all(_IS_TOLD, bytes(block_id)))

    def best(self, target: BlockId, limit: int = LIKE_LIMIT) -> list[tuple[BlockId, int]]:
        """Return up to *limit* of the blocks with their sizes, the most like *target* first.

        Those that have as many leading bits in common are all on one side of the target, and come
        by their distance to it. What waits for a commit is not seen yet. 0.5 ms among two million.
        """
        others_above, public_above, others_below, public_below = (
            self._index.ask_all(query, bytes(target), limit) for query in _AROUND
        )
        above = sorted({*others_above, *public_above})[:limit]
        below = sorted({*others_below, *public_below}, reverse=True)[:limit]
        place = int.from_bytes(target)

        def unlikeness(row: tuple[bytes, int]) -> tuple[int, int]:
            number = int.from_bytes(row[0])
            return (number ^ place).bit_length(), abs(number - place)

        nearest = sorted(above + below, key=unlikeness)[:limit]
        return [(BlockId(block_id), size_bytes) for block_id, size_bytes in nearest]
