"""All bundles that the original made are read, file for file."""

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from libernet.blocks.documents import Document
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.flat_tree import FlatTree
from libernet.blocks.missing import missing
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import unseal
from tests.support.original_bundles import OriginalBundle, digest, original_bundles

OWNER = (1000, 100)
NAMES = [
    *(f"main-{name}" for name in ("simple", "simple-open", "simple-second", "features")),
    *("main-multiblock", "main-oversized"),
    *(f"rewrite-{name}" for name in ("simple", "simple-second", "features-index-xattr")),
    *("rewrite-multiblock", "rewrite-oversized"),
]


@pytest.fixture(params=NAMES)
def original(request: pytest.FixtureRequest) -> OriginalBundle:
    return original_bundles()[request.param]


def plaintext(original: OriginalBundle, reference: Reference) -> bytes:
    return unseal(reference, original.blocks[reference.id])


def top_of(original: OriginalBundle) -> FlatBundle:
    bundle = parse_bundle(plaintext(original, original.reference), OWNER)
    assert isinstance(bundle, FlatBundle)
    return bundle


def tree_of(original: OriginalBundle) -> FlatTree:
    tree = FlatTree(original.reference, top_of(original))
    waiting = tree.pending
    assert waiting == original.sub_bundles
    while waiting:
        reference = waiting.pop()
        text = plaintext(original, reference)
        waiting += tree.add(reference, parse_sub_bundle(text, OWNER, tree.document.attributes))
    return tree


def entries(document: Document, above: bytes = b"") -> Iterator[tuple[bytes, FlatEntry | None]]:
    for name, entry in document.files.items():
        assert isinstance(entry, FlatEntry)
        yield above + name, entry
    for name, folder in document.folders.items():
        yield above + name, None
        assert folder.document is not None
        yield from entries(folder.document, above + name + b"/")


def content(original: OriginalBundle, entry: FlatEntry) -> bytes:
    chunks = []
    for part in entry.parts():
        assert part.reference is not None
        chunks.append(plaintext(original, part.reference))
        assert len(chunks[-1]) == part.size
    return b"".join(chunks)


def test_all_vectors_are_here() -> None:
    assert original_bundles().keys() == set(NAMES)


def test_a_bundle_is_read_file_for_file(original: OriginalBundle) -> None:
    found = dict(entries(tree_of(original).document))
    if original.tree is None:
        files = {path: content(original, entry) for path, entry in found.items() if entry}
        assert digest(files) == original.digest
        return
    assert found.keys() == original.tree.keys()
    for path, expected in original.tree.items():
        assert _seen(original, found[path], expected) == _expected(expected), path


def _seen(
    original: OriginalBundle, entry: FlatEntry | None, expected: dict[str, Any]
) -> dict[str, Any]:
    """Return what a vector says of an entry, found in the bundle."""
    if entry is None:
        return {"type": "dir"}
    attributes = entry.attributes()
    if stat.S_ISLNK(attributes.mode):
        return {"type": "link", "target": entry.target()}
    whole = content(original, entry)
    xattr = {
        os.fsdecode(name): plaintext(original, reference).hex()
        for name, reference in attributes.xattr_urls.items()
    }
    return {
        "type": "file",
        "size": entry.size,
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "mtime_ns": attributes.mtime_ns if "mtime_ns" in expected else None,
        "mode": stat.S_IMODE(attributes.mode),
        "xattr": xattr,
    }


def _expected(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["type"] == "dir":
        return {"type": "dir"}
    if entry["type"] == "link":
        return {"type": "link", "target": os.fsencode(entry["target"])}
    mode = (0o444 if entry["readonly"] else 0o644) | (0o111 if entry["executable"] else 0)
    return {
        "type": "file",
        "size": entry["size"],
        "bytes": entry["size"],
        "sha256": entry["sha256"],
        "mtime_ns": entry.get("mtime_ns"),
        "mode": mode,
        "xattr": entry.get("xattr_hex", {}),
    }


def test_what_stands_beside_the_files_is_read(original: OriginalBundle) -> None:
    top = top_of(original)
    assert top.is_rewrite == (original.branch == "rewrite")
    assert (original.reference.suite is Suite.PLAIN) == original.name.endswith("-open")
    if original.json is not None:
        index = original.json.get("index")
        assert top.index == (None if index is None else index.encode())
        previous = original.json.get("previous") or original.json.get("prior")
        assert (None if top.previous is None else str(top.previous)) == previous


def test_with_all_its_blocks_nothing_of_a_bundle_is_missing(original: OriginalBundle) -> None:
    def read(reference: Reference) -> bytes:
        return plaintext(original, reference)

    assert missing(original.reference, [], original.blocks.__contains__, read) == []
    assert missing(original.reference, [b"no such"], original.blocks.__contains__, read) is None


def test_each_block_that_is_gone_is_missing(original: OriginalBundle) -> None:
    for gone in original.blocks:
        here = original.blocks.keys() - {gone}

        def read(reference: Reference, here: set[Any] = here) -> bytes:
            assert reference.id in here
            return plaintext(original, reference)

        found = missing(original.reference, [], here.__contains__, read)
        if _is_needed(original, gone):
            assert found == [f"/sha256/{gone}"]
        else:
            assert found == []


def _is_needed(original: OriginalBundle, block_id: bytes) -> bool:
    """Say whether the bundle leads to a block: an older version of it stands beside some."""
    needed = {original.reference.id, *(each.id for each in original.sub_bundles)}
    for _, entry in entries(tree_of(original).document):
        if entry is not None:
            needed |= {part.reference.id for part in entry.parts() if part.reference}
            needed |= {each.id for each in entry.attributes().xattr_urls.values()}
    return block_id in needed
