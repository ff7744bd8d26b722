"""Repair: the check finds nothing but losses afterwards, and nothing was thrown away."""

import hashlib
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store
from libernet.fs import storage
from libernet.fs.check.findings import Severity
from libernet.fs.check.repair import repair
from libernet.fs.node import LocalNode
from libernet.fs.pieces import PieceReader
from libernet.net.local import LocalSource
from tests.support.broken_rows import BROKEN, B
from tests.support.caller import node_settings
from tests.support.miniature import quick_folder
from tests.support.sound_state import LOGGED, BrokenState

_MAX_BYTES = 1_000_000
"""No file of the sound state is as long: one that is was broken, and is not worth reading."""


def journal_of(folder: Path) -> str:
    """Return what stands for all that the journal says."""
    connection = sqlite3.connect(folder / "journal.sqlite")
    try:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    finally:
        connection.close()


def assert_repaired(folder: Path) -> None:
    """Check that nothing but losses is found, that nothing is left to do, and that a node runs."""
    left = [
        finding
        for finding in BrokenState(folder).findings(read=True)
        if finding.severity is Severity.DAMAGE
    ]
    assert left == []
    before = journal_of(folder)
    assert repair(folder) == []
    assert journal_of(folder) == before
    trio.run(_run, folder)


async def _run(folder: Path) -> None:
    with trio.fail_after(60), storage.opened(folder) as disk:
        node = LocalNode(disk, LocalSource(disk.store), node_settings(folder))
        async with node.running():
            pass


def files(folder: Path) -> dict[int, tuple[str, int, bytes | None]]:
    """Return path, mode and bytes of each file by its number; None for what cannot be read."""
    found: dict[int, tuple[str, int, bytes | None]] = {}
    inos = BrokenState(folder).inos
    with storage.opened(folder) as disk:
        pieces = PieceReader(disk.log, disk.store)
        for path, ino in inos.items():
            inode = disk.reader.inode(ino)
            assert inode is not None
            content: bytes | None = inode.target
            if inode.is_file and inode.size > _MAX_BYTES:
                content = None
            elif inode.is_file:
                try:
                    content = bytes(pieces.range(disk.reader.extents(ino), 0, inode.size))
                except LibernetError:
                    content = None
            if not inode.is_folder:
                found[ino] = (path, inode.mode, content)
    return found


def test_a_sound_state_is_left_alone(state: BrokenState) -> None:
    before = journal_of(state.folder)
    assert repair(state.folder) == []
    assert journal_of(state.folder) == before
    assert list(state.folder.glob("journal-before-repair-*")) == []


@pytest.mark.parametrize("statement", [statement for statement, _ in BROKEN])
def test_each_broken_promise_is_repaired_and_every_file_is_kept(
    state: BrokenState, statement: str
) -> None:
    before = files(state.folder)
    state.run(statement)
    broken = journal_of(state.folder)

    would_do = repair(state.folder, dry_run=True, clock=lambda: 10**18)
    assert journal_of(state.folder) == broken
    deeds = repair(state.folder, clock=lambda: 10**18)

    assert [str(deed) for deed in deeds] == [str(deed) for deed in would_do]
    assert deeds
    [copy] = state.folder.glob("journal-before-repair-*")
    copy.unlink()
    assert_repaired(state.folder)
    after = files(state.folder)
    assert before.keys() <= after.keys()
    assert after.keys() == before.keys() or "lost+found" in str(deeds)


def test_the_copy_of_the_journal_is_as_it_was(state: BrokenState) -> None:
    state.run("UPDATE inode SET nlink = 7 WHERE ino = {b/fifo}")
    broken = journal_of(state.folder)
    repair(state.folder)
    [copy] = state.folder.glob("journal-before-repair-*.sqlite")
    copy.rename(state.folder / "journal.sqlite")
    for other in ("wal", "shm"):
        (state.folder / f"journal.sqlite-{other}").unlink(missing_ok=True)
    assert journal_of(state.folder) == broken
    assert state.broken() == {("link-count", f"{B}/fifo")}


