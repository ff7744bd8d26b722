"""The view by URL shows what the namespace has, to whoever asks this machine for it."""

import base64
import json
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.public_sealing import seal_public, without_suffix
from libernet.blocks.reference import Reference, Suite
from libernet.fs.web.answers import answer_for, media_type
from libernet.fs.web.site import PIECE_BYTES
from tests.support.flat_json import main_file, serialized
from tests.support.original_bundles import original_bundles
from tests.support.streams import VECTORS, blobs_of, content_of
from tests.support.vectors import content, load
from tests.support.web import Web, absent, web_running

_KEY = "0c" * 32


def _quoted(path: bytes) -> str:
    return "".join(f"%{byte:02x}" if byte != 0x2F else "/" for byte in path)


async def _shown(web: Web, address: str) -> dict[bytes, Any]:
    """Return all that listings show below an address: contents, targets, None for a folder."""
    found: dict[bytes, Any] = {}
    waiting = [b""]
    while waiting:
        above = waiting.pop()
        page = await web.ask(f"{address}{_quoted(above)}", accept="application/json")
        assert page.status == 200, (above, page)
        assert page.json["lacking"] is None
        for entry in page.json["entries"]:
            path = above + os.fsencode(entry["name"])
            found[path] = entry.get("target")
            if entry["type"] == "folder":
                waiting.append(path + b"/")
            elif entry["type"] == "file":
                reply = await web.ask(f"{address}{_quoted(above)}{entry['href']}")
                assert (reply.status, reply.is_whole) == (200, True), path
                found[path] = reply.body
                assert len(reply.body) == entry["size"]
    return found


_NAMED = [each.name for each in original_bundles().values() if each.tree is not None]


@pytest.mark.parametrize("name", _NAMED)
async def test_bundles_of_the_originals_are_shown_as_in_the_mount(
    tmp_path: Path, name: str
) -> None:
    original = original_bundles()[name]
    async with web_running(tmp_path) as web:
        web.put(original.blocks.items())
        address = str(replace(original.reference, index=True)).removesuffix("/")
        found = await _shown(web, f"{address}/")
        expected = await web.caller.picture(address[1:])
        kinds = {stat.S_IFREG, stat.S_IFLNK}
        assert found == {
            os.fsencode(path): (
                os.fsdecode(seen.content)
                if stat.S_ISLNK(seen.mode)
                else seen.content
                if stat.S_IFMT(seen.mode) in kinds
                else None
            )
            for path, seen in expected.items()
        }
        if original.json is not None:
            document = await web.ask(address)
            assert json.loads(document.body) == original.json


