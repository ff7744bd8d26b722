"""Restoring what nobody means well with: never outside the target, and all that is fine arrives."""

import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.reference import Reference
from tests.support.documents import EMPTY, Documents, document, folder_entry
from tests.support.flat_json import serialized
from tests.support.hostile import SECRET, half_hostile_tree, hostile_tops
from tests.support.sharing import SharingNode, sharing_node
from tests.support.streams import cut_stream


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


def _put(node: SharingNode, made: Documents, top: bytes) -> Reference:
    reference = made.put(top)
    for block_id, block in made.blocks.items():
        node.store.put(block_id, block)
    return reference


async def _restore(node: SharingNode, target: Path, **what: str) -> dict[str, Any]:
    async def tell(note: dict[str, Any]) -> None:
        pass

    return await node.telling["restore"]({"target": str(target), **what}, tell)


def _below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def test_a_hostile_bundle_writes_nothing(node: SharingNode, tmp_path: Path) -> None:
    made = Documents()
    target = tmp_path / "beside" / "target"
    target.mkdir(parents=True)
    for name, top in hostile_tops(made).items():
        reference = _put(node, made, top)
        for what in ({"reference": str(reference)}, {"path": str(reference)[1:]}):
            try:
                answer = await _restore(node, target, **what)
            except (LibernetError, OSError):
                continue
            assert list(answer["errors"]) == [str(target)], name
    assert _below(tmp_path / "beside") == {"target"}


async def test_what_is_fine_in_a_half_hostile_tree_is_restored_and_the_rest_is_told(
    node: SharingNode, tmp_path: Path
) -> None:
    made = Documents()
    tree = document(
        {"good": made.file(b"good")} | {"\x1b[2J": made.file(b"moves the cursor")},
        {"half": {"document": _half_hostile(made)}},
    )
    target = tmp_path / "beside" / "target"
    target.mkdir(parents=True)
    answer = await _restore(node, target, reference=str(_put(node, made, serialized(tree))))
    assert {os.path.relpath(path, target) for path in answer["errors"]} == {
        f"half/bad {name}"
        for name in (
            *("middle", "short", "long", "huge", "url", "list"),
            *("up", "newer", "lost", "bytes", "reference", "file as folder"),
        )
    }
    half = target / "half"
    assert (half / "good").read_bytes() == b"good"
    assert (half / "good folder" / "inner").read_bytes() == b"inner"
    assert os.readlink(half / "bad link absolute") == SECRET
    assert not any((half / f"bad {name}").exists() for name in ("middle", "short", "long", "huge"))
    assert os.listdir(tmp_path / "beside") == ["target"]
    descriptor = os.open(half, os.O_RDONLY)
    for name in ["deep", *["a"] * 1500]:  # deeper than a path may be long
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    assert os.listdir(descriptor) == ["bottom"]
    os.close(descriptor)
    # Python's own rmtree, which pytest tidies up with, goes no deeper than it may recurse.
    await trio.run_process(["rm", "-rf", half])


def _half_hostile(made: Documents) -> dict[str, Any]:
    """Return the tree without the folder that has 2**60 folders, which nobody can restore."""
    tree: dict[str, Any] = json.loads(half_hostile_tree(made))
    del tree["directories"]["many"]
    return tree


async def test_pages_that_are_fine_are_restored_beside_a_bad_one(
    node: SharingNode, tmp_path: Path
) -> None:
    made = Documents()
    pages = []
    for first, names in (("a", "ab"), ("c", "cb"), ("e", "ef")):
        files = {name: made.file(name.encode()) for name in names}
        page = made.folder({"version": 1, "files": files})
        pages.append({"first": first, "url": str(page)})
    reference = _put(node, made, serialized(EMPTY | {"pages": pages}))
    answer = await _restore(node, tmp_path / "target", reference=str(reference))
    assert list(answer["errors"]) == [str(tmp_path / "target")]
    assert _below(tmp_path / "target") == {"a", "b", "e", "f"}


async def test_a_folder_that_cannot_be_made_costs_what_is_in_it(
    node: SharingNode, tmp_path: Path
) -> None:
    made = Documents()
    inner = {"document": document({name: made.file(b"lost") for name in "abc"})}
    long = "n" * 250
    top = inner
    for _ in range(18):  # the path of the innermost ones is longer than a path may be
        top = {"document": document({"kept": made.file(b"kept")}, {long: top})}
    reference = _put(node, made, serialized(top["document"]))
    answer = await _restore(node, tmp_path, reference=str(reference))
    [(path, why)] = answer["errors"].items()
    assert (answer["error_count"], why) == (1, os.strerror(errno.ENAMETOOLONG))
    depth = path.count(long)
    assert 10 < depth < 18
    kept = [folder for folder, _, names in os.walk(tmp_path) if names == ["kept"]]
    assert len(kept) == depth


async def test_what_an_address_leads_to_is_restored_by_its_path_in_the_mount(
    node: SharingNode, tmp_path: Path
) -> None:
    made = Documents()
    folder = made.folder(document({"f": made.file(b"content")}))
    top = serialized(document(folders={"d": folder_entry(folder)}))
    reference = str(_put(node, made, top))
    await _restore(node, tmp_path / "tree", path=reference[1:])
    assert (tmp_path / "tree" / "d" / "f").read_bytes() == b"content"
    await _restore(node, tmp_path / "file", path=f"{reference[1:]}/d/f")
    assert (tmp_path / "file" / "f").read_bytes() == b"content"
    [sd_hash, *_], blobs = cut_stream([b"film"])
    for blob_id, blob in blobs.items():
        node.store.put(blob_id, blob)
    for number, path in enumerate((f"sha384/{sd_hash}", f"sha384/{sd_hash}/file")):
        for kind, text in (("path", path), ("reference", f"/{path}")):
            target = tmp_path / f"{kind} {number}"
            await _restore(node, target, **{kind: text})
            assert (target / "file").read_bytes() == b"film"
    for path in ("sha256", reference[1:].rpartition("/")[0], "sha384"):
        with pytest.raises(LibernetError, match="nor an address"):
            await _restore(node, tmp_path / "none", path=path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_an_address_gives_no_rights_to_what_others_made(
    node: SharingNode, tmp_path: Path
) -> None:
    made = Documents()
    unix = EMPTY["unix"] | {"mode": 0o104755, "uid": 7, "gid": 8}
    reference = _put(node, made, serialized(document({"f": made.file(b"#!", unix=unix)})))
    await _restore(node, tmp_path / "target", path=str(reference)[1:])
    found = (tmp_path / "target" / "f").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o755, 0, 0)


async def test_trees_at_addresses_are_compared_by_their_paths_in_the_mount(
    node: SharingNode,
) -> None:
    made = Documents()
    first = _put(node, made, serialized(document({"f": made.file(b"1")})))
    second = _put(node, made, serialized(document({"f": made.file(b"1"), "g": made.file(b"2")})))
    notes: list[dict[str, Any]] = []

    async def tell(note: dict[str, Any]) -> None:
        notes.append(note)

    trees = {"old": str(first)[1:], "new": str(second)[1:]}
    await node.telling["diff"](trees, tell)
    assert notes == [{"found": [{"modifier": "+", "path": "/g"}]}]
