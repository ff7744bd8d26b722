"""Extended attributes in snapshots, shared folders and bundles of the original's."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libernet.blocks.documents import Attributes
from libernet.blocks.errors import BlockCorrupt, BlockNotFound, FormatError
from libernet.blocks.folder_writer import XATTR_SPILL_BYTES, FolderWriter
from libernet.blocks.ids import BlockId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference
from tests.support.caller import Caller
from tests.support.flat_json import Json, main_file, serialized
from tests.support.sharing import SharingNode, sharing_node

_LARGE = os.urandom(XATTR_SPILL_BYTES + 1)
_LARGEST = os.urandom(64 * 1024)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


async def _fill(caller: Caller) -> dict[str, dict[bytes, bytes]]:
    """Make a backup of all kinds of things; return their attributes by path."""
    await caller.mkdir("backups/b")
    await caller.mkdir("backups/b/d")
    await caller.create("backups/b/d/f", b"content")
    await caller.link("backups/b/d/f", "backups/b/d/g")
    await caller.symlink("backups/b/l", "d")
    await caller.make("backups/b/p", stat.S_IFIFO | 0o644)
    await caller.create("backups/b/none")
    shown = {
        "": {b"user.top": b"", b"user.large": _LARGE},
        "d": {b"user.\xff/": b"\0\xff", b"user.largest": _LARGEST},
        "d/f": {b"security.x": b"1", b"trusted.y": _LARGE, b"user.z": b"2"},
        "l": {b"trusted.l": b"of a link"},
        "p": {b"security.p": _LARGE},
        "none": {},
    }
    for path, xattrs in shown.items():
        for name, value in xattrs.items():
            await caller.set_xattr(f"backups/b/{path}".rstrip("/"), name, value)
    return shown | {"d/g": shown["d/f"]}


async def _shown(caller: Caller, top: str, paths: list[str]) -> dict[str, dict[bytes, bytes]]:
    return {path: await caller.xattrs(f"{top}/{path}".rstrip("/")) for path in paths}


async def test_a_snapshot_and_a_shared_folder_show_what_the_backup_had(node: SharingNode) -> None:
    expected = await _fill(node.caller)
    await node.command("snapshot", name="b")
    shared = await node.share("backups/b/d")
    reference = (await node.command("snapshot", name="b"))["reference"]
    for path in ("", "d/f"):
        await node.caller.remove_xattr(f"backups/b/{path}".rstrip("/"), next(iter(expected[path])))
    [latest] = [name for name in await node.caller.names("snapshots/b") if name != "latest"]
    await node.open(Reference.parse(reference), "opened")
    for top in (f"snapshots/b/{latest}", "bundles/opened", reference.removeprefix("/")):
        assert await _shown(node.caller, top, list(expected)) == expected
    below = {path.removeprefix("d/"): expected[path] for path in ("d/f", "d/g")}
    below[""] = expected["d"]
    assert await _shown(node.caller, str(shared)[1:], list(below)) == below


async def test_a_collection_keeps_large_values(node: SharingNode) -> None:
    expected = await _fill(node.caller)
    reference = (await node.command("snapshot", name="b"))["reference"].removeprefix("/")
    for name in expected["d"]:
        await node.caller.remove_xattr("backups/b/d", name)
    await node.command("snapshot", name="b")
    await node.command("gc", dry_run=False)
    assert await _shown(node.caller, reference, list(expected)) == expected


@pytest.mark.announces("is gone|is damaged")
async def test_a_value_that_is_not_here_is_an_error_of_its_own(node: SharingNode) -> None:
    expected = await _fill(node.caller)
    reference = (await node.command("snapshot", name="b"))["reference"].removeprefix("/")
    block = next(
        file
        for file in (node.settings.mountpoint.parent / "store" / "blocks").rglob("*")
        if file.is_file() and abs(file.stat().st_size - len(_LARGEST)) < 1000
    )
    good = block.read_bytes()
    block.write_bytes(bytes(len(good)))
    node.broken |= {"block-missing"}
    with pytest.raises(BlockCorrupt):
        await node.caller.xattrs(f"{reference}/d")
    with pytest.raises(BlockNotFound):
        await node.caller.xattrs(f"{reference}/d")
    async with node.caller.at(f"{reference}/d") as ino:
        names = await node.node.namespace.xattr_names(ino, is_root=True)
        assert names == sorted(expected["d"])
        assert await node.node.namespace.xattr(ino, b"user.\xff/") == b"\0\xff"
        assert await node.node.namespace.xattr(ino, b"user.none") is None
    assert await node.caller.read(f"{reference}/d/f") == b"content"
    node.store.put(BlockId.parse(block.name), good)
    assert await node.caller.xattrs(f"{reference}/d") == expected["d"]


def _sealed(node: SharingNode, plaintext: bytes) -> str:
    reference, block = seal_public(plaintext)
    node.store.put(reference.id, block)
    return str(reference)


async def _opened(node: SharingNode, files: Json) -> str:
    bundle = serialized({"files": files, "timestamp": 0.0})
    return "bundles/" + await node.open(Reference.parse(_sealed(node, bundle)), "flat")


async def test_bundles_of_the_original_show_theirs(node: SharingNode) -> None:
    url = _sealed(node, b"value")
    xattr = {"user.a": url, "user.\udcff": url, "user.empty": _sealed(node, b"")}
    unknown = {"com.apple.x": url, "system.x": url, "user.": url}
    files = {"f": main_file(xattr=xattr | unknown), "l": main_file(link="f", xattr=xattr)}
    top = await _opened(node, files | {"none": main_file()})
    shown = {b"user.a": b"value", b"user.\xff": b"value", b"user.empty": b""}
    assert await node.caller.xattrs(f"{top}/f") == shown
    for path in (top, f"{top}/l", f"{top}/none"):
        assert await node.caller.xattrs(path) == {}


async def test_nonsense_in_one_files_attributes_harms_no_other(node: SharingNode) -> None:
    url = _sealed(node, b"value")
    too_long = _sealed(node, bytes(64 * 1024 + 1))
    top = await _opened(
        node,
        {
            "bad": main_file(xattr={"user.a": url, "user.b": "/sha256/x"}),
            "long": main_file(xattr={"user.a": url, "user.b": too_long}),
            "good": main_file(xattr={"user.a": url}),
        },
    )
    assert await node.caller.names(top) == ["bad", "good", "long"]
    for path in ("bad", "long"):
        with pytest.raises(FormatError):
            await node.caller.xattrs(f"{top}/{path}")
    assert await node.caller.read(f"{top}/bad") == b""
    assert await node.caller.xattrs(f"{top}/good") == {b"user.a": b"value"}


async def test_a_document_of_ours_cannot_bring_what_linux_does_not_know(node: SharingNode) -> None:
    xattr = {b"user.a": b"1", b"nonsense": b"2", b"user.": b"3", b"system.other": b"4"}
    attributes = Attributes(stat.S_IFLNK | 0o777, 0, 0, 0, xattr=xattr)
    folder = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, xattr=xattr)

    def put(plaintext: bytes) -> Reference:
        return Reference.parse(_sealed(node, plaintext))

    writer = FolderWriter(put)
    document = writer.folder(folder, [(b"l", writer.link(attributes, b"x"))], [])
    top = "bundles/" + await node.open(writer.store(document), "ours")
    assert await node.caller.xattrs(top) == {b"user.a": b"1"}
    assert await node.caller.xattrs(f"{top}/l") == {}
