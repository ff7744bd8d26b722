"""What is written flat is what the original writes, and what it restores."""

import copy
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Buffer

from libernet.blocks import flat_writer
from libernet.blocks.errors import LibernetError
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_tree import FlatTree
from libernet.blocks.flat_writer import FlatFile, FlatWriter, lacks_room, parts_of
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import unseal
from tests.support.original_bundles import OriginalBundle, original_bundles
from tests.support.original_restore import bundle_keys, restore, whole_files

_NOWHERE = Reference(BlockId(b"1" * 32), Suite.AES256, b"2" * 32)
_EPOCH = 978_307_200
_FLAT = [
    f"main-{name}" for name in ("simple", "simple-open", "simple-second", "features", "multiblock")
]


class Written:
    """Blocks in memory, and the writer that puts them there."""

    def __init__(self) -> None:
        self.blocks: dict[BlockId, bytes] = {}
        self.writer = FlatWriter(self._put)

    def _put(self, block_id: BlockId, block: Buffer) -> None:
        self.blocks[block_id] = bytes(block)

    def get(self, address: str) -> bytes | None:
        return self.blocks.get(BlockId.parse(address.removeprefix("/sha256/")))

    def file(
        self, content: bytes, mtime_ns: int = 0, mode: int = 0o644, link: bytes | None = None
    ) -> FlatFile:
        chunks = [content[offset : offset + size] for offset, size in parts_of(len(content))]
        return FlatFile(len(content), mtime_ns, mode, [*map(self.writer.store, chunks)], link)

    def write(self, index: bytes | None = None) -> str:
        reference, left_out = self.writer.write(index)
        assert left_out == []
        return str(reference)

    def keys(self, url: str) -> dict[str, Any]:
        return bundle_keys(url, self.get)


def _file(part_count: int = 0, *, link: bytes | None = None) -> FlatFile:
    """Return a file whose parts are nowhere."""
    size = part_count * MAX_PUBLIC_CHUNK_BYTES
    return FlatFile(size, 0, 0o644, [_NOWHERE] * part_count, link)


def _content(original: OriginalBundle, keys: dict[str, Any]) -> bytes:
    references = [Reference.parse(part["url"]) for part in keys["contents"]]
    return b"".join(unseal(each, original.blocks[each.id]) for each in references)


@pytest.mark.parametrize("name", _FLAT)
def test_the_same_tree_gives_the_document_that_the_original_wrote(name: str) -> None:
    original = original_bundles()[name]
    assert original.json is not None
    written = Written()
    for text, keys in reversed(original.json["files"].items()):
        mode = 0o644 & ~(stat.S_IWUSR if keys.get("readonly") else 0)
        mode |= stat.S_IXUSR if keys.get("executable") else 0
        mtime_ns = round((keys["modified"] + _EPOCH) * 1000) * 10**6
        link = os.fsencode(keys["link"]) if "link" in keys else None
        file = written.file(_content(original, keys), mtime_ns, mode, link)
        written.writer.add_file(os.fsencode(text), file)
    for text, link in original.json.get("directories", {}).items():
        written.writer.add_folder(os.fsencode(text), None if link is None else os.fsencode(link))
    found = written.keys(written.write())
    expected = {key: value for key, value in original.json.items() if key != "prior"}
    assert _without_ids(found) == _without_ids(expected)
    for text, keys in expected["files"].items():
        for part, its in zip(keys["contents"], found["files"][text]["contents"], strict=True):
            theirs = original.blocks[Reference.parse(part["url"]).id]
            if len(theirs) > part["size"]:  # not deflated, so nothing depends on the library
                assert its == part


def _without_ids(keys: dict[str, Any]) -> str:
    """Return the text of a document in which parts are named by their keys alone."""
    keys = copy.deepcopy(keys)
    for file in keys["files"].values():
        for part in file["contents"]:
            part["url"] = part["url"].rpartition("/")[2]
    return json.dumps(keys, sort_keys=True)


def test_a_document_is_written_as_the_original_writes_json() -> None:
    written = Written()
    written.writer.add_folder(b"z")
    written.writer.add_file(b"a\xff/\xc3\xa9", written.file(b""))
    reference = Reference.parse(written.write(b"i"))
    text = unseal(reference, written.blocks[reference.id])
    assert text == (
        rb'{"directories":{"z":null},"files":{"a\udcff/\u00e9":{"contents":[],'
        rb'"modified":-978307200.0,"size":0}},"index":"i"}'
    )


