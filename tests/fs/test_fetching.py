"""libernet fetch: what it brings here, what it says is missing, and how much it asks at once."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from libernet.blocks.errors import BlockNotFound, FormatError, LibernetError
from libernet.blocks.ids import BlobId, BlockId, StoredId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.fs import storage
from libernet.net.local import LocalSource
from tests.support.documents import EMPTY, Documents, document, file_entry, folder_entry
from tests.support.flat_json import main_file, serialized
from tests.support.hostile import half_hostile_tree, hostile_tops
from tests.support.sharing import SharingNode
from tests.support.streams import cut_stream

T = TypeVar("T")


class Elsewhere(LocalSource):
    """A node whose blocks come from others while it is `reachable`, and stay.

    State: `others`, what those have; `at_once`, how many blocks were asked for at one time;
    `room`, for how many at one time there is any.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.store = store
        self.others: dict[StoredId, bytes] = {}
        self.reachable = True
        self.at_once = self._asked = 0
        self.room = 1000

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        if block_id not in self.store and not await self._bring(block_id):
            return use(self.others[block_id])
        return await super().get(block_id, use, origin)

    async def _bring(self, block_id: StoredId) -> bool:
        """Bring a block and return whether it stays."""
        self._asked += 1
        self.at_once = max(self.at_once, self._asked)
        await trio.sleep(0.002)
        is_kept = self._asked <= self.room
        self._asked -= 1
        if not self.reachable or block_id not in self.others:
            raise BlockNotFound(f"nobody has {block_id}")
        return is_kept and self.store.put_cached(block_id, self.others[block_id])


@dataclass
class Here:
    """A node that fetches. State: `notes`, those of the last fetch."""

    node: SharingNode
    source: Elsewhere
    notes: list[dict[str, Any]] = field(default_factory=list)

    async def fetch(self, address: object, **arguments: Any) -> dict[str, Any]:
        self.notes.clear()

        async def tell(note: dict[str, Any]) -> None:
            self.notes.append(note)

        return await self.node.telling["fetch"]({"reference": str(address), **arguments}, tell)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    with storage.opened(tmp_path) as disk:
        source = Elsewhere(disk.store)
        node = SharingNode(tmp_path, disk, source)
        with trio.fail_after(60):
            async with node.node.running():
                yield Here(node, source)


async def test_all_of_a_tree_that_can_be_had_is_here_and_the_rest_is_told_by_its_path(
    here: Here,
) -> None:
    made = Documents()
    reference = made.put(half_hostile_tree(made))
    here.source.others |= made.blocks
    answer = await here.fetch(reference)
    assert answer["failed"] == len(answer["errors"])
    assert set(answer["errors"]) == {
        f"/bad {name}"
        for name in ("middle", "url", "list", "up", "newer", "lost", "bytes", "reference")
    } | {"/bad file as folder"}
    assert "nobody has" in answer["errors"]["/bad middle"]
    assert "update it" in answer["errors"]["/bad newer"]
    assert answer["fetched"] + answer["here_before"] + answer["failed"] == answer["needed"]
    assert answer["is_known"]
    here.source.reachable = False
    top = str(reference)[1:]
    for path, content in {
        "good": b"good",
        "good folder/inner": b"inner",
        "deep" + "/a" * 1500 + "/bottom": b"bottom",
        "many" + "/a/b" * 30 + "/bottom": b"of many",
    }.items():
        assert await here.node.caller.read(f"{top}/{path}") == content


async def test_a_bundle_that_lists_nothing_is_an_error(here: Here) -> None:
    made = Documents()
    for name, top in hostile_tops(made).items():
        reference = made.put(top)
        here.source.others |= made.blocks
        with pytest.raises(FormatError):
            await here.fetch(reference)
        assert reference.id in here.node.store, name


