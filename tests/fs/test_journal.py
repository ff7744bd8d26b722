import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from libernet.blocks.errors import StoreVersion
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.fs import journal_schema
from libernet.fs.content import Extent, LogPlace, Piece
from libernet.fs.inode import FIRST_INO, ROOT_INO, Inode
from libernet.fs.journal import Batch, Journal
from libernet.fs.journal_reader import FolderDocumentRow, JournalReader, Snapshot

_BACKUP, _FOLDER, _OTHER, _FILE, _ELSEWHERE = range(FIRST_INO, FIRST_INO + 5)
_REFERENCE = Reference(BlockId.of(b"a block"), Suite.AES256GCM, b"k" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as journal:
        yield journal


@pytest.fixture
def reader(journal: Journal) -> Iterator[JournalReader]:
    with journal.reader() as reader:
        yield reader


def _folder(ino: int, parent: int) -> Inode:
    return Inode(ino, stat.S_IFDIR | 0o755, 1, 2, 0, 2, 0, 3, 4, 5, parent)


def _file(ino: int, nlink: int = 1) -> Inode:
    return Inode(ino, stat.S_IFREG | 0o644, 1, 2, 6, nlink, 7, 3, 4, 5)


def _with_a_tree(journal: Journal) -> None:
    """Commit backups/backup/{folder,other} with one file in both, and backups/elsewhere."""
    journal.apply(
        Batch(
            generation=1,
            next_ino=FIRST_INO + 5,
            inodes=[
                _folder(ROOT_INO, 1),
                _folder(_BACKUP, ROOT_INO),
                _folder(_FOLDER, _BACKUP),
                _folder(_OTHER, _BACKUP),
                _folder(_ELSEWHERE, ROOT_INO),
                _file(_FILE, nlink=2),
            ],
            entries=[
                (ROOT_INO, b"backup", _BACKUP),
                (ROOT_INO, b"elsewhere", _ELSEWHERE),
                (_BACKUP, b"folder", _FOLDER),
                (_BACKUP, b"other", _OTHER),
                (_FOLDER, b"file", _FILE),
                (_OTHER, b"link", _FILE),
            ],
            touched={ROOT_INO, _BACKUP, _FOLDER, _OTHER, _ELSEWHERE},
        )
    )


def _changed(reader: JournalReader) -> dict[int, int]:
    folders = (ROOT_INO, _BACKUP, _FOLDER, _OTHER, _ELSEWHERE)
    return {ino: reader.changed(ino) for ino in folders}


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


def _snapshot(name: str, generation: int, backup: int = _BACKUP) -> Snapshot:
    return Snapshot(0, backup, b"backup", name, _REFERENCE, generation, 10**18)


def test_an_empty_journal_has_no_tree(reader: JournalReader) -> None:
    assert reader.meta("generation") == 0
    assert reader.meta("next_ino") == FIRST_INO
    assert reader.inode(ROOT_INO) is None
    assert reader.child(ROOT_INO, b"x") is None
    assert reader.children(ROOT_INO, b"", 10) == []
    assert reader.snapshots() == []


def test_what_was_applied_is_there_after_a_restart(path: Path) -> None:
    link = Inode(1999, stat.S_IFLNK | 0o777, 1, 2, 4, 1, 0, -3, 4, 2**62, 0, b"\xff/\x01")
    with Journal(path) as journal:
        _with_a_tree(journal)
        journal.apply(Batch(2, 2000, inodes=[link], entries=[(_FOLDER, b"\xff\xfe", link.ino)]))
    with Journal(path) as journal, journal.reader() as reader:
        assert reader.meta("generation") == 2
        assert reader.meta("next_ino") == 2000
        assert reader.inode(_BACKUP) == _folder(_BACKUP, ROOT_INO)
        assert reader.inode(_FILE) == _file(_FILE, nlink=2)
        assert reader.inode(link.ino) == link
        assert reader.child(_FOLDER, b"\xff\xfe") == link.ino
        assert reader.child(_FOLDER, b"missing") is None
        assert sorted(reader.names(_FILE)) == [(_FOLDER, b"file"), (_OTHER, b"link")]
        assert sorted(reader.child_folders(_BACKUP)) == [_FOLDER, _OTHER]


def test_an_inode_that_is_applied_again_has_its_new_attributes(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    moved = msgspec.structs.replace(
        _folder(_FOLDER, _ELSEWHERE),
        mode=stat.S_IFDIR | 0o700,
        uid=11,
        gid=12,
        size=13,
        nlink=14,
        atime_ns=15,
        mtime_ns=16,
        ctime_ns=17,
    )
    entries = [(_BACKUP, b"folder", None), (_ELSEWHERE, b"folder", _FOLDER)]
    journal.apply(Batch(2, 2000, inodes=[moved], entries=entries, touched={_BACKUP, _ELSEWHERE}))
    assert reader.inode(_FOLDER) == moved
    assert reader.child_folders(_BACKUP) == [_OTHER]
    assert reader.child_folders(_ELSEWHERE) == [_FOLDER]


def test_children_come_by_the_bytes_of_their_names(journal: Journal, reader: JournalReader) -> None:
    names = [b"B", b"a", b"a\x01", b"aa", b"\x7f", b"\x80", b"\xff\xff"]
    inodes = {name: _file(FIRST_INO + at) for at, name in enumerate(names)}
    journal.apply(
        Batch(
            1,
            2000,
            inodes=list(inodes.values()),
            entries=[(_BACKUP, name, inode.ino) for name, inode in inodes.items()],
        )
    )
    assert reader.children(_BACKUP, b"", 100) == sorted(inodes.items())
    assert reader.children(_BACKUP, b"a", 2) == [
        (b"a\x01", inodes[b"a\x01"]),
        (b"aa", inodes[b"aa"]),
    ]
    assert reader.children(_BACKUP, b"\xff\xff", 2) == []


def test_extents_come_back_as_they_were(journal: Journal, reader: JournalReader) -> None:
    chunk = Extent(0, 10, Piece(30, chunk=_REFERENCE), skip=20)
    logged = Extent(100, 5, Piece(5, log=LogPlace(3, 4096)))
    journal.apply(Batch(1, 2000, extents=[(_FILE, logged), (_FILE, chunk)]))
    found = reader.extents(_FILE)
    assert [(each.offset, each.length, each.skip) for each in found] == [(0, 10, 20), (100, 5, 0)]
    assert [each.piece.length for each in found] == [30, 5]
    assert [each.piece.chunk for each in found] == [_REFERENCE, None]
    assert [each.piece.log for each in found] == [None, LogPlace(3, 4096)]
    assert reader.unsealed_files() == [_FILE]
    assert journal.needed_segments() == {3}


def test_extents_that_went_or_whose_inode_went_are_no_more(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    extents = [Extent(at, 10, Piece(10, log=LogPlace(at, 0))) for at in (0, 10, 20)]
    others = [(_FILE + 9, extents[0])]
    journal.apply(Batch(2, 2000, extents=[(_FILE, each) for each in extents] + others))
    replaced = Extent(10, 10, Piece(10, chunk=_REFERENCE))
    journal.apply(Batch(3, 2000, extents=[(_FILE, replaced)], extents_gone=[(_FILE, 20)]))
    assert [each.offset for each in reader.extents(_FILE)] == [0, 10]
    assert journal.needed_segments() == {0}
    journal.apply(Batch(4, 2000, dropped=[_FILE]))
    assert reader.extents(_FILE) == []
    assert reader.inode(_FILE) is None
    assert len(reader.extents(_FILE + 9)) == 1


def test_a_batch_that_fails_changes_nothing(journal: Journal, path: Path) -> None:
    _with_a_tree(journal)
    before = _dump(path)
    unfit = msgspec.structs.replace(_file(_FILE), size=2**63)  # no INTEGER of SQLite's
    with pytest.raises(OverflowError):
        journal.apply(
            Batch(
                generation=2,
                next_ino=3000,
                inodes=[_file(3000), unfit],
                dropped=[_OTHER],
                entries=[(_BACKUP, b"other", None)],
                extents=[(3000, Extent(0, 1, Piece(1, chunk=_REFERENCE)))],
                touched={_BACKUP},
            )
        )
    assert _dump(path) == before
    journal.apply(Batch(generation=2, next_ino=3000, inodes=[_file(3000)]))
    assert _dump(path) != before


def test_a_batch_applied_twice_is_the_same_as_once(journal: Journal, path: Path) -> None:
    _with_a_tree(journal)
    batch = Batch(
        generation=2,
        next_ino=3000,
        inodes=[_file(3000)],
        dropped=[_ELSEWHERE],
        entries=[(ROOT_INO, b"elsewhere", None), (_BACKUP, b"new", 3000)],
        extents=[(3000, Extent(0, 1, Piece(1, chunk=_REFERENCE)))],
        extents_gone=[(3000, 5)],
        touched={_BACKUP, ROOT_INO},
    )
    journal.apply(batch)
    once = _dump(path)
    journal.apply(batch)
    assert _dump(path) == once


def test_a_change_is_noted_in_every_folder_above_and_in_no_other(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    journal.apply(Batch(2, 2000, touched={_OTHER}))
    assert _changed(reader) == {ROOT_INO: 2, _BACKUP: 2, _OTHER: 2, _FOLDER: 1, _ELSEWHERE: 1}


def test_a_changed_file_is_noted_in_every_folder_that_it_has_a_name_in(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    journal.apply(Batch(2, 2000, inodes=[_file(_FILE, nlink=2)], touched={_FILE}))
    assert _changed(reader) == {ROOT_INO: 2, _BACKUP: 2, _OTHER: 2, _FOLDER: 2, _ELSEWHERE: 1}


def test_a_moved_folder_is_noted_where_it_was_and_where_it_is(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    journal.apply(
        Batch(
            2,
            2000,
            inodes=[_folder(_FOLDER, _ELSEWHERE)],
            entries=[(_BACKUP, b"folder", None), (_ELSEWHERE, b"folder", _FOLDER)],
            touched={_BACKUP, _ELSEWHERE},
        )
    )
    assert _changed(reader) == {ROOT_INO: 2, _BACKUP: 2, _ELSEWHERE: 2, _OTHER: 1, _FOLDER: 1}


def test_inodes_without_a_name_are_removed_at_the_next_start(path: Path) -> None:
    with Journal(path) as journal:
        _with_a_tree(journal)
        extents = [(ino, Extent(0, 1, Piece(1, log=LogPlace(ino, 0)))) for ino in (_FILE, 3000)]
        journal.apply(Batch(2, 4000, inodes=[_file(3000, nlink=0)], extents=extents))
        with journal.reader() as reader:
            assert reader.inode(3000) is not None
    with Journal(path) as journal, journal.reader() as reader:
        assert reader.inode(3000) is None
        assert reader.extents(3000) == []
        assert len(reader.extents(_FILE)) == 1
        assert journal.needed_segments() == {_FILE}
        assert reader.meta("next_ino") == 4000


def test_an_inode_with_a_name_that_counts_no_link_is_left_to_repair(path: Path) -> None:
    with Journal(path) as journal:
        _with_a_tree(journal)
        extents = [(_FILE, Extent(0, 1, Piece(1, log=LogPlace(1, 0))))]
        journal.apply(Batch(2, 4000, inodes=[_file(_FILE, nlink=0)], extents=extents))
    with Journal(path) as journal, journal.reader() as reader:
        assert reader.inode(_FILE) is not None
        assert len(reader.extents(_FILE)) == 1


def test_a_reader_that_began_sees_one_state_whatever_is_committed(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    with journal.reader() as steady:
        steady.begin()
        journal.apply(Batch(2, 2000, dropped=[_FILE], entries=[(_FOLDER, b"file", None)]))
        assert steady.child(_FOLDER, b"file") == _FILE
        assert steady.inode(_FILE) is not None
        assert steady.meta("generation") == 1
        assert reader.child(_FOLDER, b"file") is None


def test_a_reader_can_write_nothing(path: Path, journal: Journal, reader: JournalReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM meta")


def test_a_journal_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    with Journal(path) as journal:
        _with_a_tree(journal)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {journal_schema.VERSION + 1}")
    connection.close()
    before = _dump(path)
    with pytest.raises(StoreVersion, match=r"newer version of Libernet.*install that version"):
        Journal(path).__enter__()
    assert _dump(path) == before


def test_a_journal_of_an_older_version_is_brought_up_to_date(path: Path) -> None:
    with Journal(path) as journal:
        _with_a_tree(journal)
        journal.record_snapshot(_snapshot("a", 1), [])
    as_new = _dump(path)
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE publication; DROP TABLE xattr; DROP TRIGGER snapshot_forgotten;"
            "DROP TABLE snapshot_tag; ALTER TABLE snapshot DROP COLUMN note;"
            "DROP TRIGGER folder_document_forgotten; DROP TABLE folder_page;"
            "DROP TABLE changed_name; ALTER TABLE folder_document DROP COLUMN files;"
            "ALTER TABLE folder_document DROP COLUMN bytes;"
            "ALTER TABLE snapshot DROP COLUMN files; ALTER TABLE snapshot DROP COLUMN bytes;"
            "PRAGMA user_version = 1;"
        )
    connection.close()
    assert _dump(path) != as_new
    with Journal(path):
        pass
    assert _dump(path) == as_new
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (journal_schema.VERSION,)
    connection.close()


def test_extended_attributes_go_at_the_start_with_what_was_open_without_a_name(
    path: Path,
) -> None:
    with Journal(path) as journal:
        _with_a_tree(journal)
        xattrs = {b"user.\xff": b"\0", b"user.a": b""}
        journal.apply(Batch(2, 2000, xattrs={_FILE: xattrs, _FOLDER: xattrs}))
        with journal.reader() as reader:
            file = reader.inode(_FILE)
            assert file is not None
            assert file.has_xattrs
            assert reader.xattrs(_FILE) == xattrs
        without_names = msgspec.structs.replace(file, nlink=0)
        gone = [(_FOLDER, b"file", None), (_OTHER, b"link", None)]
        journal.apply(Batch(3, 2000, inodes=[without_names], entries=gone))
    with Journal(path) as journal, journal.reader() as reader:
        assert reader.xattrs(_FILE) == {}
        assert reader.xattrs(_FOLDER) == xattrs


def test_snapshots_come_back_in_the_order_of_their_publishing(path: Path) -> None:
    recorded = [_snapshot("b", 1), _snapshot("a", 2), _snapshot("a", 2, backup=_ELSEWHERE)]
    with Journal(path) as journal:
        for snapshot in recorded:
            journal.record_snapshot(snapshot, [])
    with Journal(path) as journal, journal.reader() as reader:
        found = reader.snapshots()
    assert found == [replace(each, number=at) for at, each in enumerate(recorded, start=1)]


def test_a_snapshot_whose_name_is_taken_is_refused_with_all_that_came_with_it(
    journal: Journal, path: Path
) -> None:
    _with_a_tree(journal)
    journal.record_snapshot(_snapshot("a", 1), [])
    before = _dump(path)
    with pytest.raises(sqlite3.IntegrityError):
        journal.record_snapshot(_snapshot("a", 1), [FolderDocumentRow(_FOLDER, 1, 1, None)])
    assert _dump(path) == before


def test_a_folders_document_is_known_until_something_at_or_below_it_changes(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    inlined = FolderDocumentRow(_FOLDER, 100, 1, None)
    stored = FolderDocumentRow(_BACKUP, 70_000, 2, _REFERENCE)
    journal.record_snapshot(_snapshot("a", 1), [inlined, stored])
    assert reader.folder_document(_FOLDER) == inlined
    assert reader.folder_document(_BACKUP) == stored
    assert reader.folder_document(_OTHER) is None
    journal.apply(Batch(2, 2000, touched={_OTHER}))
    assert reader.folder_document(_FOLDER) == inlined
    assert reader.folder_document(_BACKUP) is None


def test_nothing_is_noted_of_a_folder_that_went_while_it_was_published(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    rows = [FolderDocumentRow(ino, 100, 1, None) for ino in (_FOLDER, 3333)]
    journal.record_snapshot(_snapshot("a", 1), rows)
    assert reader.rows("SELECT ino FROM folder_document") == [(_FOLDER,)]


def test_a_document_of_an_older_state_than_the_folders_is_not_taken_for_it(
    journal: Journal, reader: JournalReader
) -> None:
    _with_a_tree(journal)
    journal.apply(Batch(2, 2000, touched={_FOLDER}))
    journal.record_snapshot(_snapshot("a", 1), [FolderDocumentRow(_FOLDER, 100, 1, None)])
    assert reader.folder_document(_FOLDER) is None
