"""How two trees differ, and what is where in many snapshots."""

import os
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.search import Patterns
from libernet.fs.tree import Changes
from tests.support.caller import Seen
from tests.support.sharing import SharingNode, sharing_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


async def _told(node: SharingNode, command: str, **arguments: Any) -> tuple[list[Any], Any]:
    """Return what a command told on the way, and its answer."""
    told: list[Any] = []

    async def tell(note: dict[str, Any]) -> None:
        told.extend(note["found"])

    return told, await node.telling[command](arguments, tell)


async def _diff(node: SharingNode, old: str, new: str) -> list[str]:
    told, _ = await _told(node, "diff", old=old, new=new)
    return [f"{each['modifier']} {each['path']}" for each in told]


async def _find(node: SharingNode, *patterns: str, **options: Any) -> list[str]:
    """Return what is found as `path first..last number`, versions being numbered from 0."""
    asked = {"patterns": list(patterns), "snapshots": [], "backups": [], **options}
    told, _ = await _told(node, "find", **asked)
    found = []
    for each in told:
        names = await _versions(node, each["backup"])
        first, last = names.index(each["first"]), names.index(each["last"])
        found.append(f"{each['backup']}/{each['path']} {first}..{last} {each['snapshots']}")
    return found


async def _versions(node: SharingNode, backup: str) -> list[str]:
    answer = await node.command("snapshots", names=[backup])
    return [each["name"] for each in answer["snapshots"]]


async def _snapshot(node: SharingNode, name: str = "b") -> str:
    """Publish a backup; return the path of the snapshot."""
    await node.command("snapshot", name=name)
    return f"snapshots/{name}/{(await _versions(node, name))[-1]}"


async def test_each_kind_of_change_is_told_with_its_letter(node: SharingNode) -> None:
    caller = node.caller
    await caller.mkdir("backups/b")
    for name in ("gone", "same", "content", "mode", "to-folder", "to-link", "touched"):
        await caller.create(f"backups/b/{name}", name.encode())
    for name in ("old", "kept", "mode-of-folder"):
        await caller.mkdir(f"backups/b/{name}")
        await caller.create(f"backups/b/{name}/f", b"x" * 100)
    await caller.symlink("backups/b/link", "here")
    await caller.make("backups/b/fifo", stat.S_IFIFO | 0o600)
    old = await _snapshot(node)

    await caller.unlink("backups/b/gone")
    await caller.unlink("backups/b/old/f")
    await caller.rmdir("backups/b/old")
    await caller.write("backups/b/content", 0, b"CONTENT")
    await caller.change("backups/b/mode", Changes(mode=0o600))
    await caller.change("backups/b/touched", Changes(mtime_ns=1))
    await caller.change("backups/b/mode-of-folder", Changes(mode=0o700))
    for name in ("to-folder", "to-link", "link", "fifo"):
        await caller.unlink(f"backups/b/{name}")
    await caller.mkdir("backups/b/to-folder")
    await caller.create("backups/b/to-folder/inside", b"y" * 50)
    await caller.symlink("backups/b/to-link", "same")
    await caller.symlink("backups/b/link", "there")
    await caller.create("backups/b/kept/new", b"z" * 30)
    new = await _snapshot(node)

    told, totals = await _told(node, "diff", old=old, new=new)
    assert [f"{each['modifier']} {each['path']}" for each in told] == [
        "M /content",
        "- /fifo",
        "- /gone",
        "+ /kept/new",
        "M /link",
        "U /mode",
        "U /mode-of-folder/",
        "- /old/",
        "- /old/f",
        "T /to-folder/",
        "+ /to-folder/inside",
        "T /to-link",
        "U /touched",
    ]
    assert totals == {
        "files_new": 2,
        "files_removed": 4,
        "files_changed": 1,
        "folders_new": 1,
        "folders_removed": 1,
        "others_new": 1,
        "others_removed": 1,
        "bytes_added": 7 + 50 + 30,
        "bytes_removed": 4 + 7 + 100 + 9 + 7,
        "errors": 0,
    }
    assert await _diff(node, new, new) == []
    assert "+ /gone" in await _diff(node, new, old)


