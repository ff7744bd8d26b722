"""Snapshots as a person lists, labels and forgets them."""

import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from libernet.blocks.errors import BlockNotFound, FormatError, LibernetError, StoreFull
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.store_index import BlockClass
from libernet.fs.nodes import FileNode, FolderNode
from libernet.fs.tree import Changes
from tests.support.sharing import SharingNode, sharing_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


async def _versions(node: SharingNode, name: str, count: int) -> list[str]:
    """Make a backup with *count* snapshots, each with another file; return their paths."""
    await node.caller.mkdir(f"backups/{name}")
    for number in range(count):
        if number:
            await node.caller.unlink(f"backups/{name}/f")
        await node.caller.create(
            f"backups/{name}/f", f"{name} {number}".encode() + os.urandom(20_000)
        )
        await node.command("snapshot", name=name)
    return [f"{each['backup']}/{each['name']}" for each in await _list(node, name)]


async def _list(node: SharingNode, *names: str, tags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    answer = await node.command("snapshots", names=list(names), tags=list(tags))
    found: list[dict[str, Any]] = answer["snapshots"]
    return found


async def _forget(node: SharingNode, *what: str, **options: Any) -> list[str]:
    """Forget; return the paths of what went."""
    answer = await node.command("forget", what=list(what), **options)
    return [
        f"{each['backup']}/{each['name']}" for group in answer["groups"] for each in group["remove"]
    ]


async def test_snapshots_are_listed_by_backup_oldest_first(node: SharingNode) -> None:
    await _versions(node, "b", 2)
    await _versions(node, "a", 1)
    everything = await _list(node)
    assert [each["backup"] for each in everything] == ["a", "b", "b"]
    assert [each["name"] for each in everything[1:]] == [
        name for name in sorted(await node.caller.names("snapshots/b")) if name != "latest"
    ]
    reference = Reference.parse(everything[0]["reference"])
    assert everything[0]["id"] == str(reference.id)
    assert everything[0]["short_id"] == str(reference.id)[:8]
    assert await _list(node, "a") == everything[:1]
    with pytest.raises(LibernetError, match=r"no snapshots of 'c'; there are of: a, b"):
        await _list(node, "c")


async def test_tags_and_notes_stay_over_a_restart(tmp_path: Path) -> None:
    async with sharing_node(tmp_path / "node") as node:
        await node.caller.mkdir("backups/b")
        await node.command("snapshot", name="b", tags=["x", "a"], note="before the move")
        await node.command("snapshot", name="b", tags=["y"])  # nothing changed: the same one
        [only] = await _list(node)
        assert (only["tags"], only["note"]) == (["a", "x", "y"], "before the move")
        await node.command("tag", snapshots=["b/latest"], add=["new"], remove=["a", "none"])
        await node.command("note", snapshots=[only["short_id"]], note="after it")
    async with sharing_node(tmp_path / "node") as node:
        [only] = await _list(node)
        assert (only["tags"], only["note"]) == (["new", "x", "y"], "after it")
        assert await _list(node, tags=("x,y",)) == [only]
        assert await _list(node, tags=("x,z", "w")) == []
        assert await _list(node, tags=("x,z", "new")) == [only]
        await node.command("tag", snapshots=[f"b/{only['name']}"], set=[])
        [only] = await _list(node, tags=("",))
        assert only["tags"] == []


@pytest.mark.parametrize("tag", ["", "a,b", "a\nb", "x" * 256])
async def test_what_can_be_no_tag_is_refused(node: SharingNode, tag: str) -> None:
    await _versions(node, "b", 1)
    with pytest.raises(FormatError, match="can be no tag"):
        await node.command("tag", snapshots=["b/latest"], add=[tag])


@pytest.mark.parametrize(
    "which", ["b/2001-01-01T00.00.00Z", "c/latest", "abc", "ffffffffffff", "b"]
)
async def test_an_unknown_snapshot_is_refused(node: SharingNode, which: str) -> None:
    await _versions(node, "b", 1)
    with pytest.raises(LibernetError, match="there is no snapshot"):
        await node.command("note", snapshots=[which], note="x")
    with pytest.raises(LibernetError, match="there is no snapshot"):
        await _forget(node, which, may_remove_all=False) if which != "b" else await node.command(
            "tag", snapshots=[which], add=["x"]
        )


async def test_an_id_of_two_snapshots_names_neither(node: SharingNode) -> None:
    for name in ("b", "c"):
        await node.caller.mkdir(f"backups/{name}")
        await node.caller.change(f"backups/{name}", Changes(mtime_ns=0))
        await node.command("snapshot", name=name)
    [first, second] = await _list(node)
    assert first["id"] == second["id"]
    with pytest.raises(LibernetError, match=r"several snapshots: b/.*, c/"):
        await node.command("note", snapshots=[first["short_id"]], note="x")


async def test_forgetting_by_policy_leaves_the_newest_and_latest_leads_to_it(
    node: SharingNode,
) -> None:
    paths = await _versions(node, "b", 4)
    others = await _versions(node, "c", 3)
    await node.command("tag", snapshots=[paths[0]], add=["goes with it"])
    assert await _forget(node, "b", keep={"last": 2}, dry_run=True) == paths[:2]
    assert len(await _list(node, "b")) == 4
    assert await _forget(node, "b", keep={"last": 2}) == paths[:2]
    assert [f"b/{each['name']}" for each in await _list(node, "b")] == paths[2:]
    assert await node.caller.readlink("snapshots/b/latest") == paths[3].removeprefix("b/")
    assert len(await _list(node, "c")) == 3
    assert await _forget(node, keep={"last": 1}) == [paths[2], *others[:2]]


async def test_the_newest_can_be_forgotten_by_name(node: SharingNode) -> None:
    paths = await _versions(node, "b", 2)
    assert await _forget(node, paths[1]) == [paths[1]]
    assert await node.caller.readlink("snapshots/b/latest") == paths[0].removeprefix("b/")
    assert await _forget(node, "b/latest") == [paths[0]]
    assert await node.caller.names("snapshots") == []


async def test_each_kept_one_comes_with_its_reasons(node: SharingNode) -> None:
    await _versions(node, "b", 3)
    await node.command("tag", snapshots=["b/latest"], add=["a"])
    answer = await node.command("forget", what=[], keep={"daily": 1, "tags": ["a"]}, dry_run=True)
    [group] = answer["groups"]
    assert [each["reasons"] for each in group["keep"]] == [["has tags a", "daily snapshot"]]
    assert len(group["remove"]) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "no policy says"),
        ({"may_remove_all": True}, "no policy says"),
        ({"keep": {"tags": ["none"]}}, "keeps none of the snapshots of 'b'"),
        ({"keep": {"last": -2}}, "cannot be what to keep"),
        ({"keep": {"last": "many"}}, "cannot be what to keep"),
        ({"keep": {"within": "1w"}}, "is no length of time"),
        ({"keep": {"fortnightly": 1}}, "cannot be what to keep"),
        ({"what": ["b/latest"], "keep": {"last": 1}}, "not both at once"),
    ],
)
async def test_a_bad_policy_forgets_nothing(
    node: SharingNode, options: dict[str, Any], sentence: str
) -> None:
    await _versions(node, "b", 2)
    with pytest.raises(LibernetError, match=sentence):
        await node.command("forget", **options)
    assert len(await _list(node)) == 2


