"""The composition root: a node with its mount and its commands, over its state folder."""

import logging
import signal
from collections.abc import Callable
from typing import Any

import trio

from libernet import __version__
from libernet.blocks.errors import LibernetError
from libernet.fs.control import ControlServer
from libernet.fs.fuse.session import FuseSession, stop_on_signals
from libernet.fs.lock import Phase, StateLock
from libernet.fs.node import LocalNode
from libernet.fs.node_commands import NodeCommands
from libernet.fs.outside import Outside
from libernet.fs.places import Places
from libernet.fs.process import tune
from libernet.fs.settings import Settings
from libernet.fs.storage import Storage, opened
from libernet.fs.web.server import WebServer
from libernet.fs.web.site import Site
from libernet.net.address import PeerAddress
from libernet.net.exchange.admission import AcceptanceRules
from libernet.net.local import LocalSource
from libernet.net.network import Network, NetworkSettings

_log = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class MountedNode:
    """Everything that runs behind one mount, put together.

    Tasks: run() holds them all and ends when the mount has ended and everything is durable.
    """

    def __init__(self, settings: Settings, places: Places, storage: Storage) -> None:
        self._network = Network(storage.store, _network_settings(settings), places.data)
        outside = Outside(
            announce=self._network.announcer.add,
            withdraw=self._network.announcer.remove,
            status=self._network.status,
            announce_identifier=self._network.announce_identifier,
            find_identifier=self._network.find_identifier,
        )
        node = LocalNode(storage, self._network.fetcher, settings, outside=outside)
        self._web = WebServer(Site(node.namespace, node.blocks, node.counters))
        self._web_port = settings.web_port if settings.web else 0
        commands = NodeCommands(settings, node, storage, web_address=lambda: self._web.address)
        self._node = node
        self._session = FuseSession(node.namespace, settings, node.notices)
        self._control = ControlServer(places.runtime, commands.handlers(), commands.telling())

    async def run(self, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        """Mount, call *ready*, serve until the unmount, call *ending*, make everything durable."""
        async with trio.open_nursery() as listening:
            # To the very end: a signal must not kill a process that is making things durable.
            await listening.start(stop_on_signals, self._session, _STOP_SIGNALS)
            async with self._node.running(), trio.open_nursery() as serving:
                await serving.start(self._control.run)
                await serving.start(self._network.run)
                if self._web_port:
                    await serving.start(self._web.run, self._web_port)
                self._session.mount()
                try:
                    ready()
                    await self._session.serve()
                finally:
                    try:
                        ending()
                    finally:
                        self._session.close()
                serving.cancel_scope.cancel()
            listening.cancel_scope.cancel()


def serve(settings: Settings, places: Places, lock: StateLock, ready: Callable[[], None]) -> int:
    """Run the node until it is unmounted; return the exit code of the process.

    Raises LibernetError or OSError when it cannot start, or what it has cannot be made durable.
    """
    tune()
    with opened(places.data, **settings.store_limits()) as storage:
        node = MountedNode(settings, places, storage)
        for number in _STOP_SIGNALS:
            # What counts from run()'s end to that of the process: let the storage be closed.
            signal.signal(number, signal.SIG_IGN)
        trio.run(node.run, ready, lambda: lock.mark(Phase.ENDING))
    _log.info("Libernet %s ended, everything is durable", __version__)
    return 0


def answer(
    settings: Settings,
    places: Places,
    command: str,
    arguments: dict[str, Any],
    hear: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Let a node without mount and network run a command; *hear* is given each note.

    The caller holds the lock. Raises what the command does, and what `serve` does.
    """

    async def tell(note: dict[str, Any]) -> None:
        hear(note)

    async def run() -> dict[str, Any]:
        node = LocalNode(storage, LocalSource(storage.store), settings)
        commands = NodeCommands(settings, node, storage)
        async with node.running():
            telling = commands.telling().get(command)
            try:
                if telling is not None:
                    return await telling(arguments, tell)
                return await commands.handlers()[command](arguments)
            except (LibernetError, OSError) as exc:
                failure = exc  # raised when the node has ended as it should
        raise failure

    with opened(places.data, **settings.store_limits()) as storage:
        try:
            return trio.run(run)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _network_settings(settings: Settings) -> NetworkSettings:
    """Return what the network is told; FormatError for what is no address or key."""
    return NetworkSettings(
        host=settings.bind,
        port=settings.port,
        peers=tuple(PeerAddress.parse(peer) for peer in settings.peers),
        private_network=settings.private_network,
        lan=settings.lan,
        upload_bytes_per_second=settings.upload_bytes_per_second,
        download_bytes_per_second=settings.download_bytes_per_second,
        max_connections=settings.max_connections,
        sweep_bytes_per_second=settings.announce_bytes_per_second,
        accept=AcceptanceRules.parse(settings.accept_from, settings.accept_unsigned_from),
    )
