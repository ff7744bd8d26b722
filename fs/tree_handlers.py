"""What the mount does for `libernet diff` and `libernet find`."""

import os
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict
from typing import Any

from libernet.blocks.errors import FormatError
from libernet.fs.arguments import texts
from libernet.fs.bundle_view import Bundles
from libernet.fs.control import Tell
from libernet.fs.difference import Difference
from libernet.fs.leases import Leases
from libernet.fs.mount_paths import MountPaths, told
from libernet.fs.search import Match, Patterns, Search
from libernet.fs.snapshot_choice import Shown, chosen, shown
from libernet.fs.snapshots import Snapshots

_LINES_AT_ONCE = 200
"""How much of what is found goes into one note: a path has at most some thousand bytes."""

Answer = dict[str, Any]


class TreeHandlers:
    """Answer the commands that walk through trees and tell what they find on the way."""

    def __init__(
        self, paths: MountPaths, bundles: Bundles, snapshots: Snapshots, leases: Leases
    ) -> None:
        self._paths = paths
        self._leases = leases
        self._bundles = bundles
        self._snapshots = snapshots

    async def diff(self, arguments: Answer, tell: Tell) -> Answer:
        """Tell how two trees differ, a note for some changes at once; the answer counts."""
        async with AsyncExitStack() as reading:
            trees = []
            for name in (arguments.get("old"), arguments.get("new")):
                if not isinstance(name, str) or not name:
                    raise FormatError("this needs two paths in the mount, or references")
                with told(name, "compared"):
                    trees.append(await reading.enter_async_context(self._paths.tree(name)))
            difference = Difference(self._bundles, *trees)
            notes = _Notes(tell)
            async with aclosing(difference.changes()) as changes:
                async for change in changes:
                    found = {"modifier": change.kind, "path": "/" + os.fsdecode(change.path)}
                    await notes.add(found | ({"error": change.error} if change.error else {}))
            await notes.end()
        return asdict(difference.totals)

    async def find(self, arguments: Answer, tell: Tell) -> Answer:
        """Tell where there is what matches patterns, in which snapshots of which backup."""
        patterns = Patterns(
            texts(arguments, "patterns"), ignore_case=arguments.get("ignore_case") is True
        )
        wanted = self._wanted(arguments)
        notes = _Notes(tell)
        matches = errors = 0
        for backup in dict.fromkeys(each.backup for each in wanted):
            versions = [each for each in wanted if each.backup == backup]
            references = [each.snapshot.reference for each in versions]
            with self._leases.held(references):
                async with aclosing(Search(self._bundles, references, patterns).matches()) as found:
                    async for each in found:
                        path = os.fsdecode(each.path)
                        if isinstance(each, Match):
                            matches += 1
                            await notes.add(_row(each, versions))
                        else:
                            errors += 1
                            await notes.add({"backup": backup, "path": path, "error": each.error})
        await notes.end()
        return {"matches": matches, "errors": errors, "snapshots": len(wanted)}

    def _wanted(self, arguments: Answer) -> list[Shown]:
        names, single = texts(arguments, "backups"), texts(arguments, "snapshots")
        if not single:
            return shown(self._snapshots, names)
        numbers = {chosen(self._snapshots, text).snapshot.number for text in single}
        return [each for each in shown(self._snapshots, names) if each.snapshot.number in numbers]


class _Notes:
    """Gather what was found, and tell some of it at once."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._found: list[Answer] = []

    async def add(self, found: Answer) -> None:
        self._found.append(found)
        if len(self._found) >= _LINES_AT_ONCE:
            await self.end()

    async def end(self) -> None:
        if self._found:
            await self._tell({"found": self._found})
        self._found = []


def _row(match: Match, versions: list[Shown]) -> Answer:
    """Return what was found as JSON; *versions* are by the numbers of the bits."""
    having = [each for number, each in enumerate(versions) if match.of >> number & 1]
    return {
        "backup": having[0].backup,
        "path": os.fsdecode(match.path),
        "type": match.type,
        "size": match.size,
        "mtime_ns": match.mtime_ns,
        "first": having[0].name,
        "last": having[-1].name,
        "snapshots": len(having),
        "versions": match.versions,
    }