def test_what_no_path_leads_to_is_found_again_in_its_backup(state: BrokenState) -> None:
    state.run("DELETE FROM entry WHERE ino IN ({b/sub}, {b/fifo})")
    repair(state.folder)
    inos = BrokenState(state.folder).inos
    sub, fifo = state.inos["b/sub"], state.inos["b/fifo"]
    assert inos[f"b/lost+found/#{sub}/deep/file"] == state.inos["b/sub/deep/file"]
    assert inos[f"lost+found/#{fifo}"] == fifo  # nothing tells which backup it was in


def test_a_circle_of_folders_is_opened_and_found_again(state: BrokenState) -> None:
    state.run("UPDATE entry SET parent = {b/sub/deep} WHERE ino = {b/sub}")
    repair(state.folder)
    paths = {path for path in BrokenState(state.folder).inos if path.startswith("lost+found/")}
    assert any(path.endswith("/file") for path in paths)
    assert_repaired(state.folder)


def test_names_that_led_to_nothing_are_told_in_a_report(state: BrokenState) -> None:
    state.run("INSERT INTO entry VALUES ({b/sub}, CAST('gone.txt' AS BLOB), 777777)")
    repair(state.folder, clock=lambda: 1_800_000_000 * 10**9)
    path = "lost+found/report-2027-01-15T08.00.00Z.txt"
    content = next(content for name, _, content in files(state.folder).values() if name == path)
    assert content is not None
    assert b"backups/b/sub/gone.txt: the name led to nothing" in content


def test_a_file_whose_inode_is_lost_keeps_name_and_bytes(state: BrokenState) -> None:
    before = files(state.folder)[state.inos["b/large"]]
    state.run("DELETE FROM inode WHERE ino = {b/large}")
    repair(state.folder)
    path, mode, content = files(state.folder)[state.inos["b/large"]]
    assert (path, content) == (before[0], before[2])
    assert mode == stat.S_IFREG | 0o600
    assert_repaired(state.folder)


def test_a_folder_whose_inode_is_lost_keeps_its_names(state: BrokenState) -> None:
    state.run("DELETE FROM inode WHERE ino IN ({b/sub}, {b})")
    repair(state.folder)
    assert BrokenState(state.folder).inos["b/sub/deep/file"] == state.inos["b/sub/deep/file"]
    assert_repaired(state.folder)


def test_of_overlapping_extents_both_versions_are_kept(state: BrokenState) -> None:
    with state.journal() as journal:
        rows = journal.execute(
            "SELECT start, length FROM extent WHERE ino = ? ORDER BY start",
            (state.inos["b/large"],),
        ).fetchall()
    (_, _), (start, length) = rows[-2:]
    overlap = min(10, length)
    before = files(state.folder)[state.inos["b/large"]][2]
    assert before is not None
    state.run(
        f"UPDATE extent SET start = {start - overlap} WHERE ino = {{b/large}} AND start = {start}"
    )
    repair(state.folder)
    after = {path: content for path, _, content in files(state.folder).values()}
    last = before[start : start + length]
    shown = before[: start - overlap] + last
    assert after["b/large"] == shown + bytes(len(before) - len(shown))
    other = before[:start] + last[overlap:]
    assert after[f"b/lost+found/#{state.inos['b/large']}.other"] == other
    assert_repaired(state.folder)


def test_beside_an_impossible_extent_both_versions_of_an_overlap_are_kept(
    state: BrokenState,
) -> None:
    ino = state.inos["b/large"]
    with state.journal() as journal:
        rows = journal.execute(
            "SELECT start, length FROM extent WHERE ino = ? ORDER BY start", (ino,)
        ).fetchall()
    (first, _), *_, (start, length) = rows
    overlap = min(10, length)
    before = files(state.folder)[ino][2]
    assert before is not None
    state.run(
        f"UPDATE extent SET start = {start - overlap} WHERE ino = {ino} AND start = {start};"
        f"UPDATE extent SET skip = -1 WHERE ino = {ino} AND start = {first}"
    )
    repair(state.folder)
    assert_repaired(state.folder)
    with storage.opened(state.folder) as disk:
        pieces = PieceReader(disk.log, disk.store)
        inos = BrokenState(state.folder).inos
        for path, expected in (
            ("b/large", before[start : start + overlap]),
            (f"b/lost+found/#{ino}.other", before[start - overlap : start]),
        ):
            extents = disk.reader.extents(inos[path])
            assert bytes(pieces.range(extents, start - overlap, start)) == expected


