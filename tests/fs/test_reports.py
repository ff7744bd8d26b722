"""What `user.libernet.*` say of files and folders, and that asking changes nothing."""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libernet.blocks.ids import BlockId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference, Suite
from libernet.fs.reports import DURABLE, PUBLISHED, REFERENCE
from libernet.fs.tree import RENAME_EXCHANGE, Changes
from tests.support.flat_json import main_file, serialized
from tests.support.sharing import SharingNode, sharing_node

_NAMES = (DURABLE, PUBLISHED, REFERENCE)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        for path in ("b", "b/d", "b/d/e", "b/large"):
            await running.caller.mkdir(f"backups/{path}")
        for path in ("b/f", "b/d/e/f", "b/d/other"):
            await running.caller.create(f"backups/{path}", path.encode())
        for number in range(300):  # more than is inlined
            await running.caller.create(f"backups/b/large/{number:050}", b"%d" % number)
        yield running


async def _ask(node: SharingNode, path: str, name: bytes) -> str | None:
    async with node.caller.at(path) as ino:
        value = await node.node.namespace.xattr(ino, name)
    return None if value is None else value.decode()


async def _states(node: SharingNode, path: str) -> tuple[str | None, str | None]:
    """Return whether something is durable and published."""
    return await _ask(node, path, DURABLE), await _ask(node, path, PUBLISHED)


async def _publish(node: SharingNode) -> str:
    found: str = (await node.command("snapshot", name="b"))["reference"]
    return found


async def test_a_file_and_its_folders_become_durable_and_then_published(node: SharingNode) -> None:
    paths = ("backups/b", "backups/b/d", "backups/b/d/e/f", "backups/b/f")
    for path in paths:
        assert await _states(node, path) == ("0", "0")
    await node.command("sync")
    for path in paths:
        assert await _states(node, path) == ("1", "0")
        assert await _ask(node, path, REFERENCE) is None
    assert await node.caller.names("snapshots") == []
    await _publish(node)
    for path in paths:
        assert await _states(node, path) == ("1", "1")
    await node.caller.write("backups/b/d/e/f", 0, b"B")
    assert await _states(node, "backups/b/d/e/f") == ("0", "0")
    assert await _states(node, "backups/b/f") == ("1", "1")
    assert await _states(node, "backups/b") == ("0", "0")
    await node.command("sync")
    assert await _states(node, "backups/b/d/e/f") == ("1", "0")
    assert await _states(node, "backups/b/d") == ("1", "0")
    assert await _states(node, "backups/b/large") == ("1", "1")
    assert await _states(node, "backups/b/d/other") == ("1", "1")


async def test_a_reference_leads_to_what_it_was_asked_of(node: SharingNode) -> None:
    snapshot = await _publish(node)
    assert await _ask(node, "backups/b", REFERENCE) == snapshot
    assert await _ask(node, "backups/b/d/e/f", REFERENCE) == f"{snapshot}/d/e/f"
    assert await _ask(node, "backups/b/d", REFERENCE) == f"{snapshot}/d"
    large = await _ask(node, "backups/b/large", REFERENCE)
    assert large is not None
    assert not large.startswith(snapshot)  # it has a document of its own
    assert await _ask(node, f"backups/b/large/{7:050}", REFERENCE) == f"{large}/{7:050}"
    for path in ("d/e/f", "f", f"large/{299:050}"):
        reference = await _ask(node, f"backups/b/{path}", REFERENCE)
        assert reference is not None
        content = await node.caller.read(reference.removeprefix("/"))
        assert content == await node.caller.read(f"backups/b/{path}")
    [latest] = [name for name in await node.caller.names("snapshots/b") if name != "latest"]
    await node.open(Reference.parse(snapshot), "opened")
    for path in ("", "/d", "/d/e", "/d/e/f", "/large", f"/large/{7:050}"):
        expected = await _ask(node, f"backups/b{path}", REFERENCE)
        for top in (f"snapshots/b/{latest}", "bundles/opened", snapshot.removeprefix("/")):
            assert await _ask(node, f"{top}{path}", REFERENCE) == expected
            assert await _states(node, f"{top}{path}") == ("1", "1")


