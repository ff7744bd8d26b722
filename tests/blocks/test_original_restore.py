"""The reader that stands for the original restores what the original itself did."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from libernet.blocks.ids import BlockId
from tests.support.original_bundles import OriginalBundle, digest, original_bundles
from tests.support.original_restore import NotRestored, bundle_keys, restore

_MAIN = [name for name, bundle in original_bundles().items() if bundle.branch == "main"]


def _get(bundle: OriginalBundle, address: str) -> bytes | None:
    return bundle.blocks.get(BlockId.parse(address.removeprefix("/sha256/")))


def _seen(full: bytes) -> dict[str, Any]:
    status = os.lstat(full)
    if stat.S_ISDIR(status.st_mode):
        return {"type": "dir"}
    if stat.S_ISLNK(status.st_mode):
        return {"type": "link", "target": os.readlink(os.fsdecode(full))}
    content = Path(os.fsdecode(full)).read_bytes()
    return {
        "type": "file",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "mtime_ns": status.st_mtime_ns,
        "readonly": not status.st_mode & stat.S_IWUSR,
        "executable": bool(status.st_mode & stat.S_IXUSR),
    }


def _paths(folder: Path) -> dict[bytes, bytes]:
    """Return all below a folder: full paths by relative ones."""
    top = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(above, name), top): os.path.join(above, name)
        for above, folders, files in os.walk(top)
        for name in (*folders, *files)
    }


@pytest.mark.parametrize("name", _MAIN)
def test_a_bundle_is_restored_as_the_original_did(name: str, tmp_path: Path) -> None:
    bundle = original_bundles()[name]
    assert restore(str(bundle.reference), lambda each: _get(bundle, each), str(tmp_path)) == []
    found = _paths(tmp_path)
    if bundle.tree is None:
        files = {path: Path(os.fsdecode(full)) for path, full in found.items()}
        contents = {path: full.read_bytes() for path, full in files.items() if full.is_file()}
        assert digest(contents) == bundle.digest
        return
    assert found.keys() == bundle.tree.keys()
    for path, expected in bundle.tree.items():
        assert {"path_hex": path.hex(), **_seen(found[path])} == expected


def test_nothing_is_restored_where_a_block_is_absent(tmp_path: Path) -> None:
    bundle = original_bundles()["main-simple"]
    [gone] = [each for each in bundle.blocks if each != bundle.reference.id][:1]

    def get(address: str) -> bytes | None:
        return None if address.endswith(str(gone)) else _get(bundle, address)

    assert restore(str(bundle.reference), get, str(tmp_path)) == [f"/sha256/{gone}"]
    assert os.listdir(tmp_path) == []


def test_the_other_branch_is_not_restored(tmp_path: Path) -> None:
    bundle = original_bundles()["rewrite-simple"]
    with pytest.raises(KeyError, match="contents"):
        restore(str(bundle.reference), lambda each: _get(bundle, each), str(tmp_path))
    assert bundle_keys(str(bundle.reference), lambda each: _get(bundle, each)) == bundle.json
    with pytest.raises(NotRestored, match="suite"):
        bundle_keys(f"/sha256/{'0' * 64}/aes256gcm/{'0' * 64}", lambda each: b"x")