def test_a_range_whose_chunk_is_missing_stays_an_error_and_heals(state: BrokenState) -> None:
    ino = state.inos["b/large"]
    before = files(state.folder)[ino][2]
    with state.journal() as journal:
        query = "SELECT block_id, start FROM extent WHERE ino = ? AND block_id IS NOT NULL"
        (digest, _), *_ = journal.execute(query, (ino,)).fetchall()
    with Store(state.folder / "store") as store:
        block = store.get(BlockId(digest))
        store._index.remove(BlockId(digest))
    assert repair(state.folder) == []
    assert files(state.folder)[ino][2] is None
    with Store(state.folder / "store") as store:
        store.put(BlockId(digest), block)
    assert files(state.folder)[ino][2] == before
    assert state.broken() == set()


def test_a_cached_block_that_files_need_stays_from_now_on(state: BrokenState) -> None:
    with state.journal() as journal:
        query = "SELECT block_id FROM extent WHERE ino = ? AND block_id IS NOT NULL"
        block_id = BlockId(journal.execute(query, (state.inos["b/large"],)).fetchone()[0])
    with Store(state.folder / "store") as store:
        block = store.get(block_id)
        store._index.remove(block_id)
        assert store.put_cached(block_id, block)
    assert repair(state.folder) != []
    assert_repaired(state.folder)
    with Store(state.folder / "store") as store:
        assert store.is_own(block_id)


def test_a_rotten_record_is_set_aside_and_the_sound_part_of_it_is_kept(
    state: BrokenState,
) -> None:
    ino = state.inos["b/logged"]
    with state.journal() as journal:
        [(number,)] = journal.execute(
            "SELECT DISTINCT segment FROM extent WHERE ino = ? AND segment > 0", (ino,)
        )
    segment = state.folder / "log" / f"{number:08d}.v1"
    content = bytearray(segment.read_bytes())
    content[content.index(b"not sealed yet")] ^= 1
    segment.write_bytes(content)

    repair(state.folder)

    with storage.opened(state.folder) as disk:
        extents, pieces = disk.reader.extents(ino), PieceReader(disk.log, disk.store)
        expected = LOGGED[:500] + b"over" + LOGGED[504:]
        with pytest.raises(LibernetError):
            pieces.range(extents, 0, 1)
        assert bytes(pieces.range(extents, 1024, len(expected))) == expected[1024:]
    kept = [
        content
        for path, _, content in files(state.folder).values()
        if path.startswith(f"b/lost+found/#{ino}.log-")
    ]
    assert any(content is not None and b"not sealed yet" in content for content in kept)
    assert_repaired(state.folder)
    with state.journal() as journal:  # the file is no reason not to publish the others
        query = "SELECT count(*) FROM snapshot WHERE backup = ?"
        assert journal.execute(query, (state.inos["b"],)).fetchone() == (2,)


def test_a_lost_document_is_written_anew_at_the_next_publication(state: BrokenState) -> None:
    with state.journal() as journal:
        [(reference,)] = journal.execute("SELECT reference FROM snapshot")
    block_id = BlockId.parse(reference.split("/")[2])
    with Store(state.folder / "store") as store:
        store._index.remove(block_id)
    repair(state.folder)
    assert_repaired(state.folder)
    assert not any(where.startswith("documents of") for _, where in state.broken())
    with state.journal() as journal:
        snapshots = journal.execute("SELECT reference FROM snapshot WHERE backup_name = x'62'")
        newest = snapshots.fetchall()[-1][0]
    with Store(state.folder / "store") as store:
        assert store.is_own(BlockId.parse(newest.split("/")[2]))


