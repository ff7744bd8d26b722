"""Blocks kept for other nodes, within limits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from typing_extensions import Buffer

from libernet.blocks.ids import StoredId
from libernet.blocks.store_cache import BlockCache
from libernet.blocks.store_index import HELD_PIN, BlockClass, BlockIndex, Entry
from libernet.blocks.store_queue import PutQueue
from libernet.blocks.verification import is_block


class OthersBlocks:
    """Blocks of classes HELD and GUEST, none of which may take more bytes than *limits* say.

    *find* returns what the store knows of a block, *load* its bytes, *put* keeps an entry durably,
    *pin* lets somebody pin blocks. What is held and one's own is pinned: it stays when it is no
    longer needed here.
    """

    def __init__(
        self,
        index: BlockIndex,
        queue: PutQueue,
        cache: BlockCache,
        *,
        limits: Mapping[BlockClass, int],
        find: Callable[[StoredId], Entry | None],
        load: Callable[[Entry], bytes | None],
        put: Callable[[Entry, Buffer], None],
        pin: Callable[[Iterable[StoredId], str], None],
    ) -> None:
        self._index = index
        self._queue = queue
        self._cache = cache
        self._limits = limits
        self._find = find
        self._load = load
        self._put = put
        self._pin = pin

    def put(self, entry: Entry, block: Buffer) -> bool:
        """Keep a block, durably after the next flush; return False when there is no room for it."""
        known = self._find(entry.id)
        if known is not None and known.is_own and entry.block_class is BlockClass.HELD:
            self._pin([entry.id], HELD_PIN)
            known = self._find(entry.id)  # a collection may have been faster
        if known is not None and not known.is_cached:
            stored = self._load(known)
            is_sound = stored is not None and is_block(entry.id, stored)
            if known.is_kept_as(entry):
                if is_sound:
                    return True
                entry = replace(entry, block_class=known.block_class, asked=known.asked)
        if not entry.is_own and not self._has_room(entry):
            return False
        if entry.block_class is BlockClass.GUEST:
            entry = replace(entry, asked=self._cache.now())
        self._put(entry, block)
        if entry.block_class is BlockClass.HELD:
            known = self._find(entry.id)
            if known is not None and known.is_own and not known.is_held_too:
                return self.put(entry, block)  # it became one's own meanwhile
        return True

    def _has_room(self, entry: Entry) -> bool:
        taken_bytes = (
            self._index.totals_of[entry.block_class].bytes + self._queue.bytes_of[entry.block_class]
        )
        if taken_bytes + entry.size_bytes > self._limits[entry.block_class]:
            return False
        return self._cache.has_disk(entry.size_bytes)
