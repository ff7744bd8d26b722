"""The published versions of the backups, as their names show them."""

import time
from collections.abc import Iterable

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.fs.journal_reader import JournalReader, Snapshot
from libernet.fs.tree import Tree


class Snapshots:
    """All snapshots, in the order of their publishing.

    A backup's snapshots stand under its name of today, those of a removed one under its last.
    """

    def __init__(self, reader: JournalReader, tree: Tree) -> None:
        self._tree = tree
        self._all = {snapshot.number: snapshot for snapshot in reader.snapshots()}

    def put(self, snapshot: Snapshot) -> None:
        """Take in a snapshot that was just recorded, or what was just written about one."""
        self._all[snapshot.number] = snapshot

    def remove(self, numbers: Iterable[int]) -> None:
        """Leave out snapshots that are about to be forgotten."""
        for number in numbers:
            del self._all[number]

    def put_back(self, snapshots: Iterable[Snapshot]) -> None:
        """Take in again, each in its place, snapshots that could not be forgotten."""
        for snapshot in snapshots:
            self._all[snapshot.number] = snapshot
        self._all = dict(sorted(self._all.items()))

    def get(self, number: int) -> Snapshot | None:
        """Return the snapshot with a number, None if it was forgotten."""
        return self._all.get(number)

    def latest(self, backup: int) -> Snapshot | None:
        """Return the newest snapshot of the backup with that inode."""
        return next((each for each in reversed(self._all.values()) if each.backup == backup), None)

    def ids(self) -> list[BlockId]:
        """Return the ids of what opens each of them."""
        return [snapshot.reference.id for snapshot in self._all.values()]

    def references(self) -> list[Reference]:
        """Return what opens each of them."""
        return [snapshot.reference for snapshot in self._all.values()]

    def by_name(self) -> dict[bytes, dict[bytes, Snapshot]]:
        """Return for each name that has snapshots these by their names, oldest first."""
        today = {inode.ino: name for name, inode in self._tree.backups()}
        last = {each.backup: each.backup_name for each in self._all.values()}
        shown: dict[bytes, dict[bytes, Snapshot]] = {}
        for snapshot in self._all.values():
            name = today.get(snapshot.backup) or last[snapshot.backup]
            versions = shown.setdefault(name, {})
            versions[free_name(snapshot.name, versions)] = snapshot
        return shown

    def new_name(self, backup: int, now_ns: int) -> str:
        """Return the name for a version of a backup that is published at *now_ns*."""
        taken = {each.name.encode(): each for each in self._all.values() if each.backup == backup}
        seconds = time.gmtime(now_ns // 10**9)
        return free_name(time.strftime("%Y-%m-%dT%H.%M.%SZ", seconds), taken).decode()


def free_name(name: str, taken: dict[bytes, Snapshot]) -> bytes:
    """Return *name*, with .2, .3 and so on behind it when it is taken."""
    free, count = name.encode(), 1
    while free in taken:
        count += 1
        free = f"{name}.{count}".encode()
    return free