async def test_what_is_compared_can_be_named_in_any_way(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/sub")
    await node.caller.create("backups/b/sub/f", b"1")
    first = await _snapshot(node)
    reference = (await node.command("snapshots"))["snapshots"][0]["reference"]
    await node.open(Reference.parse(reference), "bundle")
    await node.caller.create("backups/b/sub/g", b"2")
    for old in (first, reference, "bundles/bundle"):
        assert await _diff(node, old, "backups/b") == ["+ /sub/g"]
        assert await _diff(node, f"{old}/sub", "backups/b/sub") == ["+ /g"]
    assert await _diff(node, first, "snapshots/b/latest") == ["+ /sub/g"]
    for bad in ("snapshots/b/1999", "backups/none", "snapshots", f"{first}/sub/f", ""):
        with pytest.raises(LibernetError):
            await _diff(node, first, bad)


def _expected(old: dict[str, Seen], new: dict[str, Seen]) -> set[str]:
    """Say what differs between two pictures, the plainest way."""
    told = set()
    for path in old.keys() | new.keys():
        was, now = old.get(path), new.get(path)
        shown = now if now is not None else was
        assert shown is not None
        slash = "/" if stat.S_ISDIR(shown.mode) else ""
        if was is None or now is None:
            told.add(f"{'+' if was is None else '-'} /{path}{slash}")
        elif stat.S_IFMT(was.mode) != stat.S_IFMT(now.mode):
            told.add(f"T /{path}{slash}")
        elif was.content != now.content:
            told.add(f"M /{path}{slash}")
        elif (was.mode, was.uid, was.gid) != (now.mode, now.uid, now.gid) or (
            not slash and was.mtime_ns != now.mtime_ns
        ):
            told.add(f"U /{path}{slash}")
    return told


@pytest.mark.parametrize("seed", range(4))
async def test_random_changes_are_told_as_a_look_at_everything_tells_them(
    node: SharingNode, seed: int
) -> None:
    chance = random.Random(seed)
    caller = node.caller
    await caller.mkdir("backups/b")
    folders = ["backups/b"]
    for number in range(30):
        path = f"{chance.choice(folders)}/{chance.choice('abc')}{number}"
        await caller.mkdir(path)
        folders.append(path)
    files = []
    for number in range(400):  # some folders become documents of their own
        path = f"{chance.choice(folders)}/{'f' * chance.randrange(1, 200)}{number}"
        await caller.create(path, chance.randbytes(chance.randrange(60)))
        files.append(path)
    old = await _snapshot(node)
    for path in chance.sample(files, 12):
        match chance.randrange(4):
            case 0:
                await caller.unlink(path)
            case 1:
                await caller.write(path, 0, b"changed")
            case 2:
                await caller.change(path, Changes(mode=0o640))
            case 3:
                await caller.unlink(path)
                await caller.mkdir(path)
                await caller.create(f"{path}/new", b"new")
    new = await _snapshot(node)
    pictures = [await caller.picture(path) for path in (old, new)]
    told = await _diff(node, old, new)
    assert set(told) == _expected(*pictures)
    assert len(told) == len(set(told))


async def _wide_snapshot(node: SharingNode) -> str:
    """Publish a backup with a folder of several pages; return the path of the snapshot."""
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/wide")
    for number in range(9000):
        await node.caller.create(f"backups/b/wide/{number:0150}")
    return await _snapshot(node)


async def test_a_change_in_a_wide_folder_is_found_by_reading_its_page(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, old = node.caller, await _wide_snapshot(node)
    await caller.create(f"backups/b/wide/{4567:0150}-new")
    await caller.unlink(f"backups/b/wide/{8000:0150}")
    new = await _snapshot(node)
    bundles = node.node.bundles
    bundles._opened.clear()
    opened: list[Any] = []
    page = bundles.page

    async def noted(which: Any, origin: Any) -> Any:
        opened.append(which)
        return await page(which, origin)

    monkeypatch.setattr(bundles, "page", noted)
    assert await _diff(node, old, new) == [
        f"+ /wide/{4567:0150}-new",
        f"- /wide/{8000:0150}",
    ]
    assert 0 < len(opened) <= 12
    assert len(await _diff(node, old, "backups/b/wide")) == 1 + 9000 + 9000
    assert await _find(node, f"*{4567:0150}*") == [
        f"b/wide/{4567:0150} 0..1 2",
        f"b/wide/{4567:0150}-new 1..1 1",
    ]


async def test_what_cannot_be_read_is_told_and_the_rest_compared(tmp_path: Path) -> None:
    async with sharing_node(tmp_path / "node") as node:
        caller = node.caller
        await caller.mkdir("backups/b")
        for folder in ("big", "other"):
            await caller.mkdir(f"backups/b/{folder}")
            for number in range(300):
                await caller.create(f"backups/b/{folder}/{number:0200}", b"%d" % number)
        old = await _snapshot(node)
        await caller.create("backups/b/big/new")
        await caller.create("backups/b/other/new")
        new = await _snapshot(node)
        async with node.node.paths.tree(new) as top:
            assert isinstance(top.tree, Reference)
            opened = await node.node.bundles.document(top.tree, top.origin)
        lost = opened.listing.folders[b"big"].reference().id
    async with sharing_node(tmp_path / "node") as node:  # nothing is in its memory
        kept = node.store.get(lost)
        node.store._index.remove(lost)
        told, totals = await _told(node, "diff", old=old, new=new)
        shown = [f"{each['modifier']} {each['path']}" for each in told]
        assert shown == ["! /big/", "+ /other/new"]
        assert "not in the store" in told[0]["error"]
        assert totals["errors"] == 1
        told, answer = await _told(node, "find", patterns=["new"], backups=[], snapshots=[])
        assert [each["path"] for each in told] == ["big/", "other/new"]
        assert answer["errors"] == 1
        node.store.put(lost, kept)


async def test_a_page_that_is_lost_costs_its_own_names(node: SharingNode) -> None:
    caller, old = node.caller, await _wide_snapshot(node)
    await caller.create(f"backups/b/wide/{0:0150}-new")
    await caller.create(f"backups/b/wide/{8999:0150}-new")
    await caller.create("backups/b/zz")
    new = await _snapshot(node)
    bundles = node.node.bundles
    async with node.node.paths.tree(new) as top:
        assert isinstance(top.tree, Reference)
        opened = await bundles.document(top.tree, top.origin)
        wide = await bundles.document(opened.listing.folders[b"wide"].reference(), top.origin)
    first = wide.listing.pages[0]
    while pages := (await bundles.page(first, top.origin)).listing.pages:
        first = pages[0]
    lost = first.reference().id
    kept = node.store.get(lost)
    await node.command("sync")
    bundles._opened.clear()
    node.node._chunks._chunks.clear()
    node.store._index.remove(lost)
    told, totals = await _told(node, "diff", old=old, new=new)
    shown = [f"{each['modifier']} {each['path']}" for each in told]
    assert shown == [f"+ /wide/{8999:0150}-new", "! /wide/", "+ /zz"]
    assert totals["errors"] == 1
    told, answer = await _told(node, "find", patterns=["*-new"], backups=[], snapshots=[])
    assert [each["path"] for each in told] == [f"wide/{8999:0150}-new", "wide/"]
    assert answer["errors"] == 1
    node.store.put(lost, kept)


async def test_names_are_found_with_the_first_and_last_snapshot_that_has_them(
    node: SharingNode,
) -> None:
    caller = node.caller
    await caller.mkdir("backups/b")
    await caller.mkdir("backups/b/sub")
    await caller.create("backups/b/sub/always.txt", b"1")
    await _snapshot(node)
    await caller.create("backups/b/sub/Later.TXT", b"2")
    await _snapshot(node)
    await caller.create("backups/b/between.txt", b"3")
    await _snapshot(node)
    await caller.unlink("backups/b/between.txt")
    await caller.write("backups/b/sub/always.txt", 0, b"9")
    await _snapshot(node)
    await caller.create("backups/b/between.txt", b"3")
    await _snapshot(node)
    await caller.mkdir("backups/c")
    await caller.create("backups/c/always.txt", b"4")
    await _snapshot(node, "c")

    assert await _find(node, "*.txt") == [
        "b/between.txt 2..4 2",
        "b/sub/always.txt 0..4 5",
        "c/always.txt 0..0 1",
    ]
    assert await _find(node, "*.txt", ignore_case=True, backups=["b"]) == [
        "b/between.txt 2..4 2",
        "b/sub/Later.TXT 1..4 4",
        "b/sub/always.txt 0..4 5",
    ]
    assert await _find(node, "sub/always*") == ["b/sub/always.txt 0..4 5"]
    assert await _find(node, "/always*") == ["c/always.txt 0..0 1"]
    assert await _find(node, "s?b", "none") == ["b/sub 0..4 5"]
    second = f"b/{(await _versions(node, 'b'))[1]}"
    assert await _find(node, "a*", "b*", snapshots=[second]) == ["b/sub/always.txt 1..1 1"]
    told, answer = await _told(node, "find", patterns=["always.txt"], backups=["b"], snapshots=[])
    assert (told[0]["versions"], told[0]["size"], told[0]["type"]) == (2, 1, "file")
    assert answer == {"matches": 1, "errors": 0, "snapshots": 5}


async def test_equal_folders_are_searched_once(
    node: SharingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/large")
    for number in range(400):
        await node.caller.create(f"backups/b/large/{number:0200}", b"%d" % number)
    for number in range(10):
        await node.caller.create(f"backups/b/{number}")
        await _snapshot(node)
    bundles, opened = node.node.bundles, []
    document = bundles.document

    async def noted(reference: Any, origin: Any) -> Any:
        opened.append(reference)
        return await document(reference, origin)

    monkeypatch.setattr(bundles, "document", noted)
    assert await _find(node, f"{7:0200}") == [f"b/large/{7:0200} 0..9 10"]
    assert len(opened) == 11
    assert len(set(opened)) == 11


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("f", "a/f", True),
        ("f", "f/a", False),
        ("a/f", "x/a/f", True),
        ("/a/f", "x/a/f", False),
        ("/a/**/f", "a/f", True),
        ("/a/**/f", "a/b/c/f", True),
        ("a/*/f", "x/a/b/c/f", False),
        ("*", "x/y", True),
        ("[ab]?", "bc", True),
        ("x/**", "x", True),
        ("x/**", "y/z", False),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, path: str, matches: bool) -> None:
    assert Patterns([pattern]).match(os.fsencode(path)) is matches


@pytest.mark.parametrize("pattern", ["", "/", "a//b"])
def test_an_empty_part_is_no_pattern(pattern: str) -> None:
    with pytest.raises(FormatError, match="is no pattern"):
        Patterns([pattern])
