"""Sharing: what a reference opens, and what whoever has it cannot come to."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libernet.blocks.errors import LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.tree import Changes
from tests.support.caller import Seen, unlinked
from tests.support.sharing import Reachable, SharingNode, sharing_node

_MIB = 1024 * 1024
_TIME_NS = 1_234_567_890_123_456_789


@pytest.fixture
async def alice(tmp_path: Path) -> AsyncIterator[SharingNode]:
    """A node with a backup in which something stands above, beside and below a folder."""
    async with sharing_node(tmp_path / "alice") as node:
        caller = node.caller
        await caller.mkdir("backups/b")
        await caller.mkdir("backups/b/above")
        await caller.mkdir("backups/b/above/given", 0o750)
        await caller.mkdir("backups/b/above/given/below")
        await caller.mkdir("backups/b/above/beside")
        await caller.create("backups/b/above/secret", b"do not give away")
        await caller.create("backups/b/above/beside/secret2", os.urandom(3 * _MIB))
        await caller.create("backups/b/above/given/file", b"a small file", 0o640)
        await caller.create("backups/b/above/given/large", os.urandom(3 * _MIB), 0o600)
        await caller.create("backups/b/above/given/below/deep", b"deep down")
        await caller.symlink("backups/b/above/given/link", "../secret")
        await caller.change("backups/b/above/given/file", Changes(uid=7, gid=8, mtime_ns=_TIME_NS))
        yield node


async def _picture(node: SharingNode, path: str) -> dict[str, Seen]:
    return unlinked(await node.caller.picture(path))


def _at(reference: Reference) -> str:
    return str(reference)[1:]


async def _refusal(node: SharingNode, path: str) -> str:
    with pytest.raises(LibernetError) as caught:
        await node.share(path)
    return str(caught.value)


@pytest.mark.parametrize("path", ["backups/b", "backups/b/above/given", "backups/b/above/beside"])
async def test_a_shared_folder_opens_as_what_it_is(alice: SharingNode, path: str) -> None:
    reference = await alice.share(path)
    assert await _picture(alice, _at(reference)) == await _picture(alice, path)
    shown, is_ = await alice.caller.stat(_at(reference)), await alice.caller.stat(path)
    assert shown.look.mode == is_.look.mode
    assert shown.look.mtime_ns == is_.look.mtime_ns


@pytest.mark.parametrize("name", ["file", "large", "link"])
async def test_a_shared_file_opens_a_folder_that_holds_just_that(
    alice: SharingNode, name: str
) -> None:
    reference = await alice.share(f"backups/b/above/given/{name}")
    whole = await _picture(alice, "backups/b/above/given")
    assert await _picture(alice, _at(reference)) == {name: whole[name]}
    assert stat.S_IMODE((await alice.caller.stat(_at(reference))).look.mode) == 0o755


async def test_a_shared_fifo_is_a_fifo(alice: SharingNode) -> None:
    await alice.caller.make("backups/b/fifo", stat.S_IFIFO | 0o640)
    found = await _picture(alice, _at(await alice.share("backups/b/fifo")))
    assert [seen.mode for seen in found.values()] == [stat.S_IFIFO | 0o640]


async def test_a_shared_folder_leads_to_nothing_above_or_beside_it(alice: SharingNode) -> None:
    whole = Reachable(alice.store, await alice.share("backups/b"))
    beside = Reachable(alice.store, await alice.share("backups/b/above/beside"))
    found = Reachable(alice.store, await alice.share("backups/b/above/given"))
    assert found.paths == {b"file", b"large", b"link", b"below", b"below/deep"}
    assert len(beside.blocks) > 3
    assert found.blocks.isdisjoint(beside.blocks)
    assert beside.blocks & whole.blocks
    for plaintext in found.plaintexts:
        assert not any(word in plaintext for word in (b"secret2", b"beside", b"above", b"given"))


async def test_a_shared_file_leads_to_no_other(alice: SharingNode) -> None:
    given = Reachable(alice.store, await alice.share("backups/b/above/given"))
    found = Reachable(alice.store, await alice.share("backups/b/above/given/file"))
    assert found.paths == {b"file"}
    [document] = found.plaintexts
    assert not any(word in document for word in (b"large", b"link", b"below"))
    assert len(found.blocks & given.blocks) == 1


async def test_a_shared_file_does_not_tell_that_it_has_other_names(alice: SharingNode) -> None:
    await alice.caller.create("backups/b/twice", b"twice")
    alone = await alice.share("backups/b/twice")
    await alice.caller.link("backups/b/twice", "backups/b/again")
    assert await alice.share("backups/b/twice") == alone


@pytest.mark.parametrize("path", ["backups/b/above/given", "backups/b/above/given/file"])
async def test_the_unchanged_gets_the_same_reference_again(alice: SharingNode, path: str) -> None:
    reference = await alice.share(path)
    assert await alice.share(path) == reference
    await alice.caller.create("backups/b/elsewhere", b"changed")
    assert await alice.share(path) == reference
    await alice.caller.write("backups/b/above/given/file", 0, b"A")
    assert await alice.share(path) != reference
    assert await alice.caller.names(_at(reference))


async def test_a_share_shows_what_was_written_a_moment_ago(alice: SharingNode) -> None:
    async with alice.caller.opened("backups/b/above/given/file") as file:
        await alice.node.namespace.write(file, 0, b"A SMALL")
        reference = await alice.share("backups/b/above/given/file")
        assert await alice.caller.read(f"{_at(reference)}/file") == b"A SMALL file"


async def test_names_that_are_no_text_can_be_shared(alice: SharingNode) -> None:
    await alice.caller.mkdir("backups/caf\udce9")
    await alice.caller.create("backups/caf\udce9/th\udce9", b"hot")
    folder = await alice.share("backups/caf\udce9")
    file = await alice.share("backups/caf\udce9/th\udce9")
    for reference in (folder, file):
        assert await alice.caller.read(f"{_at(reference)}/th\udce9") == b"hot"


async def test_a_snapshot_and_a_bundle_are_shared_as_they_are(alice: SharingNode) -> None:
    first = await alice.share("backups/b")
    await alice.caller.create("backups/b/new", b"new")
    second = await alice.share("backups/b")
    versions = [name for name in await alice.caller.names("snapshots/b") if name != "latest"]
    assert [await alice.share(f"snapshots/b/{name}") for name in versions] == [first, second]
    assert await alice.share("snapshots/b/latest") == second
    name = await alice.open(first)
    assert await alice.share(f"bundles/{name}") == first


@pytest.mark.parametrize(
    "path", ["backups", "snapshots", "snapshots/b", "snapshots/b/latest/above", "sha256/x", "x"]
)
async def test_what_cannot_be_shared_is_told_with_what_can(alice: SharingNode, path: str) -> None:
    sentence = await _refusal(alice, path)
    assert sentence.startswith(f"{path!r} cannot be shared: share a backup or what stands below")


@pytest.mark.parametrize("path", [".", "/"])
async def test_the_whole_mount_cannot_be_shared(alice: SharingNode, path: str) -> None:
    assert (await _refusal(alice, path)).startswith("the whole mount cannot be shared: share a")


@pytest.mark.parametrize(
    "path",
    [
        "backups/b/missing",
        "backups/b/missing/below",
        "backups/b/..",
        "snapshots/b/2000-01-01T00.00.00Z",
        "snapshots/none/latest",
        "bundles/none",
    ],
)
async def test_what_is_not_there_is_named(alice: SharingNode, path: str) -> None:
    assert await _refusal(alice, path) == f"there is no {path!r} in the mount"


async def test_a_name_that_is_too_long_is_no_fault_of_the_program(alice: SharingNode) -> None:
    path = f"backups/b/{'x' * 256}"
    assert await _refusal(alice, path) == f"{path!r} cannot be shared: File name too long"


async def test_an_unknown_backup_is_named_with_those_that_are(alice: SharingNode) -> None:
    assert await _refusal(alice, "backups/c") == "there is no backup 'c'; the backups are: b"


@pytest.mark.parametrize("path", ["above/secret/given", "above/secret/x", "above/given/link/x"])
async def test_nothing_is_found_below_a_file(alice: SharingNode, path: str) -> None:
    """Not even what stands beside it under that name: it would be given away for good."""
    sentence = await _refusal(alice, f"backups/b/{path}")
    assert "goes on below something that is no folder" in sentence
    assert alice.announced == []


async def test_snapshots_and_shares_are_announced_at_once_and_at_each_start(tmp_path: Path) -> None:
    async with sharing_node(tmp_path) as node:
        assert node.announced == []
        await node.caller.mkdir("backups/b")
        await node.caller.create("backups/b/file", b"content")
        await node.caller.mkdir("backups/b/d")
        shares = [await node.share(path) for path in ("backups/b/file", "backups/b/d", "backups/b")]
        ids = {reference.id for reference in shares}
        assert len(ids) == 3
        assert set(node.announced) == ids
        await node.caller.unlink("backups/b/file")
        later = await node.share("backups/b")
    async with sharing_node(tmp_path) as node:
        assert set(node.announced) == ids | {later.id}
        assert node.withdrawn == []
