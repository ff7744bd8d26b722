"""Making a folder of a backup what a folder of this machine is.

The folder is listed, compared with the backup's, and only what is new or may have changed is read:
in batches, in threads, each file's content and attributes then taking their place in one step.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from libernet.fs.inode import Inode
from libernet.fs.sources.origins import Origins, mark_of
from libernet.fs.sources.placing import Placer
from libernet.fs.sources.reading import FileContent, FileReader
from libernet.fs.sources.scanning import Found, Listing, Scanner
from libernet.fs.tree import Changes, NewInode
from libernet.fs.troubles import Troubles
from libernet.fs.underway import Underway

_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
_BATCHES = 3  # two cores, and one more for the time that a thread waits for the disk

_Group = tuple[int, int]  # the device and inode of a file with several names


@dataclass(slots=True)
class Progress:
    """What a backup did so far, or would do, and what of it was skipped or failed.

    *unmatched* are patterns that left nothing out, and let nothing in, known at the end.
    """

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    folders: int = 0
    others: int = 0
    removed: int = 0
    left_out: int = 0
    total_bytes: int = 0
    bytes_read: int = 0
    current: bytes = b""
    unmatched: list[str] = field(default_factory=list)
    skipped: Troubles = field(default_factory=Troubles)
    errors: Troubles = field(default_factory=Troubles)

    @property
    def files(self) -> int:
        """How many files were looked at."""
        return self.files_new + self.files_changed + self.files_unmodified

    @property
    def things(self) -> int:
        """How many things were looked at that are no folders."""
        return self.files + self.others


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file to be read, for a name in a folder; into *old*, or a new inode for None."""

    folder: int
    path: bytes
    found: Found
    old: Inode | None


@dataclass(slots=True)
class _Copy:
    """The inode of what has several names; *status* of what was read if that was steady."""

    ino: int
    ctime_ns: int
    status: os.stat_result | None


