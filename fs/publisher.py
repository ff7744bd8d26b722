"""Publishing: a quiet backup becomes a tree of documents, and that a snapshot.

What is published is one committed state of the journal, looked at through a read transaction, so
writing goes on meanwhile and the picture is consistent.
"""

import errno
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.files import Files
from libernet.fs.journal_reader import FolderDocumentRow, Snapshot
from libernet.fs.sealing import ChunkMaker
from libernet.fs.snapshots import Snapshots
from libernet.fs.storage import Storage
from libernet.fs.tree import Tree, os_error
from libernet.fs.tree_documents import TreeDocuments

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_BUSY_SECONDS = 15 * 60.0  # a backup that never rests is published so often
_RETRY_SECONDS = 30.0


@dataclass(slots=True)
class _Watch:
    """What is known of a backup with something unpublished: when that began, when it grew last."""

    changed: int
    since: float
    last: float


@dataclass(frozen=True, slots=True)
class _Written:
    """The outcome of writing a tree's documents."""

    reference: Reference
    generation: int
    files: int
    bytes: int
    rows: list[FolderDocumentRow]


class Publisher:
    """Publish backups when they are quiet, and when somebody asks.

    State
      _watched   backups with something unpublished, by inode
      _held      backups that are in the middle of something, which no snapshot is to show
      published  how many snapshots were made
    Tasks
      run() looks at what was committed and publishes. `_busy` is held for a whole publication:
      one at a time.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        checkpointer: Checkpointer,
        files: Files,
        tree: Tree,
        maker: ChunkMaker,
        snapshots: Snapshots,
        quiet_seconds: float,
        announce: Callable[[BlockId], None],
    ) -> None:
        self._journal = storage.journal
        self._reader = storage.reader
        self._store = storage.store
        self._log = storage.log
        self._checkpointer = checkpointer
        self._files = files
        self._tree = tree
        self._maker = maker
        self._snapshots = snapshots
        self._quiet_seconds = quiet_seconds
        self._announce = announce
        self._busy = trio.Lock()
        self._watched: dict[int, _Watch] = {}
        self._held: set[int] = set()
        self.published = 0

    @contextmanager
    def holding(self, ino: int) -> Iterator[None]:
        """Publish a backup only when somebody asks, while the body runs."""
        self._held.add(ino)
        try:
            yield
        finally:
            self._held.remove(ino)

    async def run(self) -> None:
        """Publish what rests, until cancelled."""
        while True:
            try:
                for ino in self._due(trio.current_time()):
                    await self._try(ino)
            except Exception:  # noqa: BLE001 - the mount goes on without it
                _log.exception("looking for backups to publish failed")
                await trio.sleep(_RETRY_SECONDS)
            await trio.sleep(_LOOK_SECONDS)

    def unpublished(self) -> list[int]:
        """Return the backups whose committed state no snapshot shows, by inode."""
        found = []
        for _, inode in self._tree.backups():
            latest = self._snapshots.latest(inode.ino)
            if latest is None or latest.generation < self._reader.changed(inode.ino):
                found.append(inode.ino)
        return found

    async def publish_all(self) -> None:
        """Publish every backup that needs it; what fails is logged."""
        for ino in self.unpublished():
            await self._try(ino)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Wait until who is publishing has told the journal, or given up; the body runs then."""
        async with self._busy:
            yield

    async def publish(self, ino: int) -> Snapshot:
        """Publish a backup as it is now and return the snapshot, the newest if nothing changed.

        Raises FileNotFoundError when it was removed before that was done.
        """
        async with self._busy:
            await self._files.seal_all()
            await self._checkpointer.durable()
            latest = self._snapshots.latest(ino)
            if latest is not None and latest.generation >= self._reader.changed(ino):
                return latest
            written = await trio.to_thread.run_sync(self._write, ino)
            return await self._record(ino, written)

    async def share(self, backup: int, folder: int, name: bytes | None, path: bytes) -> Reference:
        """Publish a backup, and return what opens one folder of it, or one file *name* in that.

        The reference opens nothing above or beside it. FileNotFoundError when it is gone by then.
        """
        await self.publish(backup)
        async with self._busy:
            reference = await trio.to_thread.run_sync(self._write_part, folder, name)
            now_ns = self._tree.clock()
            async with self._checkpointer.writing:
                await trio.to_thread.run_sync(self._journal.record_share, reference, path, now_ns)
        self._announce(reference.id)
        return reference

    def roots(self) -> list[BlockId]:
        """Return the ids that others may look for: of all snapshots and shares."""
        shared = [reference.id for reference in self._reader.shares()]
        return [*self._snapshots.ids(), *shared]

    def _due(self, now: float) -> list[int]:
        """Return the backups that rested long enough, or were busy for too long."""
        watched: dict[int, _Watch] = {}
        for ino in self.unpublished():
            changed = self._reader.changed(ino)
            watch = self._watched.get(ino) or _Watch(changed, now, now)
            if watch.changed != changed:
                watch.changed, watch.last = changed, now
            watched[ino] = watch
        self._watched = watched
        return [
            ino
            for ino, watch in watched.items()
            if ino not in self._held
            if now - watch.last >= self._quiet_seconds or now - watch.since >= _BUSY_SECONDS
        ]

    async def _try(self, ino: int) -> None:
        """Publish a backup that may be gone by now; what fails is logged and tried again later."""
        try:
            await self.publish(ino)
        except Exception as exc:  # noqa: BLE001 - the other backups are to be published all the same
            if self._name(ino) is None:
                return
            is_foreseen = isinstance(exc, LibernetError | OSError | sqlite3.Error)
            _log.error(
                "publishing a backup (inode %d) failed: %s",
                ino,
                exc,
                exc_info=None if is_foreseen else exc,
            )
            later = trio.current_time() + _RETRY_SECONDS
            self._watched[ino] = _Watch(self._reader.changed(ino), later, later)
        else:
            self._watched.pop(ino, None)  # what was written meanwhile is watched from now on

    def _name(self, ino: int) -> bytes | None:
        """Return the name that a backup has now, None if it was removed."""
        return next((name for name, inode in self._tree.backups() if inode.ino == ino), None)

    def _write(self, ino: int) -> _Written:
        with self._log.lease(), self._journal.reader() as reader:
            reader.begin()
            if reader.inode(ino) is None:
                raise os_error(errno.ENOENT)  # removed since somebody wanted it published
            generation = reader.meta("generation")
            documents = TreeDocuments(reader, self._maker)
            reference = documents.reference(ino)
            self._store.flush()
        top, rows = documents.rows[ino], list(documents.rows.values())
        return _Written(reference, generation, top.files, top.bytes, rows)

    def _write_part(self, folder: int, name: bytes | None) -> Reference:
        with self._log.lease(), self._journal.reader() as reader:
            reader.begin()
            documents = TreeDocuments(reader, self._maker)
            if name is not None:
                reference = documents.file_reference(folder, name)
            elif reader.inode(folder) is not None:
                reference = documents.reference(folder)
            else:
                raise os_error(errno.ENOENT)
            self._store.flush()
        return reference

    async def _record(self, ino: int, written: _Written) -> Snapshot:
        now_ns = self._tree.clock()
        name = self._name(ino)
        if name is None:
            raise os_error(errno.ENOENT)  # removed while it was being published
        snapshot = Snapshot(
            number=0,
            backup=ino,
            backup_name=name,
            name=self._snapshots.new_name(ino, now_ns),
            reference=written.reference,
            generation=written.generation,
            published_ns=now_ns,
            files=written.files,
            bytes=written.bytes,
        )
        async with self._checkpointer.writing:
            number = await trio.to_thread.run_sync(
                self._journal.record_snapshot, snapshot, written.rows
            )
        snapshot = replace(snapshot, number=number)
        self._snapshots.put(snapshot)
        self.published += 1
        self._announce(snapshot.reference.id)
        return snapshot
