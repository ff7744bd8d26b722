"""Repair: make the consistency check find nothing but losses, and throw nothing away.

All of it is one transaction of the journal. What nothing leads to any more gets a name in
`lost+found`, what no table has a place for stands in a report there, and bytes that are lost stay
an error on exactly their range. A second repair finds nothing to do.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import LibernetError
from libernet.blocks.sealing import Sealer
from libernet.blocks.secret import load_or_create_secret
from libernet.fs.check.consistency import State, at_rest
from libernet.fs.check.repair_contents import mend_contents
from libernet.fs.check.repair_inodes import mend_inodes
from libernet.fs.check.repair_names import mend_names
from libernet.fs.check.repair_published import (
    forget_contradicted,
    forget_pages,
    mend_generations,
    mend_published,
)
from libernet.fs.check.workbench import Deed, Workbench
from libernet.fs.journal import mark_changed


def repair(
    folder: Path, *, dry_run: bool = False, clock: Callable[[], int] = time.time_ns
) -> list[Deed]:
    """Return what was done to the state in *folder*, or would be; the caller holds its lock.

    Before the journal changes, a copy of it is saved beside it. Raises LibernetError for a journal
    that is itself damaged, or of another version.
    """
    with at_rest(folder) as state, closing(_writer(state.journal)) as connection:
        bench = Workbench(
            connection,
            state.store,
            state.log,
            Sealer(load_or_create_secret(folder / "secret")),
            keeps=not dry_run,
            clock=clock,
        )
        connection.execute("BEGIN IMMEDIATE")
        try:
            _mend(bench, connection)
            if bench.deeds and not dry_run:
                state.store.flush()
                _save_copy(state, bench.now_ns)
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return bench.deeds


def _mend(bench: Workbench, connection: sqlite3.Connection) -> None:
    mend_inodes(bench)
    mend_names(bench)
    mend_contents(bench)
    mend_published(bench)
    generation = mend_generations(bench)
    bench.keep_report()
    # What was found again has names since: once more, now that all of them are there.
    mend_names(bench)
    if bench.touched:
        generation += 1
        mark_changed(connection, bench.touched, generation)
    if contradicted := forget_contradicted(bench):
        generation += 1
        mark_changed(connection, contradicted, generation)
    if bench.deeds:
        forget_pages(bench)
    numbers = {"generation": generation, "next_ino": bench.next_ino}
    known = dict(bench.rows("SELECT key, value FROM meta"))
    for key, value in numbers.items():
        if known.get(key, 0) != value:
            bench.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)
            if not bench.deeds:
                bench.did("table meta", f"{key} was {known.get(key)!r}, now {value}")


def _writer(journal: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(journal, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(1)") if row[0] != "ok"]
    except sqlite3.DatabaseError as exc:
        damage = [str(exc)]
    if damage:
        connection.close()
        raise LibernetError(
            f"{journal} is damaged itself ({damage[0]}), which cannot be repaired. The blocks are "
            "still there: open the reference of a snapshot with another state folder"
        )
    return connection


def _save_copy(state: State, now_ns: int) -> None:
    """Save the journal as it was committed last, durably, under a name with the time in it."""
    stamp = time.strftime("%Y-%m-%dT%H.%M.%SZ", time.gmtime(now_ns // 10**9))
    copy = state.journal.with_name(f"journal-before-repair-{stamp}.sqlite")
    number = 1
    while copy.exists():
        number += 1
        copy = state.journal.with_name(f"journal-before-repair-{stamp}.{number}.sqlite")
    with (
        closing(sqlite3.connect(f"{state.journal.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(copy.parent)
