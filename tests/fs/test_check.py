"""The consistency check: each promise of the journal, broken, is found, and named by path."""

import os
from pathlib import Path

import pytest

from libernet.blocks.documents import Part
from libernet.blocks.ids import BlockId
from libernet.blocks.sealing import Sealer
from libernet.blocks.store import Store
from libernet.fs.check.document_rules import DocumentRules
from libernet.fs.check.findings import Severity
from libernet.fs.check.journal_rules import RULES
from libernet.fs.check.paths import Paths
from libernet.fs.check.repair import repair
from tests.support.broken_rows import BROKEN, B
from tests.support.sound_state import BrokenState


def test_a_sound_state_has_no_finding(state: BrokenState) -> None:
    assert state.findings() == []
    assert state.findings(read=True) == []


@pytest.mark.parametrize(("statement", "expected"), BROKEN)
def test_each_broken_promise_of_the_journal_is_found(
    state: BrokenState, statement: str, expected: set[tuple[str, str]]
) -> None:
    for path, ino in state.inos.items():
        expected = {(rule, where.replace("{" + path + "}", str(ino))) for rule, where in expected}
    state.run(statement)
    broken = {
        (rule, where.replace("/sub/again", "/small"))  # either name of a linked file may be told
        for rule, where in state.broken()
    }
    assert broken == expected


def test_each_rule_is_broken_by_one_of_these_tests() -> None:
    told = {rule for _, expected in BROKEN for rule, _ in expected}
    assert {rule.name for rule in RULES} - told == {"share", "publication"}


@pytest.mark.parametrize("table", ["share", "publication"])
def test_a_share_or_publication_of_nothing_is_found(state: BrokenState, table: str) -> None:
    state.run(f"UPDATE {table} SET path = x''")
    assert {rule for rule, _ in state.broken()} == {table}


def block_of(state: BrokenState, path: str) -> BlockId:
    with state.journal() as journal:
        rows = journal.execute(
            "SELECT block_id FROM extent WHERE ino = ? AND block_id IS NOT NULL"
            " ORDER BY piece_length DESC",
            (state.inos[path],),
        )
        return BlockId(rows.fetchone()[0])


def test_a_chunk_that_the_store_has_not_is_found_with_its_range(state: BrokenState) -> None:
    state.run("UPDATE extent SET block_id = zeroblob(32) WHERE ino = {b/sub/deep/file}")
    [finding] = state.findings()
    assert (finding.rule, finding.severity) == ("block-missing", Severity.LOSS)
    assert finding.where == f"{B}/sub/deep/file"
    assert "bytes 0 to 9 cannot be read" in finding.sentence


def test_a_chunk_that_is_only_cached_is_found(state: BrokenState) -> None:
    block_id = block_of(state, "b/large")
    with Store(state.folder / "store") as store:
        block = store.get(block_id)
        store._index.remove(block_id)
        (state.folder / "store" / "blocks" / f"{block_id[0]:02x}" / str(block_id)).unlink(
            missing_ok=True
        )
        assert store.put_cached(block_id, block)
    assert ("block-not-own", f"{B}/large") in state.broken()


def test_a_chunk_that_its_key_does_not_open_is_found_by_reading(state: BrokenState) -> None:
    state.run("UPDATE extent SET block_key = zeroblob(32) WHERE ino = {b/sub/deep/file}")
    assert state.broken() == set()
    assert state.broken(read=True) == {("chunk-key", f"{B}/sub/deep/file")}


_UNNOTICED = {
    "a name is gone": (
        "DELETE FROM entry WHERE ino = {b/sub/deep/file};"
        "DELETE FROM inode WHERE ino = {b/sub/deep/file};"
        "DELETE FROM extent WHERE ino = {b/sub/deep/file};"
        "DELETE FROM xattr WHERE ino = {b/sub/deep/file};",
        {f"{B}/sub/deep", f"{B}/sub/deep/file"},
    ),
    "a name is another": (
        "UPDATE entry SET name = CAST('other' AS BLOB) WHERE ino = {b/sub/deep/file}",
        {f"{B}/sub/deep/file", f"{B}/sub/deep/other"},
    ),
    "other mode": (
        "UPDATE inode SET mode = mode | 7 WHERE ino = {b/sub/deep/file}",
        {f"{B}/sub/deep/file"},
    ),
    "other time of a folder": (
        "UPDATE inode SET mtime_ns = mtime_ns + 1 WHERE ino = {b/sub/deep}",
        {f"{B}/sub/deep"},
    ),
    "other attribute": (
        "UPDATE xattr SET value = CAST('red' AS BLOB) WHERE ino = {b/sub/deep/file}",
        {f"{B}/sub/deep/file"},
    ),
    "other contents": (
        "UPDATE extent SET (block_id, suite, block_key) ="
        " (SELECT block_id, suite, block_key FROM extent WHERE ino = {b/small}),"
        " length = 5, piece_length = 5 WHERE ino = {b/sub/deep/file};"
        "UPDATE inode SET size = 5 WHERE ino = {b/sub/deep/file};"
        "UPDATE folder_document SET bytes = bytes - 4 WHERE ino IN ({b/sub}, {b/sub/deep})",
        {f"{B}/sub/deep/file"},
    ),
    "other totals": (
        "UPDATE folder_document SET bytes = bytes + 1 WHERE ino = {b/sub/deep}",
        {f"{B}/sub", f"{B}/sub/deep"},
    ),
}


