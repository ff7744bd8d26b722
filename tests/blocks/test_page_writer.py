"""A wide folder's document after changes: the same as if all of it had been written anew."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from libernet.blocks import folder_writer
from libernet.blocks.documents import Attributes
from libernet.blocks.folder_writer import ChildFolder, FolderDocument, FolderWriter
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from tests.support.miniature import small_sizes

_FILE = Attributes(0o100644, 1000, 100, 1_700_000_000_123456789)
_FOLDER = replace(_FILE, mode=0o040755)
_NAMES = [b"%03d" % number for number in range(300)]

Folder = dict[bytes, int]
"""What is at each name: a file with a number of nanoseconds, or a folder with one below zero."""

_changes = st.lists(
    st.lists(st.tuples(st.sampled_from(_NAMES), st.none() | st.integers(-5, 99)), max_size=12),
    min_size=1,
    max_size=4,
)


class _Blocks:
    """State: plaintexts that were put."""

    def __init__(self) -> None:
        self.put: list[bytes] = []
        self.writer = FolderWriter(self._put)

    def _put(self, plaintext: bytes) -> Reference:
        self.put.append(plaintext)
        mark = b"%032d" % hash(plaintext)
        return Reference(BlockId(mark), Suite.AES256GCM, mark)

    def entry(self, name: bytes, number: int) -> tuple[bytes, Raw] | ChildFolder:
        if number >= 0:
            return name, self.writer.file(replace(_FILE, mtime_ns=number), 0, [])
        child = self.writer.folder(
            _FOLDER, [(b"%d" % n, self.writer.special(_FILE)) for n in range(-number)], []
        )
        return ChildFolder(
            name=name,
            attributes=_FOLDER,
            json_bytes=child.json_bytes,
            levels=child.levels,
            document=lambda: child.json,
            reference=lambda: self.writer.store(child),
        )

    def written(self, folder: Folder) -> FolderDocument:
        files: list[tuple[bytes, Raw]] = []
        folders: list[ChildFolder] = []
        for name in sorted(folder):
            entry = self.entry(name, folder[name])
            if isinstance(entry, ChildFolder):
                folders.append(entry)
            else:
                files.append(entry)
        return self.writer.folder(_FOLDER, files, folders)

    def renewed(
        self, folder: Folder, former: FolderDocument, changed: set[bytes]
    ) -> FolderDocument | None:
        names = sorted(folder)

        def entries(first: bytes) -> Iterator[tuple[bytes, Raw] | ChildFolder]:
            return (self.entry(name, folder[name]) for name in names[bisect_left(names, first) :])

        return self.writer.renewed(_FOLDER, former.pages, changed, entries)


@given(st.dictionaries(st.sampled_from(_NAMES), st.integers(-5, 99), min_size=60), _changes)
@settings(deadline=None)
def test_what_is_renewed_is_as_if_it_were_written_anew(
    folder: Folder, rounds: list[list[tuple[bytes, int | None]]]
) -> None:
    with small_sizes():
        blocks = _Blocks()
        known = blocks.written(folder)
        for changes in rounds:
            for name, number in changes:
                if number is None:
                    folder.pop(name, None)
                else:
                    folder[name] = number
            renewed = blocks.renewed(folder, known, {name for name, _ in changes})
            known = blocks.written(folder)
            if renewed is None:
                assert not known.pages or len(folder) < folder_writer._MANY_NAMES
            else:
                assert renewed == known


def test_one_change_in_a_wide_folder_stores_a_page_and_looks_at_few_entries() -> None:
    blocks = _Blocks()
    folder = {b"%05d" % number: 1 for number in range(20_000)}
    known = blocks.written(folder)
    assert len(known.pages) > 10
    folder[b"12345"] = 2
    blocks.put.clear()
    renewed = blocks.renewed(folder, known, {b"12345"})
    assert len(blocks.put) == 1
    assert renewed == blocks.written(folder)


def test_a_folder_that_is_wide_no_more_is_not_renewed() -> None:
    blocks = _Blocks()
    folder = {b"%05d" % number: 1 for number in range(10_000)}
    known = blocks.written(folder)
    assert known.pages
    gone = sorted(folder)[3000:]
    for name in gone:
        del folder[name]
    assert blocks.renewed(folder, known, set(gone)) is None
    assert len(blocks.written(folder).json) < MAX_CHUNK_BYTES
