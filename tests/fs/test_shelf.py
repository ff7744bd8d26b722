"""bundles/: what was opened, under which names, and what others are told of it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.net.local import LocalSource
from tests.support.sharing import SharingNode, sharing_node
from tests.support.streams import cut_stream

FIRST = Reference(BlockId(b"\xab" * 32), Suite.AES256GCM, bytes(32))
SECOND = Reference(BlockId(b"\xcd" * 32), Suite.AES256GCM, bytes(32))
NAMESAKE = Reference(BlockId(b"\xab" * 6 + bytes(26)), Suite.AES256GCM, bytes(32))
DIGITS = "abababababab"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as made:
        yield made


async def _share_of(node: SharingNode, content: bytes) -> Reference:
    """Return a reference of a bundle with the file `f`, which is on this node."""
    name = content.decode()
    await node.caller.mkdir(f"backups/{name}", 0o750)
    await node.caller.create(f"backups/{name}/f", content)
    return await node.share(f"backups/{name}")


async def test_what_was_opened_is_there_under_its_name(node: SharingNode) -> None:
    reference = await _share_of(node, b"content")
    assert await node.open(reference, "mine") == "mine"
    assert await node.caller.names("bundles") == ["mine"]
    assert await node.caller.read("bundles/mine/f") == b"content"


async def test_without_a_name_it_is_called_by_the_first_digits_of_its_id(node: SharingNode) -> None:
    assert await node.open(FIRST) == DIGITS
    assert await node.caller.names("bundles") == [DIGITS]


async def test_what_is_open_is_open_after_a_restart_and_what_was_closed_is_not(
    tmp_path: Path,
) -> None:
    odd = "caf\udce9 \n'ü"
    async with sharing_node(tmp_path) as node:
        await node.open(FIRST, odd)
        await node.open(SECOND, "closed")
        await node.open(SECOND, "second")
        await node.close("closed")
    async with sharing_node(tmp_path) as node:
        assert await node.caller.names("bundles") == sorted([odd, "second"])
        opened = node.node.shelf.references()
        assert opened == {os.fsencode(odd): FIRST, b"second": SECOND}
        await node.close(odd)
        assert await node.caller.names("bundles") == ["second"]


async def test_many_bundles_are_listed_in_parts(node: SharingNode) -> None:
    names = [f"{number:02}" for number in range(20)]
    for name in reversed(names):
        await node.open(FIRST, name)
    assert await node.caller.names("bundles", limit=3) == names


async def test_the_same_bundle_can_be_opened_again_and_under_two_names(node: SharingNode) -> None:
    for name in ("one", "one", "two"):
        assert await node.open(FIRST, name) == name
    assert await node.caller.names("bundles") == ["one", "two"]


async def test_a_name_that_another_bundle_has_is_refused(node: SharingNode) -> None:
    await node.open(FIRST, "name")
    with pytest.raises(LibernetError, match="there is another bundle named 'name': choose"):
        await node.open(SECOND, "name")
    await node.open(FIRST)
    with pytest.raises(LibernetError, match=f"there is another bundle named '{DIGITS}'"):
        await node.open(NAMESAKE)
    assert node.node.shelf.references() == {b"name": FIRST, DIGITS.encode(): FIRST}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256])
async def test_what_no_folder_can_be_called_is_refused(node: SharingNode, name: str) -> None:
    with pytest.raises(FormatError):
        await node.open(FIRST, name)
    assert await node.caller.names("bundles") == []


@pytest.mark.parametrize("name", [" ", "-", "..." * 85, "\udcff", "a\nb", "latest"])
async def test_any_other_name_is_accepted(node: SharingNode, name: str) -> None:
    assert await node.open(FIRST, name) == name
    assert await node.caller.names("bundles") == [name]


async def test_a_name_that_the_journal_could_not_keep_is_free(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(node.storage.journal, "record_opened", fail)
        with pytest.raises(OSError, match="No space"):
            await node.open(FIRST, "name")
    assert await node.caller.names("bundles") == []
    assert await node.open(SECOND, "name") == "name"


async def test_a_name_that_is_not_open_cannot_be_closed(node: SharingNode) -> None:
    with pytest.raises(LibernetError, match="no bundle named 'name' is open"):
        await node.close("name")
    await node.open(FIRST, "name")
    await node.close("name")
    with pytest.raises(LibernetError, match="no bundle named 'name' is open"):
        await node.close("name")
    with pytest.raises(FileNotFoundError):
        await node.caller.stat("bundles/name")


async def test_a_reference_with_a_path_or_none_at_all_is_refused(node: SharingNode) -> None:
    with pytest.raises(FormatError, match="without the path"):
        await node.command("open", reference=f"{FIRST}/below")
    with pytest.raises(FormatError, match="is no reference"):
        await node.command("open", reference="bundles/x")
    with pytest.raises(FormatError, match="needs the text 'reference'"):
        await node.command("open")


async def test_another_bundle_under_an_old_name_is_another_folder(node: SharingNode) -> None:
    """What a view keeps of the first one, inode numbers too, must not show in the second."""
    first, second = await _share_of(node, b"first"), await _share_of(node, b"second")
    await node.open(first, "name")
    async with node.caller.at("bundles/name") as kept, node.caller.at("bundles/name/f"):
        await node.close("name")
        await node.open(second, "name")
        assert await node.caller.read("bundles/name/f") == b"second"
        async with node.caller.at("bundles/name") as now:
            assert now != kept
    entry = await node.caller.stat("bundles/name")
    assert not entry.is_lasting  # so that a view asks again after a close


async def test_a_bundle_that_is_here_looks_as_its_document_says_before_it_is_read(
    tmp_path: Path,
) -> None:
    async with sharing_node(tmp_path) as node:
        reference = await _share_of(node, b"content")
        published = (await node.caller.stat("backups/content")).look
        await node.open(reference, "name")
    async with sharing_node(tmp_path) as node:
        paths = ["bundles/name", "snapshots/content/{}", str(reference)[1:]]
        [time] = set(await node.caller.names("snapshots/content")) - {"latest"}
        for path in paths:
            look = (await node.caller.stat(path.format(time))).look
            assert (look.mode, look.uid, look.gid, look.mtime_ns) == (
                published.mode,
                published.uid,
                published.gid,
                published.mtime_ns,
            )


class Asked(LocalSource):
    """Another node's store as the network; counts what it is asked."""

    times = 0

    async def get(self, *arguments: object, **options: bool) -> object:  # type: ignore[override]
        self.times += 1
        return await super().get(*arguments, **options)  # type: ignore[arg-type]


