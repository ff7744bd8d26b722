"""What a person does to snapshots that were taken: writing about them, and forgetting them."""

from collections.abc import Collection
from dataclasses import replace

import trio

from libernet.blocks.errors import LibernetError
from libernet.fs.journal_reader import Snapshot
from libernet.fs.snapshots import Snapshots
from libernet.fs.storage import Storage
from libernet.fs.tags import Labels, TagList, checked_tags


class History:
    """Change what the journal knows of snapshots, and `Snapshots` with it.

    `writing` is held whenever both are changed. What a forgotten one needed stays in the store
    until a collection.
    """

    def __init__(self, storage: Storage, snapshots: Snapshots, writing: trio.Lock) -> None:
        self._journal = storage.journal
        self._snapshots = snapshots
        self._writing = writing

    async def label(
        self, number: int, *, tags: TagList | None = None, note: str | None = None
    ) -> Snapshot:
        """Give a snapshot other tags, or another note, durably; LibernetError if it went."""
        async with self._writing:
            snapshot = self._snapshots.get(number)
            if snapshot is None:
                raise LibernetError("the snapshot was forgotten meanwhile")
            labelled = replace(
                snapshot,
                tags=snapshot.tags if tags is None else tags,
                note=snapshot.note if note is None else note,
            )
            if labelled != snapshot:
                await trio.to_thread.run_sync(self._commit_labels, labelled)
                self._snapshots.put(labelled)
        return labelled

    async def add_labels(self, snapshot: Snapshot, labels: Labels) -> Snapshot:
        """Give a snapshot *labels* too, durably; FormatError if it has too many tags then."""
        if labels == Labels():
            return snapshot
        tags = checked_tags((*snapshot.tags, *labels.tags))
        return await self.label(snapshot.number, tags=tags, note=labels.note)

    async def forget(self, numbers: Collection[int]) -> list[Snapshot]:
        """Forget snapshots, durably and all at once; return those that were still there."""
        async with self._writing:
            found = [self._snapshots.get(number) for number in numbers]
            gone = [snapshot for snapshot in found if snapshot is not None]
            # First here: what the journal forgot a collection takes, and who begins to read a
            # snapshot that still stands here must have it to the end.
            self._snapshots.remove(snapshot.number for snapshot in gone)
            try:
                await trio.to_thread.run_sync(self._commit_forgotten, gone)
            except BaseException:
                self._snapshots.put_back(gone)
                raise
        return gone

    def _commit_labels(self, snapshot: Snapshot) -> None:
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE snapshot SET note = ? WHERE number = ?", (snapshot.note, snapshot.number)
            )
            connection.execute("DELETE FROM snapshot_tag WHERE snapshot = ?", (snapshot.number,))
            connection.executemany(
                "INSERT INTO snapshot_tag VALUES (?, ?)",
                ((snapshot.number, tag) for tag in snapshot.tags),
            )

    def _commit_forgotten(self, snapshots: list[Snapshot]) -> None:
        with self._journal.transaction() as connection:
            connection.executemany(
                "DELETE FROM snapshot WHERE number = ?", ((each.number,) for each in snapshots)
            )
