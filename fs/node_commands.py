"""What the commands ask of a running mount."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from libernet import __version__
from libernet.blocks.addresses import Address, parse_opening, without_path
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.arguments import labels, text
from libernet.fs.backup_handlers import BackupHandlers
from libernet.fs.check_commands import CheckCommands
from libernet.fs.control import TellingHandler
from libernet.fs.dht_handlers import DhtHandlers
from libernet.fs.fetch_handlers import FetchHandlers
from libernet.fs.history_handlers import HistoryCommands
from libernet.fs.inode import ROOT_INO
from libernet.fs.mount_paths import parts_of, told
from libernet.fs.node import LocalNode
from libernet.fs.publish_handlers import PublishCommands
from libernet.fs.restore_handlers import RestoreHandlers
from libernet.fs.settings import Settings
from libernet.fs.storage import Storage
from libernet.fs.store_handlers import StoreCommands
from libernet.fs.tree import os_error
from libernet.fs.tree_handlers import TreeHandlers

Answer = dict[str, Any]

_SAID_ELSEWHERE = frozenset({"failures", "peers"})
"""What `status` leaves out of what it says of the network: peers may be hundreds."""


class NodeCommands:
    """Answer the requests that come through the control socket."""

    def __init__(
        self,
        settings: Settings,
        node: LocalNode,
        storage: Storage,
        *,
        web_address: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._node = node
        self._storage = storage
        self._store = storage.store
        self._web_address = web_address

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {
            "status": self._status,
            "sync": self._sync,
            "snapshot": self._snapshot,
            "share": self._share,
            "open": self._open,
            "close": self._close,
            "peers": self._peers,
            **DhtHandlers(self._node.outside).handlers(),
            **PublishCommands(
                self._node.paths, self._node.flat_publisher, self._node.stream_publisher
            ).handlers(),
            **StoreCommands(self._node.collector).handlers(),
            **HistoryCommands(self._node).handlers(),
            **CheckCommands(self._storage).handlers(),
        }

    def telling(self) -> dict[str, TellingHandler]:
        """Return the handlers of commands that send notes."""
        restoring = RestoreHandlers(self._node.paths, self._store, self._storage.folder)
        trees = TreeHandlers(
            self._node.paths, self._node.bundles, self._node.snapshots, self._node.leases
        )
        return {
            "diff": trees.diff,
            "find": trees.find,
            "backup": BackupHandlers(self._node.sources, self._node.history, self._store).backup,
            "fetch": FetchHandlers(self._node.fetching, self._node.shelf).fetch,
            "restore": restoring.restore,
        }

    async def _sync(self, arguments: Answer) -> Answer:
        await self._node.checkpointer.durable()
        return {}

    async def _snapshot(self, arguments: Answer) -> Answer:
        backup = self._backup(text(arguments, "name"))
        wanted = labels(arguments)
        snapshot = await self._node.publisher.publish(backup)
        snapshot = await self._node.history.add_labels(snapshot, wanted)
        return {"reference": str(snapshot.reference), "published": snapshot.name}

    async def _share(self, arguments: Answer) -> Answer:
        """Share what stands at a path below the mount point."""
        path = text(arguments, "path")
        with told(path, "shared"):
            reference = await self._reference(parts_of(path))
        return {"reference": str(reference)}

    async def _reference(self, parts: list[str]) -> Address:
        """Return what opens the thing at a path and nothing else; OSError if there is none."""
        match parts:
            case ["backups", backup, *below]:
                return await self._share_of_backup(backup, below)
            case ["snapshots", backup, version]:
                versions = self._node.snapshots.by_name().get(os.fsencode(backup), {})
                newest = next(reversed(versions), b"")
                name = newest if version == "latest" else os.fsencode(version)
                if name not in versions:
                    raise os_error(errno.ENOENT)
                return versions[name].reference
            case ["bundles", name]:
                opened = self._node.shelf.opened()
                if os.fsencode(name) not in opened:
                    raise os_error(errno.ENOENT)
                return opened[os.fsencode(name)]
        what = repr("/".join(parts)) if parts else "the whole mount"
        raise LibernetError(
            f"{what} cannot be shared: share a backup or what stands below it (backups/NAME/...),"
            " a snapshot (snapshots/NAME/TIME) or an opened bundle (bundles/NAME)"
        )

    async def _share_of_backup(self, backup_name: str, below: list[str]) -> Reference:
        """Share a backup, or the folder or file in it that *below* leads to."""
        tree = self._node.tree
        backup = folder = self._backup(backup_name)
        name = None
        for part in map(os.fsencode, below):
            if name is not None:
                raise os_error(errno.ENOTDIR)
            inode = tree.lookup(folder, part)
            if inode.is_folder:
                folder = inode.ino
            else:
                name = part
        path = os.fsencode("/".join(["backups", backup_name, *below]))
        return await self._node.publisher.share(backup, folder, name, path)

    async def _open(self, arguments: Answer) -> Answer:
        address = parse_opening(text(arguments, "reference"))
        if isinstance(address, Reference) and address.path:
            raise FormatError("open the reference without the path behind its key, then go there")
        wanted = arguments.get("name")
        if wanted is not None and not isinstance(wanted, str):
            raise FormatError("the name of a bundle is a text")
        name = os.fsencode(wanted) if wanted is not None else None
        name = await self._node.shelf.open(without_path(address), name)
        if isinstance(address, Reference) and address.id in self._store:
            self._node.outside.announce(address.id)
        path = os.path.join(self._settings.mountpoint, "bundles", os.fsdecode(name))
        return {"name": os.fsdecode(name), "path": path}

    async def _close(self, arguments: Answer) -> Answer:
        name = text(arguments, "name")
        try:
            address = await self._node.shelf.close(os.fsencode(name))
        except FileNotFoundError:
            raise LibernetError(f"no bundle named {name!r} is open") from None
        if isinstance(address, Reference):
            still_wanted = {each.id for each in self._node.shelf.references().values()}
            if address.id not in still_wanted.union(self._node.published()):
                self._node.outside.withdraw(address.id)
        return {}

    async def _peers(self, arguments: Answer) -> Answer:
        return self._node.outside.status()

    async def _status(self, arguments: Answer) -> Answer:
        node = self._node
        files, pending_bytes = node.files.pending()
        unpublished = set(node.publisher.unpublished())
        backups = []
        for name, inode in node.tree.backups():
            latest = node.snapshots.latest(inode.ino)
            backups.append(
                {
                    "name": os.fsdecode(name),
                    "published": latest.name if latest else None,
                    "reference": str(latest.reference) if latest else None,
                    "unpublished": inode.ino in unpublished,
                }
            )
        totals = await trio.to_thread.run_sync(self._store.totals)
        outside = node.outside.status()
        return {
            "mountpoint": str(self._settings.mountpoint),
            "pid": os.getpid(),
            "version": __version__,
            "not_durable": {
                "changes": node.checkpointer.is_dirty,
                "files": files,
                "bytes": pending_bytes,
            },
            "backups": backups,
            "store": {"blocks": totals.blocks, "bytes": totals.bytes},
            "web": self._web_address(),
            "not_announced": outside.get("not_announced", []),
            "failures": outside.get("failures", []),
            "network": {key: value for key, value in outside.items() if key not in _SAID_ELSEWHERE},
        }

    def _backup(self, name: str) -> int:
        """Return the inode of a backup; LibernetError that names those there are if it is none."""
        backups = dict(self._node.tree.backups())
        inode = backups.get(os.fsencode(name))
        if inode is None:
            known = ", ".join(os.fsdecode(each) for each in backups) or "none yet"
            raise LibernetError(f"there is no backup {name!r}; the backups are: {known}")
        assert inode.ino != ROOT_INO
        return inode.ino