@pytest.mark.parametrize("name", _UNNOTICED)
def test_what_documents_show_and_the_journal_does_not_have_is_found_and_written_anew(
    state: BrokenState, name: str
) -> None:
    statement, where = _UNNOTICED[name]
    state.run(statement)
    assert state.broken() == {("folder-shows", each) for each in where}
    repair(state.folder)
    assert state.broken() == set()


def test_what_is_cut_elsewhere_is_the_same_and_holes_take_no_time(tmp_path: Path) -> None:
    def part(content: bytes) -> Part:
        reference, block = Sealer(bytes(32)).seal(content)
        store.put(reference.id, block)
        return Part(len(content), reference)

    hole = Part(2**60, None)
    with Store(tmp_path) as store:
        rules = DocumentRules(lambda *_: [], store, Paths(lambda *_: []))
        whole = [part(b"abcdef"), hole, part(b"x")]
        for other, is_equal in (
            ([part(b"ab"), part(b"cdef"), hole, part(b"x")], True),
            ([part(b"abcdef\0\0"), Part(2**60 - 3, None), part(b"\0x")], True),
            ([part(b"abcdef\0\0"), Part(2**60 - 3, None), part(b"1x")], False),
            ([part(b"ab"), part(b"cdeX"), hole, part(b"x")], False),
            ([part(b"abcdef"), hole], False),
            ([*whole, part(b"y")], False),
        ):
            assert rules._are_equal(whole, other) is rules._are_equal(other, whole) is is_equal


def test_a_damaged_block_is_found_by_reading_and_named_by_the_files_that_need_it(
    state: BrokenState,
) -> None:
    block_id = block_of(state, "b/large")
    file = state.folder / "store" / "blocks" / f"{block_id[0]:02x}" / str(block_id)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    broken = state.broken(read=True)
    assert ("store-damaged", f"block {block_id}") in broken
    assert ("block-missing", f"{B}/large") in broken
    assert any(where.startswith("snapshots/b/") for _, where in broken)


def test_a_file_in_the_store_without_a_row_is_no_fault(state: BrokenState) -> None:
    block_id = BlockId(bytes([7]) * 32)
    (state.folder / "store" / "blocks" / "07" / str(block_id)).write_bytes(b"stray")
    [finding] = state.findings()
    assert (finding.rule, finding.severity) == ("store-stray", Severity.NOTE)


def segment_of(state: BrokenState) -> Path:
    with state.journal() as journal:
        [number] = journal.execute("SELECT DISTINCT segment FROM extent WHERE segment > 0")
    return state.folder / "log" / f"{number[0]:08d}.v1"


def test_a_rotten_byte_of_the_log_is_found_by_reading(state: BrokenState) -> None:
    segment = segment_of(state)
    content = bytearray(segment.read_bytes())
    content[content.index(b"not sealed yet")] ^= 1
    segment.write_bytes(content)
    assert state.broken() == set()
    assert state.broken(read=True) == {("log-record", f"{B}/logged")}


@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_log_that_is_gone_or_cut_is_found_without_reading(
    state: BrokenState, left: int | None
) -> None:
    segment = segment_of(state)
    if left is None:
        segment.unlink()
    else:
        os.truncate(segment, left)
    assert ("log-record", f"{B}/logged") in state.broken()


def test_a_record_of_another_length_is_found(state: BrokenState) -> None:
    state.run(
        "UPDATE extent SET piece_length = piece_length + 1 WHERE segment > 0 AND ino = {b/logged}"
    )
    assert state.broken() == {("log-record", f"{B}/logged")}


def test_a_missing_document_is_told_of_every_snapshot_that_needs_it(state: BrokenState) -> None:
    with state.journal() as journal:
        [(reference,)] = journal.execute("SELECT reference FROM snapshot")
    state.run(
        "INSERT INTO snapshot (backup, backup_name, name, reference, generation, published_ns)"
        " SELECT backup, backup_name, name || '.2', reference, generation, 0 FROM snapshot"
    )
    state.run(
        "UPDATE folder_document SET generation = changed FROM inode"
        " WHERE inode.ino = folder_document.ino"
    )
    with Store(state.folder / "store") as store:
        store._index.remove(BlockId.parse(reference.split("/")[2]))
    told = [where for rule, where in state.broken() if rule == "document"]
    assert sum(where.startswith("snapshots/b/") for where in told) == 2
    assert f"documents of {B}" in told


def test_a_blob_of_a_stream_that_is_missing_is_found(state: BrokenState) -> None:
    with Store(state.folder / "store") as store:
        for entry in store._index.behind(b"", 1000):
            if len(entry.id) == 48 and entry.size_bytes > 3000:
                store._index.remove(entry.id)
    [(rule, where)] = state.broken()
    assert rule == "block-missing"
    assert where.startswith("publication of /")


def test_a_damaged_journal_is_found(state: BrokenState) -> None:
    state.run("PRAGMA wal_checkpoint(TRUNCATE)")
    path = state.folder / "journal.sqlite"
    content = bytearray(path.read_bytes())
    content[4 * 2048 : 6 * 2048] = b"\xff" * 4096
    path.write_bytes(content)
    assert state.broken() == {("journal", "journal.sqlite")}
