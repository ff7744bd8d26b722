"""One node without its mount: the namespace over a state folder, and the tasks behind it."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from libernet.blocks.chunking import Chunker
from libernet.blocks.ids import BlockId
from libernet.blocks.sealing import Sealer
from libernet.blocks.source import BlockSource
from libernet.fs.addressed_blocks import AddressedBlocks
from libernet.fs.backups import Backups
from libernet.fs.bundle_view import Bundles
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.chunks import ChunkCache
from libernet.fs.collection import Collector
from libernet.fs.counters import Counters
from libernet.fs.fetching import Fetching
from libernet.fs.files import Files
from libernet.fs.flat_publisher import FlatPublisher
from libernet.fs.history import History
from libernet.fs.inode import ROOT_INO
from libernet.fs.leases import Leases
from libernet.fs.mount_paths import MountPaths
from libernet.fs.namespace import MOUNT_INO, Namespace
from libernet.fs.node_numbers import NodeNumbers
from libernet.fs.nodes import Appearance, FolderNode, Node, folder_appearance
from libernet.fs.notices import Notices
from libernet.fs.outside import Outside
from libernet.fs.overlay import Overlay
from libernet.fs.pieces import PieceReader
from libernet.fs.publications import Publications
from libernet.fs.publisher import Publisher
from libernet.fs.reports import Reports
from libernet.fs.sealing import ChunkMaker, SealingWorkers
from libernet.fs.settings import Settings
from libernet.fs.shelf import Shelf, ShelfFolder
from libernet.fs.snapshots import Snapshots
from libernet.fs.sources.backup import SourceBackups
from libernet.fs.space import Space
from libernet.fs.storage import Storage
from libernet.fs.stream_publisher import StreamPublisher
from libernet.fs.stream_view import Streams, StreamsFolder
from libernet.fs.tree import Changes, Tree
from libernet.fs.views import AddressFolder, FixedFolder, SnapshotsFolder
from libernet.fs.xattrs import Xattrs


class LocalNode:
    """The parts of a node, put together around what it has open on its disk.

    Tasks: running() holds them all. A view asks the namespace, commands ask the other parts.
    """

    def __init__(
        self,
        storage: Storage,
        source: BlockSource,
        settings: Settings,
        *,
        outside: Outside | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        owner = (
            os.getuid() if settings.uid is None else settings.uid,
            os.getgid() if settings.gid is None else settings.gid,
        )
        self.outside = outside or Outside()
        self.leases = Leases()
        self.notices = Notices()
        self._store = storage.store
        self._chunks = ChunkCache(source, storage.store.__contains__, read_here=storage.store.get)
        overlay = Overlay(storage.reader)
        self.tree = Tree(overlay, owner=owner, clock=clock)
        _show_owner(self.tree, settings.uid, settings.gid)
        self._maker = ChunkMaker(
            Sealer(storage.secret),
            Chunker(storage.secret),
            storage.store,
            PieceReader(storage.log, storage.store),
        )
        self._make_writing(storage, overlay, settings, clock)
        self._make_publishing(storage, settings, clock)
        self._make_commands(storage, source)
        self._make_views(storage, source, overlay, folder_appearance(*owner, clock()))

    def _make_writing(
        self, storage: Storage, overlay: Overlay, settings: Settings, clock: Callable[[], int]
    ) -> None:
        """Make what takes in changes of `backups/`, and makes them durable."""
        space = Space(storage.folder)
        self._workers = SealingWorkers(self._maker, storage.log)
        self.files = Files(
            tree=self.tree,
            overlay=overlay,
            storage=storage,
            chunker=Chunker(storage.secret),
            workers=self._workers,
            chunks=self._chunks,
            space=space,
        )
        self.checkpointer = Checkpointer(
            overlay=overlay,
            files=self.files,
            workers=self._workers,
            storage=storage,
            space=space,
            max_age_seconds=settings.checkpoint_seconds,
        )
        self.files.checkpoint = self.checkpointer.durable
        self._backups = Backups(
            tree=self.tree,
            xattrs=Xattrs(overlay, clock),
            files=self.files,
            checkpointer=self.checkpointer,
            space=space,
        )

    def _make_publishing(
        self, storage: Storage, settings: Settings, clock: Callable[[], int]
    ) -> None:
        """Make what turns backups into snapshots, and writes about those."""
        self.snapshots = Snapshots(storage.reader, self.tree)
        self.history = History(storage, self.snapshots, self.checkpointer.writing)
        self.publisher = Publisher(
            storage=storage,
            checkpointer=self.checkpointer,
            files=self.files,
            tree=self.tree,
            maker=self._maker,
            snapshots=self.snapshots,
            quiet_seconds=settings.publish_after_seconds,
            announce=self.outside.announce,
        )
        self.publications = Publications(storage, self.checkpointer.writing, clock)
        self.stream_publisher = StreamPublisher(storage.store, self.publications)
        self.flat_publisher = FlatPublisher(storage.store, self.publications, self.outside.announce)
        self.counters = Counters(
            store=storage.store,
            files=self.files,
            checkpointer=self.checkpointer,
            publisher=self.publisher,
            chunks=self._chunks,
            outside=self.outside,
        )

    def _make_commands(self, storage: Storage, source: BlockSource) -> None:
        """Make what commands set going: folders read in, bundles brought here, blocks given up."""
        self.sources = SourceBackups(
            storage=storage,
            backups=self._backups,
            notices=self.notices,
            checkpointer=self.checkpointer,
            publisher=self.publisher,
            maker=self._maker,
        )
        self.fetching = Fetching(storage.store, source)
        self.collector = Collector(
            storage=storage,
            checkpointer=self.checkpointer,
            settled=[
                self.sources.underway.settled,
                self.stream_publisher.settled,
                self.flat_publisher.settled,
            ],
            paused=self.publisher.paused,
            publications=self.publications,
            leases=self.leases,
        )

    def _make_views(
        self, storage: Storage, source: BlockSource, overlay: Overlay, look: Appearance
    ) -> None:
        """Make what shows all of it; what nothing else describes has a *look*."""
        here = storage.store.__contains__
        self.bundles = Bundles(self._chunks, here, owner=(look.uid, look.gid))
        self.shelf = Shelf(storage, self.checkpointer.writing)
        root = self._root(look, self.bundles, Streams(source, self._chunks, here))
        self.paths = MountPaths(
            root, self.bundles, self.tree, self.publisher, self.snapshots, self.leases
        )
        self.blocks = AddressedBlocks(source, self._chunks, storage.store.like.best)
        reports = Reports(
            overlay=overlay,
            files=self.files,
            checkpointer=self.checkpointer,
            snapshots=self.snapshots,
            reader=storage.reader,
            bundles=self.bundles,
            look=look,
        )
        self.namespace = Namespace(self._backups, NodeNumbers(root, MOUNT_INO), reports)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the tasks while the body runs, then make everything durable and publish it."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._workers.run)
            nursery.start_soon(self.checkpointer.run)
            try:
                async with trio.open_nursery() as serving:
                    serving.start_soon(self._chunks.run)
                    serving.start_soon(self.publisher.run)
                    self.files.adopt_unsealed()
                    for block_id in self._roots():
                        self.outside.announce(block_id)
                    yield
                    serving.cancel_scope.cancel()
            except Exception as exc:  # noqa: BLE001 - what was accepted is kept, then it is raised
                failure = exc
            await self.checkpointer.durable_at_last()
            if failure is None:
                await self.publisher.publish_all()
                await self.checkpointer.durable_at_last()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def published(self) -> list[BlockId]:
        """Return the ids that others may look for: of snapshots, shares and publications."""
        return [*self.publisher.roots(), *self.publications.roots()]

    def _roots(self) -> list[BlockId]:
        """Return the ids that others are told of: published ones and those of opened bundles."""
        opened = [reference.id for reference in self.shelf.references().values()]
        here = [block_id for block_id in opened if block_id in self._store]
        return [*self.published(), *here]

    def _root(self, look: Appearance, bundles: Bundles, streams: Streams) -> FolderNode:
        """Return the folder that is mounted; `backups/` is added by the namespace."""
        entries: dict[bytes, Node] = {
            b"bundles": ShelfFolder(look, self.shelf, bundles, streams),
            b"snapshots": SnapshotsFolder(look, self.snapshots, bundles),
            b"sha256": AddressFolder(look, bundles),
            b"sha384": StreamsFolder(look, streams),
        }
        return FixedFolder(look, entries)


def _show_owner(tree: Tree, uid: int | None, gid: int | None) -> None:
    """Let `backups/` have the owner asked for; by itself it keeps the one it was given last."""
    inode = tree.inode(ROOT_INO)
    if uid not in {None, inode.uid} or gid not in {None, inode.gid}:
        tree.set_attributes(ROOT_INO, Changes(uid=uid, gid=gid))
