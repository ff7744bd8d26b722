"""Restoring a folder of the read-only part: what there is, in batches, by several threads."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import partial

import trio
from typing_extensions import Buffer

from libernet.blocks.entries import Part
from libernet.blocks.errors import BlockError, LibernetError
from libernet.blocks.sealing import opens_to, unseal
from libernet.blocks.store import Store
from libernet.fs.bundle_files import BundleFile
from libernet.fs.nodes import FileNode, FolderNode, Incomplete, LinkNode, Node
from libernet.fs.own_places import OwnPlaces
from libernet.fs.restore.writing import Piece, Wanted, Writer
from libernet.fs.troubles import Troubles

_PAGE_ENTRIES = 1000
_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
_BATCHES = 3  # two cores, and one more for the time that a thread waits for the disk
_AHEAD_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024

_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(slots=True)
class Restored:
    """What a restore did so far, or would do, and what of it was skipped or failed."""

    files_restored: int = 0
    files_unchanged: int = 0
    files_verified: int = 0
    folders: int = 0
    others: int = 0
    total_bytes: int = 0
    bytes_restored: int = 0
    current: bytes = b""
    skipped: Troubles = field(default_factory=Troubles)
    errors: Troubles = field(default_factory=Troubles)

    def add(self, more: "Restored") -> None:
        """Count what was done by somebody else too."""
        for each in fields(self):
            if each.type is Troubles:
                getattr(self, each.name).add(getattr(more, each.name))
            elif each.name != "current":
                total = getattr(self, each.name) + getattr(more, each.name)
                setattr(self, each.name, total)

    @property
    def things(self) -> int:
        """How many files were looked at."""
        return self.files_restored + self.files_unchanged


@dataclass(frozen=True, slots=True)
class Options:
    """How to restore: only look, or read again what was written and compare."""

    dry_run: bool = False
    verify: bool = False


class Restorer:
    """Write one tree; used once.

    Whoever has the blocks of small files and large ones in the store reads them in the thread that
    writes; what is not there is asked of its node, which brings it.
    State
      _batch       what is to be written and does not make up a batch yet
      _links       the first path of each group of hard links; _later, further ones
      _folders     those made, whose attributes are set at the end
      _failure     what ended a batch for all
    """

    def __init__(
        self, store: Store, writer: Writer, own: OwnPlaces, options: Options, restored: Restored
    ) -> None:
        self._store = store
        self._writer = writer
        self._own = own
        self._options = options
        self._restored = restored
        self._free = trio.Semaphore(_BATCHES)
        self._batch: list[Wanted] = []
        self._batch_bytes = 0
        self._links: dict[int, bytes] = {}
        self._later: list[tuple[bytes, bytes]] = []
        self._folders: list[Wanted] = []
        self._failure: Exception | None = None

    async def run(self, name: bytes, source: Node, target: bytes) -> None:
        """Write what is in a folder into the folder *target*, or something else to it as *name*.

        What cannot be read or written is noted. Raises OSError where nothing more can be.
        """
        async with trio.open_nursery() as nursery:
            if isinstance(source, FolderNode):
                await self._tree(nursery, source, target)
            elif await self._make_folders([target]):
                await self._entry(nursery, os.path.join(target, name), source)
            await self._send_batch(nursery)
        if self._failure is not None:
            raise self._failure
        if not self._options.dry_run:
            self._restored.add(await trio.to_thread.run_sync(self._end))

    async def _tree(self, nursery: trio.Nursery, source: FolderNode, target: bytes) -> None:
        waiting = [(target, source)] if await self._make_folders([target]) else []
        while waiting:
            path, folder = waiting.pop()
            self._restored.folders += 1
            below: list[tuple[bytes, FolderNode]] = []
            try:
                await self._listed(nursery, path, folder, below)
                xattrs = await _xattrs(folder)
            except LibernetError as exc:
                _note(self._restored, path, exc)
                xattrs = {}
            self._folders.append(Wanted(path, folder.appearance, xattrs))
            made = await self._make_folders([each for each, _ in below])
            waiting += [each for each in reversed(below) if each[0] in made]

    async def _listed(
        self,
        nursery: trio.Nursery,
        path: bytes,
        folder: FolderNode,
        below: list[tuple[bytes, FolderNode]],
    ) -> None:
        """Restore what stands in a folder, and add the folders in it to *below*.

        Raises at the end why there is more.
        """
        after, lacking = b"", None
        while page := await folder.children(after, _PAGE_ENTRIES):
            for name, node in page:
                full = os.path.join(path, name)
                if self._own.names(full):
                    self._restored.skipped.note(full, "is Libernet's own, and stays as it is")
                elif isinstance(node, FolderNode):
                    below.append((full, node))
                else:
                    await self._entry(nursery, full, node)
            if isinstance(page, Incomplete):
                lacking = page.error
            after = page[-1][0]
        if lacking is not None:
            raise lacking

    async def _entry(self, nursery: trio.Nursery, path: bytes, node: Node) -> None:
        look = node.appearance
        if look.link_group:
            first = self._links.setdefault(look.link_group, path)
            if first != path:
                self._later.append((path, first))
                return
        try:
            xattrs = await _xattrs(node)
            if isinstance(node, FileNode):
                if not self._options.dry_run:
                    node = await node.measured()
                    look = node.appearance
                wanted = Wanted(path, look, xattrs, await self._pieces(node))
            else:
                target = node.target() if isinstance(node, LinkNode) else b""
                wanted = Wanted(path, look, xattrs, target=target)
        except LibernetError as exc:
            _note(self._restored, path, exc)
            return
        self._batch.append(wanted)
        self._batch_bytes += look.size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            await self._send_batch(nursery)

    async def _pieces(self, node: FileNode) -> list[Piece]:
        """Return what returns the parts of a file, to be called in threads."""
        if self._options.dry_run:
            return []
        if not isinstance(node, BundleFile):
            return [
                Piece(size, partial(self._fetched, node, offset, size))
                for offset, size in _even(node.appearance.size)
            ]
        pieces: list[Piece] = []
        offset = 0
        for part in await node.parts():
            if part.reference is None:
                pieces.append(Piece(part.size, None))
            else:
                read = partial(self._part, node, offset, part)
                pieces.append(Piece(part.size, read, partial(opens_to, part.reference)))
            offset += part.size
        return pieces

    def _part(self, node: BundleFile, offset: int, part: Part) -> Buffer:
        """Return a part, from the store if it is there as it should be."""
        trio.from_thread.check_cancelled()
        assert part.reference is not None
        try:
            return unseal(part.reference, self._store.get(part.reference.id))
        except BlockError:
            return self._fetched(node, offset, part.size)

    def _fetched(self, node: FileNode, offset: int, size: int) -> Buffer:
        async def read() -> bytes | memoryview:
            node.read_ahead(offset + size, _AHEAD_BYTES)
            return await node.read(offset, size)

        return trio.from_thread.run(read)

    async def _make_folders(self, paths: list[bytes]) -> set[bytes]:
        """Make folders and return which are there; of the others, it is noted why they are not."""
        wanted = set(paths)
        if not wanted or self._options.dry_run:
            return wanted
        failed = await trio.to_thread.run_sync(self._make_all, paths)
        for path, error in failed.items():
            _note(self._restored, path, error)
        return wanted - failed.keys()

    def _make_all(self, paths: list[bytes]) -> dict[bytes, OSError]:
        failed = {}
        for path in paths:
            try:
                self._writer.folder(path)
            except OSError as exc:
                failed[path] = exc
        return failed

    async def _send_batch(self, nursery: trio.Nursery) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            await self._free.acquire()
            nursery.start_soon(self._write, nursery, batch)

    async def _write(self, nursery: trio.Nursery, batch: list[Wanted]) -> None:
        try:
            self._restored.current = batch[0].path
            self._restored.add(await trio.to_thread.run_sync(self._write_all, batch))
        except Exception as exc:  # noqa: BLE001 - run() raises it, but not in a group
            self._failure = self._failure or exc
            nursery.cancel_scope.cancel()
        finally:
            self._free.release()

    def _write_all(self, batch: list[Wanted]) -> Restored:
        done = Restored()
        for wanted in batch:
            try:
                if stat.S_ISREG(wanted.look.mode):
                    self._file(wanted, done)
                else:
                    self._other(wanted, done)
            except (LibernetError, OSError) as exc:
                _note(done, wanted.path, exc)
        return done

    def _file(self, wanted: Wanted, restored: Restored) -> None:
        options = self._options
        is_there = self._writer.is_there(wanted)
        if is_there and options.verify and self._writer.differs(wanted):
            is_there = False
        if not options.dry_run:
            (self._writer.attributes if is_there else self._writer.file)(wanted)
        if options.verify and not options.dry_run:
            if not is_there and self._writer.differs(wanted):
                raise OSError(errno.EIO, "what was written is not what is read")
            restored.files_verified += 1
        restored.total_bytes += wanted.look.size
        if is_there:
            restored.files_unchanged += 1
        else:
            restored.files_restored += 1
            restored.bytes_restored += wanted.look.size

    def _other(self, wanted: Wanted, restored: Restored) -> None:
        if not self._options.dry_run and not self._writer.other(wanted):
            raise LibernetError("is a device that somebody else made")
        restored.others += 1

    def _end(self) -> Restored:
        """Make hard links, then give folders their attributes, which links changed."""
        done = Restored()
        for path, first in self._later:
            try:
                self._writer.link(path, first)
                done.others += 1
            except OSError as exc:
                _note(done, path, exc)
        for folder in reversed(self._folders):
            try:
                self._writer.finish(folder)
            except OSError as exc:
                _note(done, folder.path, exc)
        return done


def _note(done: Restored, path: bytes, error: Exception) -> None:
    """Note an error of one path; raise one that every other would have too."""
    if isinstance(error, OSError) and error.errno in _FATAL:
        raise error
    said = error.strerror if isinstance(error, OSError) else None
    done.errors.note(path, said or str(error))


async def _xattrs(node: Node) -> dict[bytes, bytes]:
    names = node.xattrs.names()
    found = {name: await node.xattrs.value(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _even(size: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, size, _READ_BYTES):
        yield offset, min(_READ_BYTES, size - offset)
