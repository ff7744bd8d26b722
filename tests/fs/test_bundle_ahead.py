"""Which small files are brought here, and when."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.documents import Attributes, Document, FileEntry, FolderEntry
from libernet.blocks.entries import PartKeys, PartListKeys, UnixKeys
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.fs.bundle_ahead import SMALL_FILE_BYTES, SmallFiles

FILE = Attributes(0o100644, 0, 0, 0, 0, 0, {})
FOLDER = Attributes(0o040755, 0, 0, 0, 0, 0, {})


def reference(name: str) -> Reference:
    digest = hashlib.sha256(name.encode()).digest()
    return Reference(BlockId(digest), Suite.AES256GCM, digest)


def entry_of(
    contents: Sequence[PartKeys] | None, *, size: int = 100, spilled: bool = False
) -> FileEntry:
    lists = [PartListKeys(size=size, url=str(reference("list")))] if spilled else None
    return FileEntry(
        contents=None if contents is None else list(contents),
        contents_lists=lists,
        modified=0,
        size=size,
        unix=UnixKeys.of(FILE),
    )


def file(name: str, size: int = 100) -> FileEntry:
    return entry_of([PartKeys(size=size, url=str(reference(name)))], size=size)


def document(
    files: dict[str, FileEntry], folders: dict[str, FolderEntry] | None = None
) -> Document:
    named = {name.encode(): entry for name, entry in files.items()}
    inlined = {name.encode(): entry for name, entry in (folders or {}).items()}
    return Document(named, inlined, (), FOLDER)


def brought_by(ahead: SmallFiles, read: FileEntry) -> list[Reference]:
    """Return what is brought when a file is read."""
    return [each for batch in ahead.from_here(read) for each in batch]


class Folder:
    """A folder of *count* small files."""

    def __init__(self, count: int, size: int = 100) -> None:
        self.names = [f"{number:05}" for number in range(count)]
        self._files = {name: file(name, size) for name in self.names}
        self._places = {reference(name).id: place for place, name in enumerate(self.names)}
        self.ahead = SmallFiles(document(self._files))

    def again(self) -> "Folder":
        """Return the same folder, opened anew."""
        self.ahead = SmallFiles(document(self._files))
        return self

    def read(self, place: int) -> list[int]:
        """Return the places of the files that are brought when one is read."""
        found = brought_by(self.ahead, self._files[self.names[place]])
        return [self._places[each.id] for each in found]


FOLDER_OF_MANY = Folder(1500)


def test_who_reads_one_file_gets_that_and_a_few_more() -> None:
    assert Folder(3000).read(0) == list(range(16))
    assert Folder(3000).read(500) == list(range(500, 516))


def test_who_goes_on_gets_more_each_time_up_to_a_limit() -> None:
    folder = Folder(3000)
    windows = [len(found) for place in range(3000) if (found := folder.read(place))]
    assert windows[:5] == [16, 64, 256, 512, 512]
    assert max(windows) == 512


def test_the_next_files_are_brought_half_way_through_the_last_ones() -> None:
    folder = Folder(1000)
    assert folder.read(0) == list(range(16))
    assert [folder.read(place) for place in range(1, 8)] == [[]] * 7
    assert folder.read(8) == list(range(16, 80))
    assert [folder.read(place) for place in range(9, 48)] == [[]] * 39
    assert folder.read(48) == list(range(80, 336))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_a_reader_of_all_files_in_order_is_brought_each_once(count: int) -> None:
    folder = Folder(count)
    brought = [place for read in range(count) for place in folder.read(read)]
    assert brought == list(range(count))


def test_no_more_bytes_are_brought_at_one_time_than_may_be() -> None:
    folder = Folder(2000, size=SMALL_FILE_BYTES)
    most = max(len(folder.read(place)) for place in range(2000))
    assert most * SMALL_FILE_BYTES <= 4 * 1024 * 1024 + SMALL_FILE_BYTES


def test_who_begins_elsewhere_gets_a_few_from_there() -> None:
    folder = Folder(5000)
    for place in range(100):
        folder.read(place)
    assert folder.read(3000) == list(range(3000, 3016))
    assert folder.read(3008) == list(range(3016, 3080))


def test_who_begins_anew_is_brought_what_may_be_gone_again() -> None:
    folder = Folder(2000)
    for place in range(2000):
        folder.read(place)
    assert folder.read(0) == list(range(16))


def test_reading_a_little_back_and_forth_brings_nothing_twice() -> None:
    folder = Folder(2000)
    brought = [
        place
        for start in range(0, 2000, 4)
        for read in (start, start + 3, start + 1, start + 2)
        for place in folder.read(read)
    ]
    assert len(brought) == len(set(brought))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 1499), max_size=60))
def test_whatever_file_is_read_was_brought_before_or_is_now(places: list[int]) -> None:
    folder = FOLDER_OF_MANY.again()
    brought: set[int] = set()
    for place in places:
        found = folder.read(place)
        assert len(found) <= 512
        assert found == sorted(found)
        brought.update(found)
        assert place in brought


def test_files_of_inlined_folders_follow_as_a_walk_finds_them() -> None:
    inner = document({"c": file("c")}, {"z": FolderEntry(FOLDER, document({"d": file("d")}), None)})
    folders = {
        "x": FolderEntry(FOLDER, inner, None),
        "y": FolderEntry(FOLDER, document({"e": file("e")}), None),
        "elsewhere": FolderEntry(FOLDER, None, str(reference("elsewhere"))),
    }
    first = file("a")
    ahead = SmallFiles(document({"b": file("b"), "a": first}, folders))
    assert brought_by(ahead, first) == [reference(name) for name in "abcde"]


def test_large_empty_and_spilled_files_links_and_holes_are_left_out() -> None:
    first = file("a")
    files = {
        "a": first,
        "b": file("b", SMALL_FILE_BYTES + 1),
        "c": entry_of(None, size=0),
        "d": entry_of(None, spilled=True),
        "e": entry_of([PartKeys(size=100)]),
        "f": file("f", SMALL_FILE_BYTES),
    }
    ahead = SmallFiles(document(files))
    assert brought_by(ahead, first) == [reference("a"), reference("f")]
    assert all(ahead.from_here(files[name]) == [] for name in "bcd")


def test_a_malformed_file_does_not_keep_others_from_coming() -> None:
    first = file("a")
    broken = entry_of([PartKeys(size=100, url="/sha256/nonsense")])
    ahead = SmallFiles(document({"a": first, "b": broken, "c": file("c")}))
    assert brought_by(ahead, first) == [reference("a"), reference("c")]


def test_a_file_of_another_document_brings_nothing() -> None:
    assert Folder(10).ahead.from_here(file("00001")) == []
