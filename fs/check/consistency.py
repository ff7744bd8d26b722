"""The consistency check: journal, data log, store, and what was published, against each other."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libernet.blocks.errors import LibernetError, StoreVersion
from libernet.blocks.ids import StoredId
from libernet.blocks.store import Store
from libernet.blocks.store_check import Pace
from libernet.fs.check.bundle_rules import BundleWalk, roots
from libernet.fs.check.content_rules import (
    ChunkKeys,
    chunk_findings,
    record_findings,
    store_findings,
)
from libernet.fs.check.document_rules import DocumentRules
from libernet.fs.check.findings import Finding, Severity
from libernet.fs.check.journal_rules import broken_rules
from libernet.fs.check.paths import Paths
from libernet.fs.datalog import LogReader
from libernet.fs.journal_reader import JournalReader
from libernet.fs.journal_schema import VERSION


@dataclass(frozen=True, slots=True)
class State:
    """What is looked at: a state folder that nobody else uses, or that of the running node."""

    journal: Path
    store: Store
    log: LogReader


@contextmanager
def at_rest(folder: Path) -> Iterator[State]:
    """Open what lies in a state folder, whose lock the caller holds, without changing it.

    Raises LibernetError when there is nothing to check, or of another version than this program.
    """
    journal = folder.absolute() / "journal.sqlite"
    if not journal.exists():
        raise LibernetError(f"there is nothing to check: {folder} holds no journal")
    try:
        with JournalReader(journal) as reader:
            version = reader.rows("PRAGMA user_version")[0][0]
    except sqlite3.DatabaseError as exc:
        raise LibernetError(f"{journal} cannot be read at all: {exc}") from exc
    if version > VERSION:
        raise StoreVersion(
            f"{journal} was written by a newer version of Libernet (journal version {version}, "
            f"this program knows {VERSION}): install that version"
        )
    if version < VERSION:
        raise LibernetError(
            f"{journal} was written by an older version of Libernet: mount it once, then check"
        )
    with Store(folder / "store") as store, LogReader(folder / "log") as log:
        yield State(journal, store, log)


def check(
    state: State,
    *,
    read: bool = False,
    pace: Pace | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> Iterator[Finding]:
    """Yield what is wrong with *state*; with *read*, every byte of it is read, at that *pace*.

    Damaged blocks are set aside when they are read. While it runs nothing is collected, and the
    data log loses no segment; else the node may go on. *go_on* is called between steps and ends
    the check by raising. Raises StoreError while blocks are being collected.
    """
    pace = pace or Pace()
    with (
        state.store.collecting() as marks,
        state.log.lease(),
        JournalReader(state.journal) as reader,
    ):
        try:
            reader.begin()
            damage = [row[0] for row in reader.rows("PRAGMA quick_check(10)") if row[0] != "ok"]
        except sqlite3.DatabaseError as exc:
            damage = [str(exc)]
        if damage:
            for sentence in damage:
                yield Finding("journal", Severity.DAMAGE, "journal.sqlite", sentence)
            return
        paths = Paths(reader.rows)
        is_sound = True
        for finding in broken_rules(reader, paths):
            is_sound = is_sound and not finding.is_fault
            yield finding
        if is_sound:
            for each in DocumentRules(reader.rows, state.store, paths).contradictions():
                go_on()
                yield each.finding()
        keys = ChunkKeys(reader, paths) if read else None

        def read_block(block_id: StoredId) -> bytes:
            go_on()
            block = state.store.get(block_id)
            if keys is not None:
                keys.look(block_id, block)
            return block

        yield from store_findings(state.store, read=read_block if keys else None, pace=pace)
        if keys is not None:
            yield from keys.findings
        yield from chunk_findings(reader, state.store, paths)
        yield from record_findings(reader, state.log, paths, read=read, pace=pace)
        walk = BundleWalk(state.store, marks.enter)
        for root in roots(reader.rows, paths):
            go_on()
            yield from walk.of(root)