async def test_what_came_before_is_not_asked_for_again(here: Here) -> None:
    made = Documents()
    files = {f"{number:03}": made.file(b"%d" % number) for number in range(600)}
    reference = made.folder(document(files))
    blocks = dict(made.blocks)
    here.source.others = {each: blocks[each] for each in list(blocks)[:300]} | {
        reference.id: blocks[reference.id]
    }
    first = await here.fetch(reference)
    assert (first["needed"], first["fetched"], first["failed"]) == (601, 301, 300)
    assert len(first["errors"]) == 20
    here.source.others = blocks
    second = await here.fetch(reference)
    assert (second["here_before"], second["fetched"], second["failed"]) == (301, 300, 0)
    assert second["fetched_bytes"] == sum(len(blocks[each]) for each in list(blocks)[300:600])
    here.source.reachable = False
    assert (await here.fetch(reference))["here_before"] == 601


async def test_many_blocks_are_asked_for_at_one_time_and_not_more(here: Here) -> None:
    made = Documents()
    parts = [(4, made.put(b"%04d" % number)) for number in range(200)]
    reference = made.folder(document({"large": file_entry(parts)}))
    here.source.others |= made.blocks
    answer = await here.fetch(reference)
    assert answer["fetched"] == 201
    assert 16 < here.source.at_once <= 33  # the walk goes on meanwhile


@pytest.mark.parametrize(("room", "not_kept"), [(1, 0), (0, 200)])
async def test_what_found_no_room_beside_others_is_brought_again_by_itself(
    here: Here, room: int, not_kept: int
) -> None:
    made = Documents()
    parts = [(4, made.put(b"%04d" % number)) for number in range(200)]
    reference = made.folder(document({"large": file_entry(parts)}))
    here.source.others |= made.blocks
    here.node.store.put_cached(reference.id, made.blocks[reference.id])
    here.source.room = room
    answer = await here.fetch(reference)
    assert (answer["not_kept"], answer["fetched"]) == (not_kept, 200 - not_kept)
    assert answer["here_before"] + answer["fetched"] + answer["not_kept"] == answer["needed"]


async def test_a_block_that_is_needed_often_counts_once(here: Here) -> None:
    made = Documents()
    chunk = made.put(b"same")
    folder = made.folder(document({"f": file_entry([(4, chunk)] * 50)}))
    reference = made.folder(
        document(folders={"a": folder_entry(folder), "b": folder_entry(folder)})
    )
    here.source.others |= made.blocks
    answer = await here.fetch(reference)
    assert (answer["needed"], answer["fetched"]) == (3, 3)


async def test_a_whole_stream_comes_here_and_stays_while_it_is_pinned(here: Here) -> None:
    pieces = [b"a" * 1000, b"b" * 1000, b"c" * 10]
    [sd_hash, *ids], blobs = cut_stream(pieces)
    here.source.others |= blobs
    for address in (f"/sha384/{sd_hash}", f"libernet:/sha384/{sd_hash}/file"):
        answer = await here.fetch(address, pin=True)
        assert (answer["needed"], answer["failed"]) == (4, 0)
    here.source.reachable = False
    assert await here.node.caller.read(f"sha384/{sd_hash}/file") == b"".join(pieces)
    assert all(here.node.store.is_pinned(each) for each in [sd_hash, *ids])
    await here.fetch(f"/sha384/{sd_hash}", unpin=True)
    assert not any(here.node.store.is_pinned(each) for each in [sd_hash, *ids])


async def test_what_lacks_of_a_stream_is_told(here: Here) -> None:
    [sd_hash, first, second], blobs = cut_stream([b"a" * 1000, b"b" * 1000])
    here.source.others |= {sd_hash: blobs[sd_hash], first: blobs[first]}
    answer = await here.fetch(f"/sha384/{sd_hash}")
    assert (answer["fetched"], answer["failed"]) == (2, 1)
    assert answer["errors"] == {"/file": f"nobody has {second}"}
    with pytest.raises(LibernetError, match="the file of this stream is called 'file'"):
        await here.fetch(f"/sha384/{sd_hash}/other")
    with pytest.raises(BlockNotFound):
        await here.fetch(f"/sha384/{BlobId.of(b'nobody')}")
    here.source.others[BlobId.of(b"no descriptor")] = b"no descriptor"
    with pytest.raises(FormatError):
        await here.fetch(f"/sha384/{BlobId.of(b'no descriptor')}")


