"""Bundles that the original made, opened in a real mount: from this machine, and from another."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from libernet.blocks.ids import BlockId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference, Suite
from libernet.fs import storage
from libernet.fs.places import Places
from tests.support.flat_json import Json, main_file, serialized
from tests.support.node import Node, running
from tests.support.original_bundles import OriginalBundle, digest, original_bundles

_ALONE = ("--bind", "127.0.0.1", "--port", "0")
_LACKING = r"(lookup|readdir|read) failed: .*(nobody|did not come|sub-bundles)"
_BAD = r"(lookup|readdir|read) failed: .*"


def _put(node: Node, blocks: Iterable[tuple[BlockId, bytes]]) -> None:
    """Put blocks into the store of a node that is not mounted."""
    Places.of(node.state).make()
    with storage.opened(node.state) as disk:
        for block_id, block in blocks:
            disk.store.put(block_id, block)
        disk.store.flush()


def _sealed(plaintext: bytes, blocks: dict[BlockId, bytes]) -> Reference:
    reference, block = seal_public(plaintext)
    blocks[reference.id] = block
    return reference


def _file(content: bytes, blocks: dict[BlockId, bytes]) -> Json:
    part = {"size": len(content), "url": str(_sealed(content, blocks))}
    return main_file() | {"contents": [part], "size": len(content)}


def _open(node: Node, reference: Reference, name: str) -> Path:
    shown = node.libernet("open", str(reference), name)
    assert shown == f"{node.mountpoint}/bundles/{name}\n"
    return node.mountpoint / "bundles" / name


def _walk(folder: bytes, above: bytes = b"") -> Iterator[tuple[bytes, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            look = entry.stat(follow_symlinks=False)
            yield above + entry.name, look
            if stat.S_ISDIR(look.st_mode):
                yield from _walk(entry.path, above + entry.name + b"/")


def _assert_shown(original: OriginalBundle, folder: Path) -> None:
    """Check that a folder is what the original restored."""
    root = os.fsencode(folder)
    found = dict(_walk(root))
    files = {
        path: Path(os.fsdecode(os.path.join(root, path))).read_bytes()
        for path, look in found.items()
        if stat.S_ISREG(look.st_mode)
    }
    assert {look.st_uid for look in found.values()} == {os.getuid()}
    if original.tree is None:
        assert digest(files) == original.digest
        return
    assert found.keys() == original.tree.keys()
    for path, expected in original.tree.items():
        look = found[path]
        if expected["type"] == "dir":
            assert stat.S_ISDIR(look.st_mode), path
        elif expected["type"] == "link":
            target = os.readlink(os.path.join(root, path))
            assert (target, look.st_size) == (os.fsencode(expected["target"]), len(target))
        else:
            assert _seen(look, files[path], expected) == _expected(expected), path
            assert _xattrs(os.path.join(root, path)) == expected.get("xattr_hex", {})


def _xattrs(path: bytes) -> dict[str, str]:
    return {name: os.getxattr(path, name).hex() for name in os.listxattr(path)}


def _seen(look: os.stat_result, content: bytes, expected: dict[str, Any]) -> dict[str, Any]:
    return {
        "size": look.st_size,
        "sha256": hashlib.sha256(content).hexdigest(),
        "readonly": not look.st_mode & stat.S_IWUSR,
        "executable": bool(look.st_mode & stat.S_IXUSR),
        "mtime_ns": look.st_mtime_ns if "mtime_ns" in expected else None,
    }


def _expected(entry: dict[str, Any]) -> dict[str, Any]:
    kept = ("size", "sha256", "readonly", "executable", "mtime_ns")
    return {key: entry.get(key) for key in kept}


def test_every_bundle_of_the_originals_is_shown_as_they_restored_it(node: Node) -> None:
    originals = original_bundles()
    _put(node, (block for original in originals.values() for block in original.blocks.items()))
    node.mount(*_ALONE)
    for name, original in originals.items():
        _assert_shown(original, _open(node, original.reference, name))
        if original.tree is not None:
            shown = replace(original.reference, index=True)  # also where there is no key
            _assert_shown(original, node.at(str(shown)))
    node.remount(*_ALONE)
    assert sorted(os.listdir(node.mountpoint / "bundles")) == sorted(originals)
    features = originals["main-features"]
    _assert_shown(features, node.mountpoint / "bundles" / features.name)


@pytest.mark.announces(_LACKING)
def test_bundles_come_from_another_node_and_stay(
    nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> None:
    names = ("main-features", "rewrite-multiblock", "rewrite-oversized", "main-simple-open")
    originals = [original_bundles()[name] for name in names]
    with running(tmp_path / "first", nodes) as first, running(tmp_path / "second", nodes) as second:
        _put(first, (block for original in originals for block in original.blocks.items()))
        first.mount(*_ALONE, "--private-network")
        port = json.loads(first.libernet("peers", "--json"))["listening"]
        second.mount(*_ALONE, "--private-network", "--peer", f"127.0.0.1:{port}")
        for original in originals:
            _assert_shown(original, _open(second, original.reference, original.name))
        first.unmount()
        second.remount(*_ALONE)
        for original in originals:
            _assert_shown(original, second.mountpoint / "bundles" / original.name)


@pytest.mark.announces(_LACKING)
def test_without_a_sub_bundle_what_is_here_is_shown_and_the_rest_is_told(node: Node) -> None:
    blocks: dict[BlockId, bytes] = {}
    late: dict[BlockId, bytes] = {}
    lacking = _sealed(serialized({"files": {"x/b": _file(b"late", blocks)}}), late)
    top = {
        "files": {"x/a": _file(b"here", blocks), "c": _file(b"too", blocks)},
        "bundles": [str(lacking)],
    }
    reference = _sealed(serialized(top), blocks)
    _put(node, blocks.items())
    node.mount(*_ALONE)
    folder = _open(node, reference, "bundle")
    assert (folder / "x" / "a").read_bytes() == b"here"
    for path in ("x/b", "d"):
        with pytest.raises(OSError) as caught:
            (folder / path).stat()
        assert caught.value.errno in {errno.EIO, errno.ETIMEDOUT}
    listed = node.command("ls", folder)
    assert (listed.out, listed.exit_code) == ("c\nx\n", 2)
    assert "reading directory" in listed.err
    found = node.command("find", folder, "-name", "a")
    assert (found.out, found.exit_code) == (f"{folder}/x/a\n", 1)
    copied = node.command("cp", "-a", folder, node.folder / "copy")
    assert (copied.exit_code, "cannot access" in copied.err) == (1, True)
    node.unmount()
    _put(node, late.items())
    node.mount(*_ALONE)
    assert (folder / "x" / "b").read_bytes() == b"late"
    node.run("cp", "-a", folder, node.folder / "second copy")
    assert sorted(os.listdir(node.folder / "second copy" / "x")) == ["a", "b"]
    assert not (folder / "d").exists()


@pytest.mark.announces(_BAD)
def test_a_bad_bundle_is_an_error_of_its_own(node: Node) -> None:
    blocks: dict[BlockId, bytes] = {}
    outside = node.folder / "outside"
    outside.mkdir()
    bad: dict[str, Any] = {
        "up": {"files": {"../outside/x": _file(b"x", blocks)}},
        "absolute": {"files": {f"{outside}/x": _file(b"x", blocks)}},
        "nul": {"files": {"a\0b": main_file()}},
        "empty": {"files": {"": main_file()}},
        "twice": b'{"files":{"a":{"contents":[],"modified":0,"size":0},"a":{}}}',
        "both": {"files": {"a": main_file(), "a/b": main_file()}},
        "negative": {"files": {"a": main_file(size=-1)}},
        "deep": b'{"files":{},"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        "folders": {"files": {}, "directories": {"a/" * 500_000 + "a": None}},
        "newer": {"version": 2, "files": {"a": main_file()}},
        "text": b"no bundle at all",
    }
    opened = {
        name: _sealed(each if isinstance(each, bytes) else serialized(each), blocks)
        for name, each in bad.items()
    }
    good = _sealed(serialized({"files": {"a": _file(b"good", blocks)}}), blocks)
    _put(node, blocks.items())
    node.mount(*_ALONE)
    for name, reference in opened.items():
        folder = _open(node, reference, name)
        for use in (os.listdir, lambda folder: (folder / "a").stat()):
            with pytest.raises(OSError) as caught:
                use(folder)
            assert caught.value.errno == errno.EIO, name
    assert os.listdir(outside) == []
    assert (_open(node, good, "good") / "a").read_bytes() == b"good"


@pytest.mark.announces(_BAD)
def test_a_bad_file_in_a_bundle_is_an_error_of_its_own(node: Node) -> None:
    blocks: dict[BlockId, bytes] = {}
    deep = "a/" * 1500
    files = {
        "good": _file(b"good", blocks),
        "too long": _file(b"1234", blocks) | {"size": 5},
        "too short": _file(b"1234", blocks) | {"size": 3},
        "gone": _file(b"gone", {}),
        "bad url": main_file(1) | {"contents": [{"size": 10, "url": "/etc/passwd"}]},
        deep + "deep": _file(b"deep", blocks),
    }
    links = {"out": "../../../../../etc/passwd", "root": "/"}
    reference = _sealed(serialized({"files": files, "directories": links}), blocks)
    _put(node, blocks.items())
    node.mount(*_ALONE)
    folder = _open(node, reference, "bundle")
    assert sorted(os.listdir(folder)) == sorted({*files, *links, "a"} - {deep + "deep"})
    assert (folder / "good").read_bytes() == b"good"
    for name in ("too long", "too short", "gone", "bad url"):
        with pytest.raises(OSError) as caught:
            (folder / name).read_bytes()
        assert caught.value.errno == errno.EIO, name
    assert os.readlink(folder / "out") == "../../../../../etc/passwd"
    assert os.readlink(folder / "root") == "/"
    with _beneath(folder, deep) as descriptor, open("deep", "rb", opener=_in(descriptor)) as file:
        assert file.read() == b"deep"


@contextlib.contextmanager
def _beneath(folder: Path, path: str) -> Iterator[int]:
    """Open a folder far below another, each by its name: their path is too long for the kernel."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for name in path.rstrip("/").split("/"):
            below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _in(descriptor: int) -> Any:
    return lambda name, flags: os.open(name, flags, dir_fd=descriptor)


def test_a_bundle_under_a_passphrase_opens(node: Node) -> None:
    blocks: dict[BlockId, bytes] = {}
    plaintext = serialized({"files": {"a": _file(b"content", blocks)}})
    key = hashlib.sha256(b"correct horse").digest()
    padder = PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(b"0" * 16)).encryptor()
    block = encryptor.update(padded) + encryptor.finalize()
    blocks[BlockId.of(block)] = block
    reference = Reference(BlockId.of(block), Suite.PASSPHRASE, key)
    _put(node, blocks.items())
    node.mount(*_ALONE)
    folder = _open(node, reference, "secret")
    assert (folder / "a").read_bytes() == b"content"
    assert (node.at(str(reference)) / "a").read_bytes() == b"content"
    shutil.copytree(folder, node.backups / "b")
    assert (node.backups / "b" / "a").read_bytes() == b"content"
