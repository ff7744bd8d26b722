"""Checkpoints: the moments at which everything so far is durable.

A checkpoint freezes the current generation in the event loop, then in one thread, in this order:
appends to the data log what is not sealed and syncs it, commits the store's index, commits the
journal. A crash before the journal's commit leaves the previous checkpoint, whole; one after it
this one.
"""

import errno
import logging
import math
import sqlite3

import trio

from libernet.blocks.disk import store_error
from libernet.blocks.errors import LibernetError, StoreError, StoreFull
from libernet.fs.files import Files
from libernet.fs.journal import Batch
from libernet.fs.open_content import FrozenContents
from libernet.fs.overlay import Overlay
from libernet.fs.sealing import SealingWorkers
from libernet.fs.space import Space
from libernet.fs.storage import Storage
from libernet.fs.tree import os_error

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_LAST_TRIES = 60
_POLL_SECONDS = 0.5


class Checkpointer:
    """Commit generations: in time, and whenever somebody waits for it.

    State
      _frozen       the generation being committed with its contents; kept until it succeeded
      _committed    the newest generation that is durable
      _wanted       the newest generation that somebody waits for
      _tried        woken and replaced after each try
      _error        why the last try failed, None when it did not
      _crowd        the newest segment of the data log when all was sealed as there were many
      done, failed  how many tries came to that
    Tasks
      run() alone commits. Callers of durable() wait for it. `writing` is held by whoever writes
      to the journal: this, and publishing for the moment in which it records a snapshot.
    """

    def __init__(
        self,
        *,
        overlay: Overlay,
        files: Files,
        workers: SealingWorkers,
        storage: Storage,
        space: Space,
        max_age_seconds: float,
    ) -> None:
        self._overlay = overlay
        self._files = files
        self._workers = workers
        self._journal = storage.journal
        self._store = storage.store
        self._log = storage.log
        self._space = space
        self._max_age_seconds = max_age_seconds
        self.writing = trio.Lock()
        self._frozen: tuple[Batch, FrozenContents] | None = None
        self._committed = overlay.generation - 1
        self._wanted = 0
        self._wake = trio.Event()
        self._tried = trio.Event()
        self._error: Exception | None = None
        self._crowd = 0
        self.done = self.failed = 0

    @property
    def is_dirty(self) -> bool:
        """Whether anything is not durable yet."""
        return self._frozen is not None or self._overlay.is_dirty or self._files.is_dirty

    async def durable(self) -> None:
        """Return when everything that was done before is durable; OSError when that failed."""
        if not self.is_dirty:
            return
        target = self._newest_dirty()
        self._wanted = max(self._wanted, target)
        self._wake.set()
        while self._committed < target:
            await self._tried.wait()
            if self._error is not None and self._committed < target:
                raise _as_os_error(self._error) from self._error

    async def settled(self) -> None:
        """Return when the journal names every chunk that was sealed before."""
        await self._workers.drain()
        await self.durable()

    async def durable_at_last(self) -> None:
        """Return when everything is durable: nobody else will do it.

        Waits for room on the disk however long it takes; any other error is raised when it stays
        for _LAST_TRIES tries.
        """
        tries = 0
        while True:
            try:
                return await self.durable()
            except OSError as exc:
                tries += exc.errno != errno.ENOSPC
                if tries >= _LAST_TRIES:
                    raise

    async def run(self) -> None:
        """Commit what is wanted at once, and everything else before it is too old."""
        dirty_since = math.inf
        while True:
            with trio.move_on_after(_POLL_SECONDS):
                await self._wake.wait()
            self._wake = trio.Event()
            if not self.is_dirty:
                dirty_since = math.inf
                continue
            dirty_since = min(dirty_since, trio.current_time())
            is_due = trio.current_time() - dirty_since >= self._max_age_seconds
            if self._wanted > self._committed or is_due:
                if is_due:
                    self._files.seal_resting()
                dirty_since = trio.current_time()
                await self._checkpoint()
                if self._error is not None:
                    await trio.sleep(_RETRY_SECONDS)

    def _newest_dirty(self) -> int:
        """Return the generation with the newest change; the current one may be empty."""
        if self._frozen is None or self._overlay.is_current_dirty or self._files.is_dirty:
            return self._overlay.generation
        return self._frozen[0].generation

    async def _checkpoint(self) -> None:
        """Commit the generation that is frozen, or freeze and commit the current one."""
        await self._workers.drain()
        if self._frozen is None:
            batch = self._overlay.freeze()
            self._frozen = batch, self._files.freeze(batch)
        batch, contents = self._frozen
        try:
            async with self.writing:
                await trio.to_thread.run_sync(self._write, batch, contents)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the generation must not be lost
            self._error = exc
            self.failed += 1
            self._space.is_full = _is_full(exc)
            is_foreseen = isinstance(exc, StoreError | OSError | sqlite3.Error)
            _log.error(
                "checkpoint %d failed, it will be tried again: %s",
                batch.generation,
                exc,
                exc_info=None if is_foreseen else exc,
            )
        else:
            self._frozen = None
            self._overlay.committed()
            self._files.committed(contents)
            self._committed = batch.generation
            self._error = None
            self.done += 1
            self._space.is_full = False
            # Once for each segment: sealing a page writes a whole chunk.
            if self._log.crowd > self._crowd:
                self._crowd = self._log.crowd
                self._files.seal_resting(everything=True)
        tried, self._tried = self._tried, trio.Event()
        tried.set()

    def _write(self, batch: Batch, contents: FrozenContents) -> None:
        contents.log(self._log)
        self._store.flush()
        self._journal.apply(batch)
        try:
            if self._log.is_reclaimable:
                self._log.reclaim(self._journal.needed_segments())
        except (LibernetError, OSError, sqlite3.Error) as exc:
            # The commit is done; what stays of the log costs space and nothing else.
            _log.warning("old segments of the data log stay for now: %s", exc)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError | sqlite3.Error):
        error = store_error(error, "the journal")
    return isinstance(error, StoreFull)


def _as_os_error(error: Exception) -> OSError:
    return os_error(errno.ENOSPC if _is_full(error) else errno.EIO)