async def test_bundles_of_the_original_come_with_and_without_a_key(here: Here) -> None:
    content_reference, content_block = seal_public(b"content")
    part = {"size": 7, "url": str(content_reference)}
    file = main_file() | {"contents": [part], "size": 7}
    below, below_block = seal_public(serialized({"files": {"b": file}}))
    top = serialized({"files": {"a": file}, "bundles": [str(below)]})
    plain = Reference(BlockId.of(top), Suite.PLAIN, b"")
    here.source.others |= {
        content_reference.id: content_block,
        below.id: below_block,
        plain.id: top,
    }
    answer = await here.fetch(plain, pin=True)
    assert (answer["needed"], answer["fetched"]) == (3, 3)
    assert all(here.node.store.is_pinned(each) for each in here.source.others)
    here.source.reachable = False
    assert await here.node.caller.read(f"sha256/{plain.id}/plain/b") == b"content"


async def test_what_is_open_is_fetched_by_its_name(here: Here) -> None:
    [sd_hash, *_], blobs = cut_stream([b"content"])
    here.source.others |= blobs
    await here.node.command("open", reference=f"/sha384/{sd_hash}/file", name="film")
    answer = await here.fetch("", reference=None, name="film")
    assert answer["fetched"] == 2
    here.source.reachable = False
    assert await here.node.caller.names("bundles/film") == ["file"]
    assert await here.node.caller.read("bundles/film/file") == b"content"


@pytest.mark.parametrize("as_pages", [False, True])
async def test_of_a_reference_with_a_path_only_what_is_there_comes(
    here: Here, *, as_pages: bool
) -> None:
    made = Documents()
    inner = made.folder(document({"file": made.file(b"inner"), "other": made.file(b"other")}))
    outer = document({"beside": made.file(b"beside")}, {"inner": folder_entry(inner)})
    folders = {"outer": folder_entry(made.folder(outer))}
    files = {f"{number:03}": made.file(b"%d" % number) for number in range(50)}
    if as_pages:
        pages = [
            {"first": "000", "url": str(made.folder({"version": 1, "files": files}))},
            {"first": "outer", "url": str(made.folder({"version": 1, "directories": folders}))},
        ]
        reference = made.folder(EMPTY | {"pages": pages})
    else:
        reference = made.folder(document(files, folders))
    here.source.others |= made.blocks
    listing = 2 + as_pages  # documents on the way
    for path, needed in {
        "outer/inner/file": listing + 2,
        "outer/inner": listing + 3,
        "outer/beside": listing + 1,
        "outer": listing + 4,
        "007": 2 + as_pages,
    }.items():
        answer = await here.fetch(f"{reference}/{path}")
        assert (answer["needed"], answer["failed"]) == (needed, 0), path
    for path in ("nothing", "outer/nothing", "007/nothing", "outer/inner/file/nothing"):
        with pytest.raises(LibernetError, match="nothing' in this bundle"):
            await here.fetch(f"{reference}/{path}")
    here.source.reachable = False
    top = str(reference)[1:]
    assert await here.node.caller.read(f"{top}/outer/inner/other") == b"other"
    assert (await here.fetch(reference))["failed"] == 49
    await here.node.command("open", reference=str(reference), name="open")
    answer = await here.fetch("", reference=None, name="open/outer/beside")
    assert (answer["needed"], answer["here_before"]) == (listing + 1, listing + 1)


async def test_a_path_is_found_in_parts_of_a_bundle_of_the_original(here: Here) -> None:
    content_reference, content_block = seal_public(b"content")
    part = {"size": 7, "url": str(content_reference)}
    file = main_file() | {"contents": [part], "size": 7}
    below, below_block = seal_public(serialized({"files": {"d/b": file}}))
    top = serialized({"files": {"a": main_file()}, "bundles": [str(below)]})
    plain = Reference(BlockId.of(top), Suite.PLAIN, b"")
    here.source.others |= {content_reference.id: content_block, below.id: below_block}
    here.source.others |= {plain.id: top}
    for path in ("d/b", "d"):
        assert (await here.fetch(f"{plain}/plain/{path}"))["needed"] == 3
    with pytest.raises(LibernetError, match="there is no 'd/c'"):
        await here.fetch(f"{plain}/plain/d/c")