class Mirror:
    """Bring one folder of a backup up to date; used once.

    State
      _batch          files to be read that do not make up a batch yet
      _claimed        the backup's inodes of several names that stand for something already met
      _copies         for what has several names, its inode in the backup once that is known
      _later          further such names, for the end
      _marks          of files that were placed, and inodes that are gone, not remembered yet
      _folders        each folder's inode and attributes, which are set at the end: what is placed
                      in a folder changes its time
      _failure        what ended a batch for all
    """

    def __init__(
        self,
        scanner: Scanner,
        placer: Placer,
        reader: FileReader,
        origins: Origins,
        underway: Underway,
        progress: Progress,
    ) -> None:
        self._scanner = scanner
        self._placer = placer
        self._reader = reader
        self._origins = origins
        self._underway = underway
        self._progress = progress
        self._free = trio.Semaphore(_BATCHES)
        self._batch: list[_Wanted] = []
        self._batch_bytes = 0
        self._claimed: set[int] = set()
        self._copies: dict[_Group, _Copy | None] = {}
        self._later: list[_Wanted] = []
        self._marks_new: dict[int, int] = {}
        self._marks_gone: list[int] = []
        self._remembering = trio.Lock()
        self._folders: list[tuple[int, bytes, os.stat_result, Mapping[bytes, bytes]]] = []
        self._failure: Exception | None = None

    async def run(self, top: int) -> None:
        """Let the folder *top* of a backup hold what the scanner finds, and nothing else.

        What cannot be read is noted, and what the backup has of it stays. Raises StoreFull, and
        OSError where the backup cannot be changed.
        """
        async with trio.open_nursery() as nursery:
            waiting = [(b"", top)]
            while waiting:
                below, ino = waiting.pop()
                listing = await self._list(below)
                if listing is not None:
                    waiting += await self._folder(nursery, below, ino, listing)
            await self._send_batch(nursery)
        if self._failure is not None:
            raise self._failure
        await self._link_later()
        for ino, path, status, xattrs in reversed(self._folders):
            self._look(ino, status, xattrs, path)

    async def _list(self, below: bytes) -> Listing | None:
        try:
            return await trio.to_thread.run_sync(self._scanner.list, below)
        except OSError as exc:
            self._fails(below, exc)
            return None

    async def _folder(
        self, nursery: trio.Nursery, below: bytes, ino: int, listing: Listing
    ) -> list[tuple[bytes, int]]:
        """Bring what stands in one folder up to date; return the folders in it."""
        progress = self._progress
        progress.folders += 1
        progress.left_out += listing.left_out
        progress.current = below
        self._folders.append((ino, below, listing.status, listing.xattrs))
        for path in listing.skipped:
            progress.skipped.note(path, "is a mount of Libernet's, or where it keeps its blocks")
        known = await self._placer.known(ino)
        for name, error in listing.errors.items():
            self._fails(os.path.join(below, name), error)
            known.pop(name, None)
        marks = await self._marks(listing, known)
        folders = []
        for found in listing.entries:
            path = os.path.join(below, found.name)
            old = known.pop(found.name, None)
            if old is not None and stat.S_IFMT(old.mode) != stat.S_IFMT(found.status.st_mode):
                await self._remove(ino, found.name, old)
                old = None
            if found.is_folder:
                folders.append((path, self._made(ino, found, old)))
            elif found.is_file:
                await self._file(nursery, _Wanted(ino, path, found, old), marks)
            else:
                await self._other(_Wanted(ino, path, found, old))
        for name, gone in known.items():
            await self._remove(ino, name, gone)
        return folders[::-1]

    async def _marks(self, listing: Listing, known: Mapping[bytes, Inode]) -> dict[int, int]:
        """Return what was remembered of the folder's files."""
        inos = [
            known[found.name].ino
            for found in listing.entries
            if found.is_file and found.name in known
        ]
        if not inos:
            return {}
        return await trio.to_thread.run_sync(self._origins.marks, inos)

    def _made(self, folder: int, found: Found, old: Inode | None) -> int:
        return old.ino if old is not None else self._make(folder, found).ino

    def _make(self, folder: int, found: Found) -> Inode:
        status = found.status
        new = NewInode(status.st_mode, status.st_uid, status.st_gid, status.st_rdev, found.target)
        return self._placer.make(folder, found.name, new)

    async def _other(self, wanted: _Wanted) -> None:
        """Bring a link or special file up to date."""
        if self._is_twin(wanted):
            return
        self._progress.others += 1
        found, old = wanted.found, await self._own(wanted)
        if old is not None and (old.target, old.rdev) != (found.target, found.status.st_rdev):
            await self._remove(wanted.folder, found.name, old)
            old = None
        ino = self._made(wanted.folder, found, old)
        inode = self._look(ino, found.status, found.xattrs, wanted.path)
        self._note_copy(inode, found.status, found.status)

    async def _file(self, nursery: trio.Nursery, wanted: _Wanted, marks: Mapping[int, int]) -> None:
        """Bring a file up to date, now or with a batch."""
        if self._is_twin(wanted):
            return
        status, old = wanted.found.status, await self._own(wanted)
        self._progress.total_bytes += status.st_size
        if old is not None and marks.get(old.ino) == mark_of(status, old.ctime_ns):
            self._progress.files_unmodified += 1
            self._note_copy(old, status, status)
            return
        self._batch.append(_Wanted(wanted.folder, wanted.path, wanted.found, old))
        self._batch_bytes += status.st_size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            await self._send_batch(nursery)

    def _is_twin(self, wanted: _Wanted) -> bool:
        """Note one more name of something that was met under another, for the end."""
        group = _group(wanted.found.status)
        if group is None:
            return False
        is_met = group in self._copies
        if is_met:
            self._later.append(wanted)
        else:
            self._copies[group] = None
        return is_met

    async def _own(self, wanted: _Wanted) -> Inode | None:
        """Return what stands in the backup under the name, if it is nothing else's copy."""
        old = wanted.old
        if old is None:
            return None
        if old.ino in self._claimed or (old.nlink > 1 and wanted.found.status.st_nlink == 1):
            await self._remove(wanted.folder, wanted.found.name, old)
            return None
        if old.nlink > 1:
            self._claimed.add(old.ino)
        return old

    def _note_copy(self, inode: Inode, met: os.stat_result, status: os.stat_result | None) -> None:
        group = _group(met)
        if group is not None:
            self._copies[group] = _Copy(inode.ino, inode.ctime_ns, status)

    async def _send_batch(self, nursery: trio.Nursery) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            await self._free.acquire()
            nursery.start_soon(self._read, nursery, batch)

    async def _read(self, nursery: trio.Nursery, batch: list[_Wanted]) -> None:
        try:
            with self._underway.work():
                read = await trio.to_thread.run_sync(self._read_all, batch)
                for wanted, content in zip(batch, read, strict=True):
                    self._placed(wanted, content)
            await self._remember()
        except Exception as exc:  # noqa: BLE001 - run() raises it, but not in a group
            self._failure = self._failure or exc
            nursery.cancel_scope.cancel()
        finally:
            self._free.release()

    def _read_all(self, batch: list[_Wanted]) -> list[FileContent | OSError]:
        read: list[FileContent | OSError] = []
        for wanted in batch:
            path = self._scanner.full(wanted.path)
            try:
                read.append(self._reader.read(path, wanted.found.status))
            except OSError as exc:
                read.append(exc)
        self._reader.flush_early()
        return read

    def _placed(self, wanted: _Wanted, content: FileContent | OSError) -> None:
        """Let a file's content and attributes take their place."""
        progress, old = self._progress, wanted.old
        if isinstance(content, OSError):
            self._fails(wanted.path, content)
            return
        if not content.is_steady:
            self._note_error(wanted.path, "changed each time it was read")
        progress.bytes_read += content.status.st_size
        progress.current = wanted.path
        if old is None:
            progress.files_new += 1
            old = self._make(wanted.folder, wanted.found)
        else:
            progress.files_changed += 1
        if old.size or content.status.st_size:
            self._placer.fill(old.ino, content.status.st_size, content.extents)
        inode = self._look(old.ino, content.status, content.xattrs, wanted.path)
        status = content.status if content.is_steady else None
        self._note_copy(inode, wanted.found.status, status)
        if status is not None:
            self._marks_new[inode.ino] = mark_of(status, inode.ctime_ns)

    async def _remember(self) -> None:
        """Keep what was found out about files placed so far, and forget those removed."""
        marks, gone = self._marks_new, self._marks_gone
        self._marks_new, self._marks_gone = {}, []
        if marks or gone:
            async with self._remembering:
                await trio.to_thread.run_sync(self._origins.put, marks, gone)

    async def _link_later(self) -> None:
        """Give files that are known by now their further names."""
        for wanted in self._later:
            status, old = wanted.found.status, wanted.old
            copy = self._copies[status.st_dev, status.st_ino]
            if copy is None:
                self._note_error(wanted.path, "is another name of a file that was not read")
                continue
            if wanted.found.is_file:
                self._progress.files_unmodified += 1
            else:
                self._progress.others += 1
            if old is not None and old.ino == copy.ino:
                continue
            if old is not None:
                await self._remove(wanted.folder, wanted.found.name, old)
            is_untouched = self._placer.inode(copy.ino).ctime_ns == copy.ctime_ns
            self._placer.link(copy.ino, wanted.folder, wanted.found.name)
            ctime_ns = self._placer.inode(copy.ino).ctime_ns
            if is_untouched and copy.status is not None:
                copy.ctime_ns = ctime_ns
                self._marks_new[copy.ino] = mark_of(copy.status, ctime_ns)
        await self._remember()

    async def _remove(self, folder: int, name: bytes, inode: Inode) -> None:
        gone = await self._placer.remove(folder, name, inode)
        self._progress.removed += len(gone)
        self._marks_gone += gone

    def _look(
        self, ino: int, status: os.stat_result, xattrs: Mapping[bytes, bytes], path: bytes
    ) -> Inode:
        """Give an inode the attributes of what it was read from."""
        inode = self._placer.inode(ino)
        seen = (inode.mode, inode.uid, inode.gid, inode.mtime_ns)
        wanted = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        if seen == wanted and self._placer.xattrs(ino) == xattrs:
            return inode
        changes = Changes(
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            atime_ns=status.st_atime_ns,
            mtime_ns=status.st_mtime_ns,
        )
        inode, refused = self._placer.change(ino, changes, xattrs)
        if refused:
            names = ", ".join(map(os.fsdecode, refused))
            self._note_error(path, f"has extended attributes that cannot be kept: {names}")
        return inode

    def _fails(self, path: bytes, error: OSError) -> None:
        self._note_error(path, error.strerror or str(error))

    def _note_error(self, path: bytes, why: str) -> None:
        self._progress.errors.note(self._scanner.full(path), why)


def _group(status: os.stat_result) -> _Group | None:
    """Return what all names of one inode have in common; None if it has but one."""
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