_NAMES = st.binary(min_size=1, max_size=6).filter(
    lambda name: not set(name) & set(b"\0/") and name not in {b".", b".."}
)
_TREES = st.recursive(
    st.binary(max_size=40), lambda below: st.dictionaries(_NAMES, below, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


@given(tree=_TREES)
@settings(deadline=None)
def test_what_is_written_is_restored(tree: dict[bytes, Any]) -> None:
    written = Written()
    expected: dict[bytes, bytes | None] = {}
    waiting = [(b"", tree)]
    while waiting:
        above, folder = waiting.pop()
        for name, entry in folder.items():
            path = above + name
            if isinstance(entry, dict):
                written.writer.add_folder(path)
                waiting.append((path + b"/", entry))
                expected[path] = None
            else:
                written.writer.add_file(path, written.file(entry))
                expected[path] = entry
    url = written.write()
    assert _restored(written, url) == expected
    assert written.writer.blocks == written.blocks.keys()


def _restored(written: Written, url: str) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    with tempfile.TemporaryDirectory() as target:
        assert restore(url, written.get, target) == []
        top = os.fsencode(target)
        for above, folders, files in os.walk(top):
            for name in folders:
                found[os.path.relpath(os.path.join(above, name), top)] = None
            for name in files:
                path = os.path.join(above, name)
                found[os.path.relpath(path, top)] = Path(os.fsdecode(path)).read_bytes()
    return found


def test_what_does_not_fit_stands_in_sub_bundles_of_files_only() -> None:
    written = Written()
    paths = [f"folder {number % 7}/a file called {number}" for number in range(20_000)]
    shared = written.file(b"the same in all", 7)
    for path in paths:
        written.writer.add_file(path.encode(), shared)
    written.writer.add_folder(b"empty")
    url = written.write(b"index.html")
    top = written.keys(url)
    assert len(top["bundles"]) >= 4
    assert top["directories"] == {"empty": None}
    assert top["index"] == "index.html"
    for each in top["bundles"]:
        sub = written.keys(each)
        assert sub.keys() == {"files"}
        reference = Reference.parse(each)
        length = len(unseal(reference, written.blocks[reference.id]))
        assert 0.99 * MAX_PUBLIC_CHUNK_BYTES < length <= MAX_PUBLIC_CHUNK_BYTES
    files = whole_files(top, written.get)
    assert sorted(files) == sorted(paths)
    assert set(map(json.dumps, files.values())) == {json.dumps(files[paths[0]])}
    assert _our_count(written, url) == len(paths) + 8


def _our_count(written: Written, url: str) -> int:
    """Return how many entries our own reader finds."""

    def text(reference: Reference) -> bytes:
        return unseal(reference, written.blocks[reference.id])

    top = parse_bundle(text(Reference.parse(url)), (0, 0))
    assert isinstance(top, FlatBundle)
    tree = FlatTree(Reference.parse(url), top)
    for each in tree.pending:
        tree.add(each, parse_sub_bundle(text(each), (0, 0), tree.document.attributes))
    return tree.entries


@pytest.mark.parametrize("path", [b"f", b"\xff" * 200, "ü".encode() * 2000])
def test_a_file_has_as_many_parts_as_fit_in_one_document(path: bytes) -> None:
    most = _most(lambda count: lacks_room(path, count * MAX_PUBLIC_CHUNK_BYTES) is None)
    assert 6000 < most < 6200  # six gigabytes
    written = Written()
    written.writer.add_file(b"before", _file())
    written.writer.add_file(path, _file(most))
    written.writer.add_file(b"behind", _file())
    files = whole_files(written.keys(written.write()), written.get)
    assert len(files[os.fsdecode(path)]["contents"]) == most
    assert files.keys() == {"before", "behind", os.fsdecode(path)}
    too_large = (most + 1) * MAX_PUBLIC_CHUNK_BYTES
    assert f"{too_large} bytes" in (lacks_room(path, too_large) or "")


def _most(fits: Callable[[int], bool]) -> int:
    low, high = 0, 10_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def test_a_path_longer_than_linux_knows_has_no_room() -> None:
    assert lacks_room(b"a/" * 2047 + b"b") is None
    assert "4095" in (lacks_room(b"a/" * 2047 + b"bc") or "")
    assert lacks_room("ü".encode() * 4095) is None


def test_folders_that_do_not_fit_are_told() -> None:
    written = Written()
    paths = [b"%06d" % number + b"x" * 200 for number in range(10_000)]
    written.writer.add_file(b"file", _file())
    for path in reversed(paths):
        written.writer.add_folder(path, b"to" if path.startswith(b"0000") else None)
    reference, left_out = written.writer.write()
    assert len(unseal(reference, written.blocks[reference.id])) > 0.999 * MAX_PUBLIC_CHUNK_BYTES
    top = written.keys(str(reference))
    kept = len(top["directories"])
    assert sorted(top["directories"]) == [path.decode() for path in paths[:kept]]
    assert left_out == paths[kept:]
    assert whole_files(top, written.get).keys() == {"file"}


def test_more_than_can_be_read_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_writer, "MAX_ENTRIES", 3)
    written = Written()
    written.writer.add_folder(b"one")
    written.writer.add_folder(b"two", b"one")
    written.writer.add_file(b"three", _file())
    with pytest.raises(LibernetError, match="at most 3"):
        written.writer.add_file(b"four", _file())


def test_more_sub_bundles_than_can_be_read_again_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flat_writer, "MAX_SUB_BUNDLES", 1)
    written = Written()
    written.writer.add_file(b"1", _file(4000))
    written.writer.add_file(b"2", _file(4000))
    with pytest.raises(LibernetError, match="sub-bundles"):
        written.writer.add_file(b"3", _file(4000))


def test_equal_trees_give_equal_bundles() -> None:
    def url() -> str:
        written = Written()
        written.writer.add_file(b"a", written.file(hashlib.sha256(b"a").digest(), 5))
        written.writer.add_folder(b"b")
        return written.write()

    assert url() == url()
