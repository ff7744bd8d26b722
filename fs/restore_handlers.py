"""What the running mount does for `libernet restore`."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import trio

from libernet.blocks.addresses import parse_opening
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.store import Store
from libernet.fs.control import Tell
from libernet.fs.mount_paths import MountPaths, is_ours, told
from libernet.fs.nodes import FileNode, FolderNode, Node
from libernet.fs.own_places import OwnPlaces
from libernet.fs.restore.restorer import Options, Restored, Restorer
from libernet.fs.restore.writing import Writer
from libernet.fs.watched import Totals, watched

_PAGE_ENTRIES = 1000

Answer = dict[str, Any]


class RestoreHandlers:
    """Answer the command that writes a tree to a folder of this machine."""

    def __init__(self, paths: MountPaths, store: Store, state: Path) -> None:
        self._paths = paths
        self._store = store
        self._state = state

    async def restore(self, arguments: Answer, tell: Tell) -> Answer:
        """Restore, with a note each half second; the answer counts, and tells what failed.

        Raises LibernetError and OSError where there is nothing to restore, or nowhere to write.
        """
        target = arguments.get("target")
        if not isinstance(target, str) or not os.path.isabs(target) or "\0" in target:
            raise FormatError("this needs the absolute path of a folder")
        own = OwnPlaces.around(self._state)
        own.refuse(os.fsencode(target))
        options = Options(
            dry_run=arguments.get("dry_run") is True, verify=arguments.get("verify") is True
        )
        began = time.monotonic()
        restored = Restored()
        async with (
            self._source(arguments) as (name, source, is_trusted),
            watched(arguments, tell, restored, partial(_count, source)),
        ):
            writer = Writer(trusted=is_trusted)
            restorer = Restorer(self._store, writer, own, options, restored)
            await restorer.run(name, source, os.fsencode(target))
        counts = asdict(restored)
        del counts["current"]
        return {
            **counts,
            "total_duration": time.monotonic() - began,
            "dry_run": options.dry_run,
            "skipped": restored.skipped.texts(),
            "errors": restored.errors.texts(),
            "error_count": restored.errors.count,
        }

    @asynccontextmanager
    async def _source(self, arguments: Answer) -> AsyncIterator[tuple[bytes, Node, bool]]:
        """Provide the name and node of what is restored, and whether this node made it."""
        path, reference = arguments.get("path"), arguments.get("reference")
        if isinstance(reference, str):
            with told(reference, "restored"):
                opened = await self._paths.opened(parse_opening(reference))
            yield *opened, False
        elif isinstance(path, str):
            async with AsyncExitStack() as reading:
                with told(path, "restored"):
                    found = await reading.enter_async_context(self._paths.lasting(path))
                yield *found, is_ours(path)
        else:
            raise FormatError("this needs a path in the mount, or a reference")


async def _count(top: Node, totals: Totals) -> None:
    """Count what is in a tree; a folder that cannot be listed counts nothing."""
    waiting: list[FolderNode] = []

    def look(node: Node) -> None:
        if isinstance(node, FolderNode):
            waiting.append(node)
        elif isinstance(node, FileNode):
            totals.files += 1
            totals.bytes += node.appearance.size

    look(top)
    while waiting:
        folder, after = waiting.pop(), b""
        with suppress(LibernetError):  # whoever restores it is told
            while page := await folder.children(after, _PAGE_ENTRIES):
                for _, node in page:
                    look(node)
                after = page[-1][0]
                await trio.lowlevel.checkpoint()
    totals.is_known = True
