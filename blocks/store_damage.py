"""What happens to blocks that turn out damaged."""

import logging
from collections.abc import Callable

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.store_files import BlockFiles
from libernet.blocks.store_index import HELD_PIN, BlockClass, BlockIndex, Entry
from libernet.blocks.store_queue import PutQueue
from libernet.blocks.verification import is_block

_log = logging.getLogger(__name__)


class Damage:
    """Set aside or forget what does not hash to its id. *find* and *load* are the store's own."""

    def __init__(
        self,
        index: BlockIndex,
        files: BlockFiles,
        queue: PutQueue,
        *,
        find: Callable[[StoredId], Entry | None],
        load: Callable[[Entry], bytes | None],
    ) -> None:
        self._index = index
        self._files = files
        self._queue = queue
        self._find = find
        self._load = load

    def look_again(self, block_id: StoredId) -> bytes:
        """Set a block aside that is damaged, or return it if it no longer is.

        Both locks are held: another thread may have set it aside since the first look, and a third
        have put it anew, which must not be undone.
        """
        with self._queue.commit_lock, self._queue.lock:
            entry = self._find(block_id)
            if entry is None:
                raise BlockNotFound(f"block {block_id} is not in the store any more")
            block = self._load(entry)
            if block is not None and is_block(block_id, block):
                return block
            if entry.is_cached:
                self._lose(entry)
                raise BlockNotFound(f"the cached block {block_id} was torn")
            if entry.in_file and block is None:
                _log.warning("a block is missing, its file %s is gone", self._files.path(block_id))
                raise BlockNotFound(f"the file of block {block_id} is missing")
            self._set_aside(entry, block)
        raise BlockCorrupt(f"block {block_id} was damaged in the store and has been set aside")

    def _set_aside(self, entry: Entry, block: bytes | None) -> None:
        _log.warning("block %s is damaged; it is set aside in %s", entry.id, self._files.folder)
        try:
            if entry.in_file:
                self._files.set_aside(entry.id)
            elif block is not None:
                self._files.set_aside_bytes(entry.id, block)
            if entry.block_class is BlockClass.HELD:  # however it comes back, others rely on it
                self._index.pin([entry.id], HELD_PIN)
            self._index.remove(entry.id)
        except (OSError, StoreError) as exc:
            # A put heals it all the same: it misses the file, or compares a small block's bytes.
            _log.warning("the damaged block %s could not be forgotten: %s", entry.id, exc)
        self._queue.remove(entry)

    def _lose(self, entry: Entry) -> None:
        _log.info("the cached block %s is torn or gone; it is forgotten", entry.id)
        self._queue.remove(entry)
        self._files.remove_cached(entry.id)
        try:
            self._index.forget_cached([entry.id], {})
        except StoreError as exc:
            _log.warning("the torn block %s could not be forgotten: %s", entry.id, exc)
