"""Bundles that nobody means well with: an error of what is affected, in the mount's namespace and
by URL alike, and everything else works."""

import json
from pathlib import Path

import pytest

from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.nodes import Incomplete
from tests.support.documents import EMPTY, Documents
from tests.support.hostile import half_hostile_tree, hostile_tops
from tests.support.web import Web, web_running

_GOOD = {
    "good": b"good",
    "good folder/inner": b"inner",
    "deep" + "/a" * 1500 + "/bottom": b"bottom",
    "many" + "/a/b" * 30 + "/bottom": b"of many",
}


def _put(web: Web, made: Documents, top: bytes) -> Reference:
    reference = made.put(top)
    web.put(made.blocks.items())
    return reference


async def _failure(web: Web, path: str) -> str:
    """Return why the namespace shows nothing of a path, or an empty text."""
    try:
        if await web.caller.names(path):
            return ""
    except (LibernetError, OSError) as error:
        return str(error)
    return ""


async def test_a_hostile_bundle_is_an_error_and_its_neighbour_is_shown(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        made = Documents()
        tops = hostile_tops(made)
        good = _put(web, made, b'{"files":{}}')
        for name, top in tops.items():
            reference = _put(web, made, top)
            assert await _failure(web, str(reference)[1:]), name
            for path in ("/", "/a", "/a/b", "/x"):
                reply = await web.ask(f"{reference}{path}")
                newer = name.startswith(("newer", "own, newer"))
                assert (name, reply.status) == (name, 501 if newer else 502)
                assert len(reply.body) < 1000, name
            assert (await web.ask(str(reference))).body == top  # the block itself is what it is
            assert (await web.ask(f"{good}/")).status == 200


async def test_what_is_bad_in_a_tree_spoils_nothing_else(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        made = Documents()
        reference = _put(web, made, half_hostile_tree(made))
        address = str(reference)
        listing = await web.ask(f"{address}/", accept="application/json")
        shown = {entry["name"]: entry for entry in listing.json["entries"]}
        assert sorted(shown) == await web.caller.names(address[1:])
        for path, content in _GOOD.items():
            assert (await web.ask(f"{address}/{path.replace(' ', '%20')}")).body == content
            assert await web.caller.read(f"{address[1:]}/{path}") == content
        for name, entry in shown.items():
            if not name.startswith("bad"):
                continue
            reply = await web.ask(f"{address}/{entry['href']}")
            statuses = {404} if entry["type"] == "link" else {501, 502, 504}
            if (name, reply.status) == ("bad middle", 200):
                assert not reply.is_whole
                assert b"onetwothree".startswith(reply.body)
                continue
            assert reply.status in statuses, (name, reply)
            assert b"root:" not in reply.body
        assert (await web.ask(f"{address}/bad%20middle", range="bytes=0-2")).status in {206, 504}


async def test_a_page_is_shown_only_where_its_folder_says_what_is_in_it(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        made = Documents()
        pages = [
            made.folder({"version": 1, "files": {name: made.file(name.encode()) for name in names}})
            for names in ("abc", "a")
        ]
        honest = EMPTY | {"pages": [{"first": "a", "url": str(pages[0])}]}
        lying = EMPTY | {
            "pages": [
                {"first": "a", "url": str(pages[1])},
                {"first": "aa", "url": str(pages[0])},
            ]
        }
        folders = [str(_put(web, made, json.dumps(each).encode()))[1:] for each in (honest, lying)]
        assert await web.caller.read(f"{folders[0]}/c") == b"c"
        assert await web.caller.read(f"{folders[1]}/a") == b"a"
        with pytest.raises(FormatError, match="does not start with the name b'aa'"):
            await web.caller.read(f"{folders[1]}/c")
        assert await web.caller.names(folders[0]) == ["a", "b", "c"]


_PAGES: dict[str, list[list[str]]] = {
    "of a name in two pages": [["a", "b"], ["c", "d", "e"], ["e", "f"]],
    "of a name in the page before": [["a", "b"], ["c", "d", "b"], ["e", "f"]],
    "of a page that is lost": [["a", "b"], [], ["e", "f"]],
}


@pytest.mark.parametrize("pages", _PAGES.values(), ids=_PAGES)
async def test_a_bad_page_spoils_its_own_names(tmp_path: Path, pages: list[list[str]]) -> None:
    async with web_running(tmp_path) as web:
        made = Documents()
        listed = []
        for first, names in zip("ace", pages, strict=True):
            files = {name: made.file(name.encode()) for name in names}
            page = made.folder({"version": 1, "files": files}) if names else made.lost(b"page")
            listed.append({"first": first, "url": str(page)})
        address = str(_put(web, made, json.dumps(EMPTY | {"pages": listed}).encode()))
        for path, content in (("a", b"a"), ("b", b"b"), ("e", b"e"), ("f", b"f")):
            assert await web.caller.read(f"{address[1:]}/{path}") == content
        for path in "cd":
            with pytest.raises(LibernetError):
                await web.caller.read(f"{address[1:]}/{path}")
        for limit in (1, 3, 100):
            found, are_lacking = [b""], False
            async with web.caller.at(address[1:]) as ino:
                while shown := await web.node.namespace.children(ino, found[-1], limit):
                    found += [name for name, _ in shown]
                    are_lacking |= isinstance(shown, Incomplete)
            assert (found[1:], are_lacking) == ([b"a", b"b", b"e", b"f"], True)
        listing = await web.ask(f"{address}/", accept="application/json")
        assert [each["name"] for each in listing.json["entries"]] == ["a", "b", "e", "f"]
        assert listing.json["lacking"]
