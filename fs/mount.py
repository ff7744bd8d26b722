"""The composition root: one node, from its state folder to its mount."""

import logging
import os
import signal
import time
from collections.abc import Callable

import trio

from libernet import __version__
from libernet.blocks.chunking import Chunker
from libernet.blocks.sealing import Sealer
from libernet.fs.backups import Backups
from libernet.fs.bundle_view import Bundles
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.chunks import ChunkCache
from libernet.fs.control import ControlServer
from libernet.fs.files import Files
from libernet.fs.fuse.session import FuseSession, stop_on_signals
from libernet.fs.lock import Phase, StateLock
from libernet.fs.namespace import MOUNT_INO, Namespace
from libernet.fs.node_commands import NodeCommands
from libernet.fs.nodes import Node, folder_appearance
from libernet.fs.overlay import Overlay
from libernet.fs.pieces import PieceReader
from libernet.fs.places import Places
from libernet.fs.process import tune
from libernet.fs.publisher import Publisher
from libernet.fs.sealing import ChunkMaker, SealingWorkers
from libernet.fs.settings import Settings
from libernet.fs.snapshots import Snapshots
from libernet.fs.space import Space
from libernet.fs.storage import Storage, opened
from libernet.fs.tree import Tree
from libernet.fs.views import AddressFolder, FixedFolder, NodeNumbers, SnapshotsFolder
from libernet.net.address import PeerAddress
from libernet.net.local import LocalSource

_log = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalNode:
    """Everything that runs behind one mount, put together.

    Tasks: run() holds them all and ends when the mount has ended and everything is durable.
    """

    def __init__(self, settings: Settings, places: Places, storage: Storage) -> None:
        owner = (
            os.getuid() if settings.uid is None else settings.uid,
            os.getgid() if settings.gid is None else settings.gid,
        )
        chunker = Chunker(storage.secret)
        pieces = PieceReader(storage.log, storage.store)
        maker = ChunkMaker(Sealer(storage.secret), chunker, storage.store, pieces)
        overlay = Overlay(storage.reader)
        tree = Tree(overlay, owner=owner)
        space = Space(places.data)
        self._workers = SealingWorkers(maker, storage.log)
        self._chunks = ChunkCache(LocalSource(storage.store))
        self._files = Files(
            tree=tree,
            overlay=overlay,
            storage=storage,
            chunker=chunker,
            workers=self._workers,
            chunks=self._chunks,
            space=space,
        )
        self._checkpointer = Checkpointer(
            overlay=overlay,
            files=self._files,
            workers=self._workers,
            storage=storage,
            space=space,
            max_age_seconds=settings.checkpoint_seconds,
        )
        self._files.checkpoint = self._checkpointer.durable
        snapshots = Snapshots(storage.reader, tree)
        self._publisher = Publisher(
            storage=storage,
            checkpointer=self._checkpointer,
            files=self._files,
            workers=self._workers,
            tree=tree,
            maker=maker,
            snapshots=snapshots,
            quiet_seconds=settings.publish_after_seconds,
        )
        backups = Backups(
            tree=tree, files=self._files, checkpointer=self._checkpointer, space=space
        )
        nodes = NodeNumbers(_root(owner, snapshots, Bundles(self._chunks)), MOUNT_INO)
        self._session = FuseSession(Namespace(backups, nodes), settings)
        commands = NodeCommands(
            settings=settings,
            files=self._files,
            checkpointer=self._checkpointer,
            publisher=self._publisher,
            snapshots=snapshots,
            tree=tree,
            store=storage.store,
        )
        self._control = ControlServer(places.runtime, commands.handlers())

    async def run(self, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        """Mount, call *ready*, serve until the unmount, call *ending*, make everything durable."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._workers.run)
            nursery.start_soon(self._checkpointer.run)
            async with trio.open_nursery() as serving:
                serving.start_soon(self._chunks.run)
                await serving.start(self._control.run)
                self._files.adopt_unsealed()
                self._session.mount()
                try:
                    serving.start_soon(stop_on_signals, self._session, _STOP_SIGNALS)
                    serving.start_soon(self._publisher.run)
                    ready()
                    await self._session.serve()
                finally:
                    ending()
                    self._session.close()
                serving.cancel_scope.cancel()
            await self._finish()
            nursery.cancel_scope.cancel()

    async def _finish(self) -> None:
        """Make everything durable and publish it: the mount is gone, nobody waits but umount."""
        await self._checkpointer.durable()
        await self._publisher.publish_all()
        await self._checkpointer.durable()


def serve(settings: Settings, places: Places, lock: StateLock, ready: Callable[[], None]) -> int:
    """Run the node until it is unmounted; return the exit code of the process.

    Raises LibernetError or OSError when it cannot start, or what it has cannot be made durable.
    """
    for peer in settings.peers:
        PeerAddress.parse(peer)
    tune()
    with opened(places.data) as storage:
        node = LocalNode(settings, places, storage)
        trio.run(node.run, ready, lambda: lock.mark(Phase.ENDING))
    _log.info("Libernet %s ended, everything is durable", __version__)
    return 0


def _root(owner: tuple[int, int], snapshots: Snapshots, bundles: Bundles) -> FixedFolder:
    """Return the folder that is mounted; `backups/` is added by the namespace."""
    look = folder_appearance(*owner, time.time_ns())
    entries: dict[bytes, Node] = {
        b"snapshots": SnapshotsFolder(look, snapshots, bundles),
        b"sha256": AddressFolder(look, bundles, ("sha256",)),
    }
    return FixedFolder(look, entries)