async def test_all_go_when_that_is_said(node: SharingNode) -> None:
    paths = await _versions(node, "b", 2)
    assert await _forget(node, "b", may_remove_all=True) == paths
    assert await _list(node) == []


async def test_what_was_forgotten_is_withdrawn_unless_something_else_leads_to_it(
    node: SharingNode,
) -> None:
    await _versions(node, "b", 3)
    ids = [BlockId.parse(each["id"]) for each in await _list(node)]
    await node.open(Reference.parse((await _list(node))[0]["reference"]), "kept")
    await _forget(node, keep={"last": 1})
    assert node.withdrawn == [ids[1]]


async def test_pruning_gives_up_what_forgotten_snapshots_alone_needed(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/sub")
    for number in range(200):  # enough for a document of its own
        await node.caller.create(f"backups/b/sub/{number:060}-file", b"%d" % number)
    paths = []
    for _ in range(4):
        await node.caller.create("backups/b/sub/f", os.urandom(20_000))
        await node.command("snapshot", name="b")
        paths = [f"{each['backup']}/{each['name']}" for each in await _list(node)]
        await node.caller.unlink("backups/b/sub/f")
    await node.command("sync")
    before = node.store.totals_by_class()[BlockClass.OWN].blocks
    expected = await node.command("forget", what=paths[:3], dry_run=True, prune=True)
    assert node.store.totals_by_class()[BlockClass.OWN].blocks == before
    answer = await node.command("forget", what=paths[:3], prune=True)
    assert answer["prune"] == expected["prune"] | {"dry_run": False}
    assert answer["prune"]["blocks"] >= 9  # file, sub and top, thrice
    assert await node.caller.read(f"snapshots/{paths[3]}/sub/f")
    # The last one and what publishing knew of its folders, which have changed since.
    await node.command("forget", what=["b/latest"])
    assert (await node.command("gc"))["blocks"] >= 3
    left = node.store.totals_by_class()[BlockClass.OWN].blocks
    await node.command("snapshot", name="b")
    assert node.store.totals_by_class()[BlockClass.OWN].blocks > left


async def test_a_publication_never_needs_what_a_collection_beside_it_gave_up(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that looked at a newer state than a publication would take its chunks."""
    await node.caller.mkdir("backups/b")
    await node.caller.create("backups/b/f", os.urandom(50_000))
    await node.node.files.seal_all()
    await node.command("sync")
    settled, write = node.node.checkpointer.settled, node.node.publisher._write
    has_written, may_end = threading.Event(), threading.Event()

    def write_and_wait(ino: int) -> Any:
        written = write(ino)
        has_written.set()
        may_end.wait(60)
        return written

    async def settled_late() -> None:
        # A publication that can begin now sees the file, which is gone before the look.
        background.start_soon(partial(node.command, "snapshot", name="b"))
        await trio.to_thread.run_sync(has_written.wait, 0.2)
        await node.caller.unlink("backups/b/f")
        await settled()

    monkeypatch.setattr(node.node.checkpointer, "settled", settled_late)
    monkeypatch.setattr(node.node.publisher, "_write", write_and_wait)
    async with trio.open_nursery() as background:
        await node.command("gc")
        may_end.set()
    for each in await _list(node):
        path = f"snapshots/{each['backup']}/{each['name']}"
        for name in await node.caller.names(path):
            assert await node.caller.read(f"{path}/{name}")


async def test_a_backup_whose_newest_snapshot_was_forgotten_gets_another(
    node: SharingNode,
) -> None:
    await _versions(node, "b", 1)
    assert node.node.publisher.unpublished() == []
    await _forget(node, "b/latest")
    assert len(node.node.publisher.unpublished()) == 1
    await node.node.publisher.publish_all()
    assert len(await _list(node, "b")) == 1


@pytest.mark.parametrize("tags", ["ab", [1], [["a"]], {"a": 1}])
async def test_tags_that_are_no_texts_are_refused(node: SharingNode, tags: Any) -> None:
    await _versions(node, "b", 1)
    with pytest.raises(FormatError, match="must be a list of texts"):
        await node.command("snapshot", name="b", tags=tags)
    with pytest.raises(FormatError, match="must be a list of texts"):
        await node.command("tag", snapshots=["b/latest"], add=tags)


async def test_a_forgotten_snapshot_is_gone_from_the_store(node: SharingNode) -> None:
    await _versions(node, "b", 2)
    [first, _] = await _list(node)
    await _forget(node, keep={"last": 1}, prune=True)
    assert BlockId.parse(first["id"]) not in node.store
    with pytest.raises(BlockNotFound):
        node.store.get(BlockId.parse(first["id"]))


async def test_a_snapshot_that_is_read_while_it_is_forgotten_is_given_up_afterwards(
    node: SharingNode, tmp_path: Path
) -> None:
    first, _ = await _versions(node, "b", 2)
    content = await node.caller.read(f"snapshots/{first}/f")
    async with node.node.paths.lasting(f"snapshots/{first}") as (_, top):
        assert await _forget(node, first, prune=True) == [first]
        assert isinstance(top, FolderNode)
        file = await top.lookup(b"f")
        assert isinstance(file, FileNode)
        node.node._chunks._chunks.clear()
        assert bytes(await file.read(0, len(content))) == content
        with pytest.raises(LibernetError):  # nobody begins to read it any more
            await node.telling["diff"]({"old": f"snapshots/{first}", "new": "backups/b"}, _ignore)
    assert (await node.command("gc"))["blocks"] > 0
    node.node._chunks._chunks.clear()
    with pytest.raises(BlockNotFound):
        await file.read(0, len(content))


async def test_nobody_begins_to_read_what_a_collection_may_already_take(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection may look into the journal as soon as a snapshot is gone from that."""
    first, _ = await _versions(node, "b", 2)
    commit = node.node.history._commit_forgotten
    committed, may_end = threading.Event(), threading.Event()

    def commit_and_wait(snapshots: Any) -> None:
        commit(snapshots)
        committed.set()
        assert may_end.wait(60)

    monkeypatch.setattr(node.node.history, "_commit_forgotten", commit_and_wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_forget, node, first)
        await trio.to_thread.run_sync(committed.wait, 60)
        try:
            with pytest.raises(FileNotFoundError):
                async with node.node.paths.lasting(f"snapshots/{first}"):
                    pass
        finally:
            may_end.set()


async def test_snapshots_that_cannot_be_forgotten_stay_in_their_places(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await _versions(node, "b", 3)
    with monkeypatch.context() as patched:
        patched.setattr(node.node.history, "_commit_forgotten", _full)
        with pytest.raises(StoreFull):
            await _forget(node, *paths[:2])
    assert [f"b/{each['name']}" for each in await _list(node)] == paths
    assert await _forget(node, keep={"last": 1}) == paths[:2]


def _full(snapshots: object) -> None:
    raise StoreFull("no space is left for the journal")


async def _ignore(note: dict[str, Any]) -> None:
    """Take a note that nobody reads."""


async def test_snapshots_say_how_much_is_in_them(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/d")
    await node.caller.create("backups/b/d/one", bytes(1000))
    await node.caller.symlink("backups/b/link", "four")
    await node.command("snapshot", name="b")
    await node.caller.link("backups/b/d/one", "backups/b/two")
    await node.command("snapshot", name="b")
    found = [(each["files"], each["bytes"]) for each in await _list(node)]
    assert found == [(2, 1004), (3, 2004)]