def test_a_damaged_journal_is_refused_and_left_alone(state: BrokenState) -> None:
    state.run("PRAGMA wal_checkpoint(TRUNCATE)")
    path = state.folder / "journal.sqlite"
    content = bytearray(path.read_bytes())
    content[4 * 2048 : 6 * 2048] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(LibernetError, match="is damaged itself"):
        repair(state.folder)
    assert path.read_bytes() == content


_COLUMNS = {
    "inode": ["mode", "uid", "size", "nlink", "rdev", "parent", "target", "changed", "ino"],
    "entry": ["parent", "name", "ino"],
    "extent": [
        *("ino", "start", "length", "skip", "piece_length"),
        *("block_id", "suite", "block_key", "segment", "position"),
    ],
    "folder_document": [
        *("ino", "generation", "json_bytes", "levels", "reference", "files", "bytes"),
    ],
    "snapshot": [
        "backup",
        "backup_name",
        "name",
        "reference",
        "generation",
        "published_ns",
        "note",
        "files",
        "bytes",
    ],
    "snapshot_tag": ["snapshot", "tag"],
    "share": ["reference", "path", "shared_ns"],
    "opened": ["name", "reference", "opened_ns"],
    "publication": ["reference", "path", "kind", "published_ns"],
    "xattr": ["ino", "name", "value"],
    "meta": ["value"],
}
_VALUES = st.one_of(
    st.integers(-3, 3000),
    st.sampled_from([-(2**63), 2**63 - 1, 2**62, 2**32, 0o40755, 0o100644, 1000, 1001, 1002, 1005]),
    st.sampled_from([b"", b".", b"a/b", b"\0", b"x", b"\xff", "text", bytes(32), "x" * 300]),
)
_CORRUPTION = st.one_of(
    [
        st.tuples(st.just(table), st.sampled_from(columns) | st.none(), st.integers(0), _VALUES)
        for table, columns in _COLUMNS.items()
    ]
)


def corrupt(state: BrokenState, table: str, column: str | None, pick: int, value: Any) -> set[int]:
    """Change or delete one row; return the numbers of inodes that this may change."""
    key = {"inode": "ino", "folder_document": "ino", "snapshot": "number"}.get(table)
    keys = {
        "entry": ("parent", "name"),
        "extent": ("ino", "start"),
        "xattr": ("ino", "name"),
        "meta": ("key",),
        "opened": ("name",),
        "snapshot_tag": ("snapshot", "tag"),
    }.get(table, (key or "reference",))
    with state.journal() as journal:
        rows = journal.execute(f"SELECT {', '.join(keys)} FROM {table} ORDER BY 1").fetchall()
        if not rows:
            return set()
        row = rows[pick % len(rows)]
        where = " AND ".join(f"{name} IS ?" for name in keys)
        try:
            if column is None:
                journal.execute(f"DELETE FROM {table} WHERE {where}", row)
            else:
                journal.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *row))
        except sqlite3.IntegrityError:
            return set()  # the tables themselves refuse it
    hit = {row[0]} if table in {"inode", "extent", "xattr"} else set()
    return hit | ({value} if isinstance(value, int) and column in {"ino", "parent"} else set())


@settings(deadline=None, max_examples=100)
@given(st.lists(_CORRUPTION, min_size=1, max_size=6))
def test_whatever_was_broken_is_repaired_and_intact_files_read_the_same(
    sound: Path, corruptions: list[tuple[str, str | None, int, Any]]
) -> None:
    with quick_folder() as folder:
        shutil.copytree(sound, folder / "state")
        state = BrokenState(folder / "state")
        before = files(state.folder)
        hit: set[int] = set()
        for corruption in corruptions:
            hit |= corrupt(state, *corruption)
        repair(state.folder)
        assert_repaired(state.folder)
        after = files(state.folder)
        for ino, (_, mode, content) in before.items():
            if ino not in hit:
                assert after[ino][1:] == (mode, content)