async def test_own_snapshots_are_shown_as_in_the_mount(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        large = os.urandom(3_000_000)
        await web.caller.mkdir("backups/b")
        await web.caller.mkdir("backups/b/d")
        await web.caller.create("backups/b/large", large)
        await web.caller.create("backups/b/d/\udcffä <b>", b"small")
        await web.caller.symlink("backups/b/link", "d")
        [(_, inode)] = web.node.tree.backups()
        snapshot = await web.node.publisher.publish(inode.ino)
        found = await _shown(web, f"{snapshot.reference}/")
        assert found == {
            b"large": large,
            b"d": None,
            os.fsencode("d/\udcffä <b>"): b"small",
            b"link": "d",
        }


@pytest.mark.parametrize("name", VECTORS)
async def test_streams_are_shown_under_their_names(tmp_path: Path, name: str) -> None:
    async with web_running(tmp_path) as web:
        sd_hash, _, blobs = blobs_of(name)
        web.put(blobs.items())
        assert (await web.ask(f"/sha384/{sd_hash}")).headers["location"] == f"/sha384/{sd_hash}/"
        listing = await web.ask(f"/sha384/{sd_hash}/", accept="application/json")
        [entry] = listing.json["entries"]
        for method in ("GET", "HEAD"):
            reply = await web.ask(f"/sha384/{sd_hash}/{entry['href']}", method)
            assert reply.headers["content-length"] == str(len(content_of(name)))
            assert reply.body == (content_of(name) if method == "GET" else b"")
        etag = reply.headers["etag"]
        address = f"/sha384/{sd_hash}/{entry['href']}"
        if content_of(name):
            part = await web.ask(address, range="bytes=-3", if_range=etag)
            assert (part.status, part.body) == (206, content_of(name)[-3:])
        assert (await web.ask(address, range="bytes=3-", if_range='"other"')).status == 200
        assert (await web.ask(address, if_none_match=etag)).status == 304
        assert (await web.ask(f"/sha384/{sd_hash}/other")).status == 404


async def test_a_block_is_given_as_it_is_stored_and_as_its_key_opens_it(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        content = b"content " * 100
        reference = web.put_public(content)
        stored = web.storage.store.get(reference.id)
        for address, expected in ((f"/sha256/{reference.id}", stored), (str(reference), content)):
            reply = await web.ask(address)
            assert (reply.status, reply.body, reply.is_whole) == (200, expected, True)
            assert reply.headers["content-type"] == "application/octet-stream"
            assert "immutable" in reply.headers["cache-control"]
            head = await web.ask(address, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers == reply.headers
        wrong = await web.ask(f"/sha256/{reference.id}/aes256/{_KEY}")
        assert wrong.status == 502
        assert _KEY.encode() not in wrong.body


@pytest.mark.parametrize(
    "vector",
    [each for each in load("libernet-blocks.json")["blocks"] if "stored_b64" in each],
    ids=lambda vector: vector["name"],
)
async def test_blocks_of_the_originals_are_opened(tmp_path: Path, vector: dict[str, Any]) -> None:
    async with web_running(tmp_path) as web:
        reference = Reference.parse(vector["url"])
        stored = base64.b64decode(vector["stored_b64"])
        web.put([(reference.id, stored)])
        assert (await web.ask(f"/sha256/{reference.id}")).body == stored
        opened = await web.ask(str(replace(reference, index=True)).removesuffix("/"))
        found = opened.body
        if vector["like_suffixed"] and reference.suite is Suite.PLAIN:
            found = without_suffix(found)  # which the address alone does not tell
        assert (opened.status, found) == (200, content(vector, "plain"))


async def test_a_block_without_a_key_is_stored_opened_and_a_bundle_by_addresses_of_their_own(
    tmp_path: Path,
) -> None:
    async with web_running(tmp_path) as web:
        document = serialized({"files": {"a b": web.file(b"a")}, "index": "a b"})
        stored = zlib.compress(document)
        block_id = BlockId.of(document)
        web.put([(block_id, stored)])
        tags = set()
        for path, content in (("", stored), ("/plain", document), ("/plain/a%20b", b"a")):
            reply = await web.ask(f"/sha256/{block_id}{path}")
            assert (reply.status, reply.body) == (200, content)
            tags.add(reply.headers["etag"])
        assert len(tags) == 3
        assert (await web.ask(f"/sha256/{block_id}/plain/")).body == b"a"
        moved = await web.ask(f"/sha256/{block_id}/")
        assert (moved.status, moved.headers["location"]) == (301, f"/sha256/{block_id}/plain/")


async def test_like_answers_as_the_original_does(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        reference = web.put_public(b"public")
        target = f"/sha256/like/{reference.id}"
        nobody = await web.ask(target)
        assert (nobody.status, nobody.json) == (404, {})
        web.storage.store.like.make_public([reference.id])
        size = web.storage.store.size(reference.id)
        for address in (target, f"{target}/more"):
            reply = await web.ask(address)
            assert (reply.status, reply.json) == (200, {f"/sha256/{reference.id}": size})
            assert reply.headers["content-type"] == "application/json"


async def test_the_index_stands_for_a_bundle_but_not_for_its_listing(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        page = b"<h1>hello</h1>"
        files = {"home.html": web.file(page), "d/x": web.file(b"x")}
        reference = web.bundle({"files": files, "index": "home.html"})
        reply = await web.ask(f"{reference}/")
        assert (reply.status, reply.body) == (200, page)
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["content-security-policy"].startswith("sandbox allow-same-origin;")
        assert reply.headers["vary"] == "accept"
        listing = await web.ask(f"{reference}/", accept="application/json")
        assert [each["name"] for each in listing.json["entries"]] == ["d", "home.html"]
        below = await web.ask(f"{reference}/d/")
        assert b'<a href="x">' in below.body
        plain = web.bundle({"files": files, "index": "not there"})
        assert b"home.html" in (await web.ask(f"{plain}/")).body


async def test_a_folder_without_its_slash_leads_there(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        reference = web.bundle({"files": {"d ä/x": web.file(b"x")}})
        reply = await web.ask(f"{reference}/d%20%c3%a4")
        assert (reply.status, reply.headers["location"]) == (301, f"{reference}/d%20%c3%a4/")
        assert (await web.ask(f"{reference}/d%20%c3%a4/x/")).status == 404


async def test_a_listing_holds_names_as_text_and_not_as_markup(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        name = "<script>'\"&?#%.html"
        reference = web.bundle({"files": {name: web.file(b"found")}})
        page = await web.ask(f"{reference}/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert b"<script>" not in page.body
        assert b"&lt;script&gt;&#x27;&quot;&amp;?#%.html" in page.body
        assert reference.key.hex().encode() not in page.body
        listing = await web.ask(f"{reference}/", accept="application/json")
        [entry] = listing.json["entries"]
        assert entry["name"] == name
        assert (await web.ask(f"{reference}/{entry['href']}")).body == b"found"


async def test_a_wide_folder_is_listed_whole(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        names = [f"{number:05}" for number in range(5_000)]
        reference = web.bundle({"files": {name: main_file() for name in names}})
        listing = await web.ask(f"{reference}/", accept="application/json")
        assert [each["name"] for each in listing.json["entries"]] == names
        page = await web.ask(f"{reference}/")
        assert page.body.count(b"<tr>") == len(names)
        assert page.is_whole
        head = await web.ask(f"{reference}/", "HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("Bytes=5-999999999999", 5, None),
        (f"bytes={PIECE_BYTES - 1}-{PIECE_BYTES + 1}", PIECE_BYTES - 1, PIECE_BYTES + 2),
    ],
)
async def test_a_range_is_a_part(tmp_path: Path, asked: str, start: int, stop: int | None) -> None:
    async with web_running(tmp_path) as web:
        content = os.urandom(900_000)
        block = web.put_public(content)
        bundle = web.bundle({"files": {"a": web.file(content)}})
        for address in (str(block), f"{bundle}/a"):
            reply = await web.ask(address, range=asked)
            assert (reply.status, reply.body) == (206, content[start:stop])
            first = content.index(reply.body)
            last = first + len(reply.body) - 1
            assert reply.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"


@pytest.mark.parametrize(
    "asked", ["bytes=1-2,5-6", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=x-", "bytes=" + "9" * 99]
)
async def test_an_odd_range_is_ignored(tmp_path: Path, asked: str) -> None:
    async with web_running(tmp_path) as web:
        reply = await web.ask(str(web.put_public(b"0123456789")), range=asked)
        assert (reply.status, reply.body) == (200, b"0123456789")


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-11", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused(tmp_path: Path, asked: str) -> None:
    async with web_running(tmp_path) as web:
        reply = await web.ask(str(web.put_public(b"0123456789")), range=asked)
        assert (reply.status, reply.headers["content-range"]) == (416, "bytes */10")


async def test_who_has_it_is_not_sent_it_again(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        reference = web.bundle({"files": {"a": web.file(b"a"), "b": web.file(b"b")}})
        tags = set()
        for address in (f"/sha256/{reference.id}", str(reference), f"{reference}/a"):
            reply = await web.ask(address)
            etag = reply.headers["etag"]
            tags.add(etag)
            for known in (etag, f'"other", W/{etag}'):
                again = await web.ask(address, if_none_match=known)
                assert (again.status, again.body) == (304, b"")
                assert again.headers["etag"] == etag
            assert (await web.ask(address, if_none_match='"other"')).status == 200
            whole = await web.ask(address, range="bytes=0-0", if_range='"other"')
            assert (whole.status, whole.body) == (200, reply.body)
            assert (await web.ask(address, range="bytes=0-0", if_range=etag)).status == 206
        assert len(tags) == 3
        assert tags.isdisjoint({(await web.ask(f"{reference}/b")).headers["etag"]})


async def test_links_are_followed_inside_and_not_out(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        links = {
            "d/up": "../a",
            "d/dots": ".././/d/../a",
            "folder": "d",
            "out": "../../../etc/passwd",
            "root": "/etc/passwd",
            "climb": "d/../../x",
            "loop": "loop",
            "nowhere": "gone",
        }
        reference = web.bundle(
            {
                "files": {"a": web.file(b"a"), "d/b": web.file(b"b")},
                "directories": links,
            }
        )
        inside = {"d/up": b"a", "d/dots": b"a", "folder/b": b"b", "folder/up": b"a"}
        for path, content in inside.items():
            reply = await web.ask(f"{reference}/{path}")
            assert (reply.status, reply.body) == (200, content), path
        assert (await web.ask(f"{reference}/folder")).status == 301
        for path in ("out", "root", "climb", "loop", "nowhere", "d/up/x"):
            reply = await web.ask(f"{reference}/{path}")
            assert reply.status == 404, path
        assert b"leads out" in (await web.ask(f"{reference}/out")).body


async def test_numbers_are_given_back(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        reference = web.bundle({"files": {"d/a": web.file(b"a")}, "directories": {"l": "d"}})
        known = web.node.namespace._nodes._known
        for path in ("", "/", "/d/a", "/d/", "/l/a", "/gone", "/d/a/x"):
            await web.ask(f"{reference}{path}")
        assert known._pages == {}


@pytest.mark.parametrize(
    "target",
    [
        "/sha256/",
        "/sha256/ab",
        f"/sha256/{'AB' * 32}",
        f"/sha256/{'ab' * 32}/aes257/{_KEY}",
        f"/sha256/{'ab' * 32}/aes256/{_KEY[:-1]}",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/a/../b",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/%2e%2e/b",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/a//b",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/a%2fb",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/a%00b",
        f"/sha256/{'ab' * 32}/aes256/{_KEY}/%zz",
        "/sha256/like/ab",
        "/sha384/ab",
        f"/sha384/{'ab' * 48}/a/b",
        f"/sha384/{'ab' * 48}/..",
        "sha256",
    ],
)
async def test_what_is_no_address_is_refused(tmp_path: Path, target: str) -> None:
    async with web_running(tmp_path) as web:
        assert (await web.ask(target)).status == 400


@pytest.mark.parametrize("target", ["/", "/backups/", "/favicon.ico"])
async def test_what_has_no_address_is_not_there(tmp_path: Path, target: str) -> None:
    async with web_running(tmp_path) as web:
        assert (await web.ask(target)).status == 404


async def test_what_nobody_has_is_told_as_such(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        lost = f"/sha256/{absent('lost')}"
        assert (await web.ask(lost)).status == 404
        assert (await web.ask(f"{lost}/aes256/{_KEY}")).status == 404
        assert (await web.ask(f"{lost}/aes256/{_KEY}/")).status == 504
        assert (await web.ask(f"{lost}/aes256/{_KEY}/path")).status == 504
        assert (await web.ask(f"/sha384/{'ab' * 48}/path")).status == 504


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.html", "text/html; charset=utf-8"),
        (b"A.TXT", "text/plain; charset=utf-8"),
        (b"a.png", "image/png"),
        (b"a.tar.gz", "application/gzip"),
        (b"a", "application/octet-stream"),
        (b"\xff\r\n.x", "application/octet-stream"),
        (b"data:text/html,x", "application/octet-stream"),
    ],
)
def test_names_say_what_files_are(name: bytes, expected: str) -> None:
    assert media_type(name) == expected


def _kinds(above: type[LibernetError]) -> Iterator[type[LibernetError]]:
    yield above
    for kind in above.__subclasses__():
        yield from _kinds(kind)


@pytest.mark.parametrize("kind", list(_kinds(LibernetError)), ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer_that_says_why(kind: type[LibernetError]) -> None:
    answer = answer_for(kind("this is why"))
    assert (answer.status in {501, 502, 503, 504}, answer.body) == (True, b"this is why\n")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_block_that_is_lost_ends_the_body_and_nothing_wrong_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with web_running(tmp_path) as web:
        pieces = [os.urandom(640_000) for _ in range(3)]
        files = [web.file(piece) for piece in (pieces[0], pieces[2])]
        lost = {"size": len(pieces[1]), "url": str(seal_public(pieces[1])[0])}
        contents = [files[0]["contents"][0], lost, files[1]["contents"][0]]
        content = b"".join(pieces)
        entry = main_file() | {"contents": contents, "size": len(content)}
        reference = web.bundle({"files": {"a": entry, "b": web.file(b"b")}})
        cut = await web.ask(f"{reference}/a")
        assert (cut.status, cut.is_whole) == (200, False)
        assert content.startswith(cut.body)
        assert len(pieces[0]) - PIECE_BYTES <= len(cut.body) <= len(pieces[0])
        start, stop = len(pieces[0]), 2 * len(pieces[0])
        for span in (f"bytes={start}-", f"bytes={stop - 1}-"):
            assert (await web.ask(f"{reference}/a", range=span)).status == 504
        rest = await web.ask(f"{reference}/a", range=f"bytes={stop}-")
        assert (rest.status, rest.body) == (206, content[stop:])
        assert (await web.ask(f"{reference}/b")).body == b"b"
    assert "ended too early" in caplog.text
