"""Publishing flat: what the original restores, what is left out and told, and what stays."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libernet.blocks.errors import BlockNotFound, FormatError, LibernetError, StoreFull
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.fs.publications import Kind
from libernet.fs.tree import Changes
from tests.support.caller import unlinked
from tests.support.original_restore import bundle_keys, restore
from tests.support.sharing import SharingNode, sharing_node
from tests.support.tree import picture

_MIB = 1024 * 1024
_LARGE = os.urandom(2 * _MIB + 17)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        await running.caller.mkdir("backups/b")
        yield running


async def _publish(node: SharingNode, path: str = "backups/b", **options: Any) -> str:
    """Publish what leaves nothing out; return the reference."""
    answer = await node.command("publish-flat", path=path, **options)
    assert answer["left_out"] == {}
    reference: str = answer["reference"]
    return reference


async def _left_out(node: SharingNode, path: str = "backups/b") -> tuple[str, dict[str, str]]:
    answer = await node.command("publish-flat", path=path)
    return answer["reference"], answer["left_out"]


async def _refusal(node: SharingNode, path: str, **options: Any) -> str:
    with pytest.raises(LibernetError) as caught:
        await node.command("publish-flat", path=path, **options)
    assert node.node.publications.all() == []
    return str(caught.value)


def _restored(node: SharingNode, reference: str, target: Path) -> list[str]:
    """Restore with what the node would send; return all paths."""

    def get(address: str) -> bytes | None:
        try:
            return node.store.get(BlockId.parse(address.removeprefix("/sha256/")))
        except BlockNotFound:
            return None

    target.mkdir()
    assert restore(reference, get, str(target)) == []
    return sorted(os.fsdecode(path) for path in picture(target, top=False))


def _keys(node: SharingNode, reference: str) -> dict[str, Any]:
    return bundle_keys(
        reference, lambda each: node.store.get(BlockId.parse(each.removeprefix("/sha256/")))
    )


async def test_a_folder_is_restored_by_the_original(node: SharingNode, tmp_path: Path) -> None:
    caller = node.caller
    await caller.mkdir("backups/b/docs")
    await caller.mkdir("backups/b/docs/empty")
    await caller.create("backups/b/large", _LARGE, 0o600)
    await caller.create("backups/b/docs/run", b"#!/bin/sh", 0o755)
    await caller.create("backups/b/docs/read \udcff only", b"fixed", 0o444)
    await caller.create("backups/b/docs/nothing")
    await caller.symlink("backups/b/to a file", "docs/run")
    await caller.symlink("backups/b/docs/to a folder", "../docs/empty")
    await caller.change("backups/b/docs/run", Changes(mtime_ns=1_700_000_000_000_000_000))
    reference = Reference.parse(await _publish(node))
    assert reference.suite is Suite.AES256

    target = tmp_path / "restored"
    found = _restored(node, str(reference), target)
    inside = [
        f"docs/{name}" for name in ("empty", "nothing", "read \udcff only", "run", "to a folder")
    ]
    assert found == sorted(["docs", *inside, "large", "to a file"])
    assert (target / "large").read_bytes() == _LARGE
    assert (target / "docs" / "read \udcff only").read_bytes() == b"fixed"
    assert (target / "docs" / "read \udcff only").stat().st_mode & 0o777 == 0o444
    status = (target / "docs" / "run").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o755, 1_700_000_000_000_000_000)
    assert os.readlink(target / "to a file") == "docs/run"
    assert os.readlink(target / "docs" / "to a folder") == "../docs/empty"
    assert _keys(node, str(reference))["directories"] == {
        "docs/empty": None,
        "docs/to a folder": "../docs/empty",
    }


async def test_it_is_a_folder_of_the_mount_too(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b/docs")
    await node.caller.create("backups/b/docs/large", _LARGE)
    await node.caller.create("backups/b/small", b"small", 0o755)
    reference = await _publish(node)
    shown = unlinked(await node.caller.picture(reference[1:]))
    expected = unlinked(await node.caller.picture("backups/b"))
    assert {path: (seen.mode, seen.content) for path, seen in shown.items()} == {
        path: (seen.mode, seen.content) for path, seen in expected.items()
    }


async def test_a_single_file_and_a_folder_below(node: SharingNode, tmp_path: Path) -> None:
    await node.caller.mkdir("backups/b/docs")
    await node.caller.create("backups/b/docs/file", b"content")
    await node.caller.create("backups/b/beside", b"secret")
    for path in ("backups/b/docs", "backups/b/docs/file"):
        found = _restored(node, await _publish(node, path), tmp_path / path.replace("/", "-"))
        assert found == ["file"]


async def test_a_sparse_file_has_zeros(node: SharingNode, tmp_path: Path) -> None:
    await node.caller.create("backups/b/sparse", b"begin")
    await node.caller.truncate("backups/b/sparse", 3 * _MIB)
    _restored(node, await _publish(node), tmp_path / "restored")
    assert (tmp_path / "restored" / "sparse").read_bytes() == b"begin".ljust(3 * _MIB, b"\0")


@pytest.mark.parametrize(
    ("target", "is_kept"),
    [
        ("docs/file", True),
        ("docs", True),
        (".", True),
        ("docs/../docs//file", True),
        ("docs/up/docs/file", True),
        ("to docs/file", True),
        ("docs/file/", False),
        ("docs/file/..", False),
        ("nowhere", False),
        ("..", False),
        ("../b/docs/file", False),
        ("/etc/passwd", False),
        ("fifo", False),
        ("itself", False),
        ("to outside/passwd", False),
    ],
)
async def test_a_link_is_kept_where_it_leads_to_what_is_published_with_it(
    node: SharingNode, tmp_path: Path, target: str, is_kept: bool
) -> None:
    caller = node.caller
    await caller.mkdir("backups/b/docs")
    await caller.create("backups/b/docs/file", b"content")
    await caller.symlink("backups/b/docs/up", "..")
    await caller.symlink("backups/b/to docs", "docs")
    await caller.symlink("backups/b/to outside", "/etc")
    await caller.make("backups/b/fifo", stat.S_IFIFO | 0o600)
    name = "itself" if target == "itself" else "link"
    await caller.symlink(f"backups/b/{name}", target)
    reference, left_out = await _left_out(node)
    assert left_out.keys() == {"to outside", "fifo", *([] if is_kept else [name])}
    assert "neither file" in left_out["fifo"]
    assert "link to no file" in left_out["to outside"]
    found = _restored(node, reference, tmp_path / "restored")
    assert (name in found) is is_kept
    if is_kept:
        assert (tmp_path / "restored" / name).exists()


async def test_what_is_too_large_or_too_deep_is_left_out(node: SharingNode, tmp_path: Path) -> None:
    caller = node.caller
    await caller.create("backups/b/huge")
    await caller.truncate("backups/b/huge", 7 * 1024**3)
    await caller.symlink("backups/b/link", "huge")
    await caller.create("backups/b/small", b"small")
    folder = "backups/b"
    for _ in range(17):
        folder += "/" + "d" * 250
        await caller.mkdir(folder)
    reference, left_out = await _left_out(node)
    assert left_out.keys() == {"huge", "link", folder.removeprefix("backups/b/")}
    assert "4095 characters" in left_out[folder.removeprefix("backups/b/")]
    assert str(7 * 1024**3) in left_out["huge"]
    target = tmp_path / "restored"
    os.chdir(tmp_path)  # the deepest path fits only where it is relative
    found = _restored(node, reference, Path(os.path.relpath(target)))
    assert len(found) == 17
    assert "small" in found


async def test_the_index_is_a_file_in_the_top_folder(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b/docs")
    await node.caller.create("backups/b/docs/below", b"")
    await node.caller.create("backups/b/index.html", b"<p>")
    for wrong in ("docs", "docs/below", "nothing", ""):
        assert "is no file" in await _refusal(node, "backups/b", index=wrong)
    with pytest.raises(FormatError):
        await node.command("publish-flat", path="backups/b", index=7)
    reference = await _publish(node, index="index.html")
    assert _keys(node, reference)["index"] == "index.html"


async def test_snapshots_and_opened_bundles_are_published_too(node: SharingNode) -> None:
    await node.caller.create("backups/b/file", b"old")
    first = await _publish(node)
    version = (await node.command("snapshot", name="b"))["published"]
    await node.caller.write("backups/b/file", 0, b"new")
    second = await _publish(node)
    assert len({first, second}) == 2
    assert await _publish(node, f"snapshots/b/{version}") == first
    assert await _publish(node, "snapshots/b/latest") == second
    name = await node.open(Reference.parse(first))
    third = await _publish(node, f"bundles/{name}")
    assert await node.caller.read(f"{third[1:]}/file") == b"old"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("backups", "neither a backup"),
        ("snapshots/b", "neither a backup"),
        ("sha256", "neither a backup"),
        (".", "neither a backup"),
        ("backups/other", "there is no 'backups/other'"),
        ("backups/b/nothing", "there is no"),
        ("backups/b/file/below", "no folder"),
        ("bundles/nothing", "there is no"),
        ("backups/b/fifo", "neither file"),
    ],
)
async def test_what_cannot_be_published_is_told(
    node: SharingNode, path: str, sentence: str
) -> None:
    await node.caller.create("backups/b/file", b"content")
    await node.caller.make("backups/b/fifo", stat.S_IFIFO | 0o600)
    assert sentence in await _refusal(node, path)


async def test_a_publication_is_announced_kept_and_spoken_of(
    node: SharingNode, tmp_path: Path
) -> None:
    await node.caller.create("backups/b/large", _LARGE)
    reference = Reference.parse(await _publish(node))
    assert node.announced[-1] == reference.id
    assert node.node.published().count(reference.id) == 1
    assert reference.id in [block_id for block_id, _ in node.store.like.best(reference.id)]
    [publication] = node.node.publications.all()
    assert (publication.path, publication.kind) == (b"backups/b", Kind.FLAT)
    assert await _publish(node) == str(reference)
    assert len(node.node.publications.all()) == 1

    await node.caller.unlink("backups/b/large")
    await node.command("gc")
    _restored(node, str(reference), tmp_path / "restored")
    assert (tmp_path / "restored" / "large").read_bytes() == _LARGE


async def test_a_publication_is_announced_again_after_a_restart(tmp_path: Path) -> None:
    async with sharing_node(tmp_path / "node") as node:
        await node.caller.mkdir("backups/b")
        reference = Reference.parse(await _publish(node))
    async with sharing_node(tmp_path / "node") as node:
        assert reference.id in node.announced


async def test_nothing_is_published_that_is_not_durable(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.caller.create("backups/b/file", b"content")
    await node.command("snapshot", name="b")
    announced = list(node.announced)

    def full() -> None:
        raise StoreFull("no space is left")

    monkeypatch.setattr(node.store, "flush", full)
    assert "no space" in await _refusal(node, "backups/b")
    assert node.announced == announced
    monkeypatch.undo()


async def test_a_block_that_is_not_here_is_an_error(node: SharingNode) -> None:
    await node.caller.create("backups/b/file", os.urandom(300_000))
    await node.command("snapshot", name="b")
    await node.command("sync")
    for file in (node.settings.mountpoint.parent / "store" / "blocks").glob("*/*"):
        file.unlink()
    node.broken |= {"store-missing", "block-missing", "document"}
    assert await _refusal(node, "backups/b")
