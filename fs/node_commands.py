"""What the commands ask of a running mount."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from libernet import __version__
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.store import Store
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.files import Files
from libernet.fs.publisher import Publisher
from libernet.fs.settings import Settings
from libernet.fs.snapshots import Snapshots
from libernet.fs.tree import Tree

Answer = dict[str, Any]


class NodeCommands:
    """Answer the requests that come through the control socket."""

    def __init__(
        self,
        *,
        settings: Settings,
        files: Files,
        checkpointer: Checkpointer,
        publisher: Publisher,
        snapshots: Snapshots,
        tree: Tree,
        store: Store,
    ) -> None:
        self._settings = settings
        self._files = files
        self._checkpointer = checkpointer
        self._publisher = publisher
        self._snapshots = snapshots
        self._tree = tree
        self._store = store

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"status": self._status, "sync": self._sync, "snapshot": self._snapshot}

    async def _sync(self, arguments: dict[str, Any]) -> Answer:
        await self._checkpointer.durable()
        return {}

    async def _snapshot(self, arguments: dict[str, Any]) -> Answer:
        name = arguments.get("name")
        if not isinstance(name, str):
            raise FormatError("snapshot needs the name of a backup")
        backups = dict(self._tree.backups())
        inode = backups.get(os.fsencode(name))
        if inode is None:
            known = ", ".join(os.fsdecode(each) for each in backups) or "none yet"
            raise LibernetError(f"there is no backup {name!r}; the backups are: {known}")
        snapshot = await self._publisher.publish(inode.ino)
        return {"reference": str(snapshot.reference), "published": snapshot.name}

    async def _status(self, arguments: dict[str, Any]) -> Answer:
        files, pending_bytes = self._files.pending()
        unpublished = set(self._publisher.unpublished())
        backups = []
        for name, inode in self._tree.backups():
            latest = self._snapshots.latest(inode.ino)
            backups.append(
                {
                    "name": os.fsdecode(name),
                    "published": latest.name if latest else None,
                    "reference": str(latest.reference) if latest else None,
                    "unpublished": inode.ino in unpublished,
                }
            )
        totals = await trio.to_thread.run_sync(self._store.totals)
        return {
            "mountpoint": str(self._settings.mountpoint),
            "pid": os.getpid(),
            "version": __version__,
            "not_durable": {
                "changes": self._checkpointer.is_dirty,
                "files": files,
                "bytes": pending_bytes,
            },
            "backups": backups,
            "store": {"blocks": totals.blocks, "bytes": totals.bytes},
        }