@pytest.mark.parametrize("change", ["attributes", "rename", "replace", "exchange", "new", "moved"])
async def test_whatever_is_not_as_the_newest_snapshot_shows_it_is_not_published(
    node: SharingNode, change: str
) -> None:
    await _publish(node)
    caller, path = node.caller, "backups/b/d/e/f"
    match change:
        case "attributes":
            await caller.change(path, Changes(mode=0o600))
        case "rename":
            await caller.rename(path, "backups/b/d/e/g")
            path = "backups/b/d/e/g"
        case "replace":
            await caller.rename("backups/b/d/other", path)
        case "exchange":
            await caller.rename("backups/b/d", "backups/b/large", RENAME_EXCHANGE)
            path = "backups/b/large/e/f"
        case "new":
            await caller.unlink(path)
            await caller.create(path, b"b/d/e/f")
        case "moved":
            await caller.mkdir("backups/c")
            await node.command("snapshot", name="c")
            await caller.rename("backups/b/d", "backups/c/d")
            path = "backups/c/d/e/f"
    await node.command("sync")
    assert await _states(node, path) == ("1", "0")
    assert await _ask(node, path, REFERENCE) is None
    for name in ("b", "c") if change == "moved" else ("b",):
        await node.command("snapshot", name=name)
    assert await _states(node, path) == ("1", "1")


async def test_each_name_of_a_linked_file_that_is_published_counts(node: SharingNode) -> None:
    await _publish(node)
    await node.caller.link("backups/b/f", "backups/b/d/link")
    await node.command("sync")
    assert await _states(node, "backups/b/f") == ("1", "0")  # a name is an attribute of it
    await _publish(node)
    assert await _states(node, "backups/b/d/link") == ("1", "1")
    await node.caller.unlink("backups/b/f")
    await _publish(node)
    assert (await _ask(node, "backups/b/d/link", REFERENCE) or "").endswith("/d/link")


async def test_a_file_without_a_name_is_not_published(node: SharingNode) -> None:
    await _publish(node)
    async with node.caller.opened("backups/b/f"), node.caller.at("backups/b/f") as ino:
        await node.caller.unlink("backups/b/f")
        await node.command("sync")
        assert await node.node.namespace.xattr(ino, PUBLISHED) == b"0"
        assert await node.node.namespace.xattr(ino, REFERENCE) is None


async def test_bundles_of_the_original_have_references_too(node: SharingNode) -> None:
    files = {"top": main_file(), "a/b c/\udcff": main_file()}
    reference, block = seal_public(serialized({"files": files}))
    node.store.put(reference.id, block)
    top = "bundles/" + await node.open(reference, "flat")
    assert await _ask(node, top, REFERENCE) == str(reference)
    assert await _ask(node, f"{top}/top", REFERENCE) == f"{reference}/top"
    assert await _ask(node, f"{top}/a/b c", REFERENCE) == f"{reference}/a/b%20c"
    assert await _ask(node, f"{top}/a/b c/\udcff", REFERENCE) == f"{reference}/a/b%20c/%FF"


async def test_what_a_bundle_without_a_key_holds_has_references_that_lead_there(
    node: SharingNode,
) -> None:
    bundle = serialized({"files": {"a/b c": main_file()}})
    plain = Reference(BlockId.of(bundle), Suite.PLAIN, b"")
    node.store.put(plain.id, bundle)
    for top in ("bundles/" + await node.open(plain, "open"), f"sha256/{plain.id}/plain"):
        assert await _ask(node, top, REFERENCE) == f"/sha256/{plain.id}"
        assert await _ask(node, f"{top}/a/b c", REFERENCE) == f"/sha256/{plain.id}/plain/a/b%20c"


async def test_the_folders_that_no_document_describes_have_no_reference(node: SharingNode) -> None:
    await _publish(node)
    for path in ("snapshots", "snapshots/b", "snapshots/b/latest", "bundles", "sha256"):
        assert [await _ask(node, path, name) for name in _NAMES] == ["1", "0", None]
    for path in ("", "backups"):
        assert [await _ask(node, path, name) for name in _NAMES] == ["1", "1", None]
    await node.caller.mkdir("backups/another")
    for path in ("", "backups"):
        assert [await _ask(node, path, name) for name in _NAMES] == ["0", "0", None]
    await node.command("sync")
    for path in ("", "backups"):
        assert [await _ask(node, path, name) for name in _NAMES] == ["1", "0", None]
    assert await _ask(node, "backups/b", b"user.libernet.other") is None


async def test_they_can_be_neither_set_nor_removed_nor_listed(node: SharingNode) -> None:
    await _publish(node)
    [latest] = [name for name in await node.caller.names("snapshots/b") if name != "latest"]
    for top, code in (("backups/b", errno.EPERM), (f"snapshots/b/{latest}", errno.EROFS)):
        for path in (top, f"{top}/f"):
            assert await node.caller.xattrs(path) == {}
            for name in (*_NAMES, b"user.libernet.other"):
                with pytest.raises(OSError) as caught:
                    await node.caller.set_xattr(path, name, b"1")
                assert caught.value.errno == code
                with pytest.raises(OSError) as caught:
                    await node.caller.remove_xattr(path, name)
                assert caught.value.errno == code