async def test_a_bundle_from_elsewhere_is_not_fetched_before_it_is_looked_into(
    node: SharingNode, tmp_path: Path
) -> None:
    reference = await _share_of(node, b"content")
    source = Asked(node.store)
    async with sharing_node(tmp_path / "other", source) as other:
        await other.open(reference, "name")
        async with other.caller.at("bundles/name") as ino:
            before = (await other.caller.namespace.stat(ino)).look
            assert await other.caller.names("bundles") == ["name"]
            assert source.times == 0
            assert await other.caller.names("bundles/name") == ["f"]
            look = (await other.caller.stat("bundles/name")).look
        assert before.mode & 0o777 == 0o555
        assert look.mode & 0o777 == 0o750


async def test_an_opened_bundle_is_announced_once_its_root_is_here(tmp_path: Path) -> None:
    async with sharing_node(tmp_path) as node:
        here = await _share_of(node, b"content")
        node.announced.clear()
        await node.open(FIRST, "elsewhere")
        assert node.announced == []
        await node.open(here, "here")
        assert node.announced == [here.id]
    async with sharing_node(tmp_path) as node:
        assert set(node.announced) == {here.id}


async def test_an_opened_bundle_that_was_fetched_is_announced_at_each_start(
    node: SharingNode, tmp_path: Path
) -> None:
    reference = await _share_of(node, b"content")
    async with sharing_node(tmp_path / "other") as other:
        await other.open(reference)
        assert other.announced == []
        other.store.put_cached(reference.id, node.store.get(reference.id))
    async with sharing_node(tmp_path / "other") as other:
        assert other.announced == [reference.id]


async def test_what_no_name_leads_to_any_more_is_withdrawn(node: SharingNode) -> None:
    await node.open(FIRST, "one")
    await node.open(FIRST, "two")
    await node.close("one")
    assert node.withdrawn == []
    await node.close("two")
    assert node.withdrawn == [FIRST.id]


async def test_closing_does_not_withdraw_what_was_published_or_shared_here(
    node: SharingNode,
) -> None:
    snapshot = await _share_of(node, b"content")
    file = await node.share("backups/content/f")
    for reference in (snapshot, file):
        await node.close(await node.open(reference))
    assert node.withdrawn == []


async def test_a_stream_is_opened_as_a_folder_of_one_file_and_stays_open(tmp_path: Path) -> None:
    [sd_hash, *_], blobs = cut_stream([b"content"], "film.mp4")
    async with sharing_node(tmp_path) as node:
        for blob_id, blob in blobs.items():
            node.store.put(blob_id, blob)
        opened = await node.command("open", reference=f"libernet:/sha384/{sd_hash}/film.mp4")
        assert opened["name"] == str(sd_hash)[:12]
        await node.command("open", reference=f"/sha384/{sd_hash}", name="film")
        shared = await node.command("share", path="bundles/film")
        assert shared["reference"] == f"/sha384/{sd_hash}"
    async with sharing_node(tmp_path) as node:
        assert await node.caller.names("bundles") == [str(sd_hash)[:12], "film"]
        assert await node.caller.read("bundles/film/film.mp4") == b"content"
        assert await node.command("close", name="film") == {}
        assert await node.caller.names("bundles") == [str(sd_hash)[:12]]
        assert (node.announced, node.withdrawn) == ([], [])


async def test_another_stream_under_an_old_name_is_another_folder(node: SharingNode) -> None:
    for content in (b"first", b"second"):
        [sd_hash, *_], blobs = cut_stream([content])
        for blob_id, blob in blobs.items():
            node.store.put(blob_id, blob)
        await node.command("open", reference=f"/sha384/{sd_hash}", name="name")
        async with node.caller.at("bundles/name"), node.caller.at("bundles/name/file"):
            assert await node.caller.read("bundles/name/file") == content
            await node.close("name")
            if content == b"first":
                await node.open(FIRST, "name")
                await node.close("name")
