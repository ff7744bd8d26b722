"""libernet backup, as the running node does it: sources are read into one backup and published."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.names import check_name
from libernet.fs.backups import Backups
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.inode import ROOT_INO
from libernet.fs.journal_reader import Snapshot
from libernet.fs.notices import Notices
from libernet.fs.own_places import OwnPlaces
from libernet.fs.publisher import Publisher
from libernet.fs.sealing import ChunkMaker
from libernet.fs.sources.mirror import Mirror, Progress
from libernet.fs.sources.origins import DryOrigins, Origins
from libernet.fs.sources.placing import DryPlacer, Placer
from libernet.fs.sources.reading import DryReader, FileReader
from libernet.fs.sources.rules import Rules, Selection
from libernet.fs.sources.scanning import Scanner
from libernet.fs.storage import Storage
from libernet.fs.tree import NewInode
from libernet.fs.underway import Underway
from libernet.fs.watched import Totals

_NEW_FOLDER = stat.S_IFDIR | 0o755


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be backed up: *sources*, absolute paths of folders, as the backup *name*.

    A single one becomes the backup; where *each_inside*, every one becomes a folder in it that is
    called as the source is, and what else is in the backup stays.
    """

    sources: Sequence[bytes]
    name: bytes
    each_inside: bool = False
    rules: Rules = field(default_factory=Rules)
    dry_run: bool = False


class SourceBackups:
    """Read folders of this machine into backups.

    State
      underway   batches of files whose chunks may be in the store and not in the tree yet
      _running   names of the backups that are being made
    """

    def __init__(
        self,
        *,
        storage: Storage,
        backups: Backups,
        notices: Notices,
        checkpointer: Checkpointer,
        publisher: Publisher,
        maker: ChunkMaker,
    ) -> None:
        self.underway = Underway()
        self._folder = storage.folder
        self._backups = backups
        self._notices = notices
        self._checkpointer = checkpointer
        self._publisher = publisher
        self._maker = maker
        self._running: set[bytes] = set()

    async def run(self, request: Request, progress: Progress) -> Snapshot | None:
        """Bring a backup up to date and publish it; return the snapshot, None of a dry run.

        *progress* is kept up to date, and tells at the end what could not be read. Raises
        LibernetError for sources that cannot be backed up at all, StoreFull and OSError. What was
        done until then stays, and is not done again the next time.
        """
        check_name(request.name)
        scanners = await trio.to_thread.run_sync(self._scanners, request)
        dry = request.dry_run
        placer = (DryPlacer if dry else Placer)(self._backups, self._notices)
        reader = (DryReader if dry else FileReader)(self._maker)
        with self._alone(request.name):
            top = await self._folder_in(placer, ROOT_INO, request.name)
            with self._publisher.holding(top), self._origins(dry=dry) as origins:
                for scanner in scanners:
                    ino = top
                    if request.each_inside:
                        ino = await self._folder_in(placer, top, os.path.basename(scanner.top))
                    mirror = Mirror(scanner, placer, reader, origins, self.underway, progress)
                    await mirror.run(ino)
            unmatched = set.intersection(*(each.selection.unmatched for each in scanners))
            progress.unmatched = [request.rules.patterns[each] for each in sorted(unmatched)]
            if dry:
                return None
            await self._checkpointer.durable()
            await placer.told()
            return await self._publisher.publish(top)

    async def count(self, request: Request, totals: Totals) -> None:
        """Count what there is to do; a folder that cannot be looked into counts nothing."""
        scanners = await trio.to_thread.run_sync(self._scanners, request)
        await trio.to_thread.run_sync(_count, scanners, totals)

    def _scanners(self, request: Request) -> list[Scanner]:
        """Return what lists each source; LibernetError for one that cannot be backed up."""
        own = OwnPlaces.around(self._folder)
        names = [os.path.basename(source) for source in request.sources]
        if request.each_inside and len(set(names)) < len(names):
            raise LibernetError("two sources have the same name: back them up one by one")
        return [_scanner(each, Selection(request.rules, each), own) for each in request.sources]

    async def _folder_in(self, placer: Placer, parent: int, name: bytes) -> int:
        """Return the folder *name* in another, made if there is none."""
        found = (await placer.known(parent)).get(name)
        if found is not None and not found.is_folder:
            await placer.remove(parent, name, found)
            found = None
        if found is None:
            found = placer.make(parent, name, NewInode(_NEW_FOLDER, os.getuid(), os.getgid()))
        return found.ino

    @contextmanager
    def _alone(self, name: bytes) -> Iterator[None]:
        if name in self._running:
            raise LibernetError(f"the backup {os.fsdecode(name)!r} is being made already")
        self._running.add(name)
        try:
            yield
        finally:
            self._running.remove(name)

    @contextmanager
    def _origins(self, *, dry: bool) -> Iterator[Origins]:
        with Origins(self._folder / "origins.sqlite") as origins:
            yield DryOrigins(origins) if dry else origins


def _count(scanners: list[Scanner], totals: Totals) -> None:
    for scanner in scanners:
        for files, size in scanner.totals():
            trio.from_thread.check_cancelled()
            totals.files += files
            totals.bytes += size
    totals.is_known = True


def _scanner(source: bytes, selection: Selection, own: OwnPlaces) -> Scanner:
    shown = os.fsdecode(source)
    own.refuse(source)
    try:
        scanner = Scanner(source, selection, own)
        status = os.stat(source)
    except OSError as exc:
        raise LibernetError(f"{shown!r} cannot be read: {exc.strerror}") from exc
    if own.has(source, status):
        raise LibernetError(f"{shown!r} is Libernet's own")
    if not stat.S_ISDIR(status.st_mode):
        raise LibernetError(f"{shown!r} is no folder")
    return scanner
