"""Bundles of the original as a reader sees them, and what it refuses."""

import contextlib
import json
import stat
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libernet.blocks import flat_bundles
from libernet.blocks.documents import Document, FolderEntry
from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.blocks.flat_bundles import (
    MAX_BUNDLE_BYTES,
    MAX_PATH_CHARACTERS,
    FlatBundle,
    parse_bundle,
    parse_flat_bundle,
    parse_sub_bundle,
)
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.reference import Reference
from tests.support.flat_json import Json, main_file, parts, reference_of, rewrite_file, url

OWNER = (1000, 100)
UNIX_2001 = 978_307_200 * 10**9


def parse(bundle: Any) -> FlatBundle:
    return parse_flat_bundle(json.dumps(bundle).encode(), OWNER)


def of(files: Json, **more: Any) -> FlatBundle:
    return parse({"files": files} | more)


def paths(document: Document) -> dict[bytes, FlatEntry | None]:
    """Return what is in a tree, by path; folders are None."""
    found: dict[bytes, FlatEntry | None] = {}
    waiting = [(b"", document)]
    while waiting:
        above, listing = waiting.pop()
        for name, entry in listing.files.items():
            assert isinstance(entry, FlatEntry)
            found[above + name] = entry
        for name, folder in listing.folders.items():
            found[above + name] = None
            assert folder.document is not None
            waiting.append((above + name + b"/", folder.document))
    return found


def the_file(bundle: FlatBundle, name: bytes = b"a") -> FlatEntry:
    entry = bundle.document.files[name]
    assert isinstance(entry, FlatEntry)
    return entry


def test_paths_become_folders_inside_each_other() -> None:
    bundle = of({"a": main_file(), "x/b": main_file(1), "x/y/c": main_file(2)})
    assert sorted(paths(bundle.document)) == [b"a", b"x", b"x/b", b"x/y", b"x/y/c"]
    assert bundle.entries == 5


@pytest.mark.parametrize("nothing", [None, {}, {"link": None}])
def test_a_folder_without_files_stands_under_directories(nothing: Any) -> None:
    bundle = of({"b/f": main_file()}, directories={"a": nothing, "a/b/c": nothing, "b": nothing})
    assert sorted(paths(bundle.document)) == [b"a", b"a/b", b"a/b/c", b"b", b"b/f"]
    assert paths(bundle.document)[b"a"] is None


@pytest.mark.parametrize("link", ["../b", {"link": "../b"}])
def test_a_link_to_a_folder_is_a_link_with_its_text(link: Any) -> None:
    entry = the_file(of({}, directories={"x/a": link}).document.folders[b"x"], b"a")  # type: ignore[arg-type]
    assert (entry.target(), entry.size) == (b"../b", 4)
    assert stat.S_ISLNK(entry.attributes().mode)


def test_a_link_to_a_file_is_a_link_and_has_nothing_of_its_target() -> None:
    entry = the_file(of({"a": main_file(1, 2, link="/etc/\udcffpasswd", executable=True)}))
    assert (entry.target(), entry.size) == (b"/etc/\xffpasswd", 12)
    assert entry.attributes().mode == stat.S_IFLNK | 0o777
    assert entry.parts() == []


def test_both_dialects_give_the_same_files() -> None:
    ours, theirs = of({"a": main_file(1, 2)}), of({"a": rewrite_file(1, 2)})
    assert the_file(ours) == the_file(theirs)
    assert [part.reference for part in the_file(ours).parts()] == [reference_of(1), reference_of(2)]
    assert (ours.is_rewrite, theirs.is_rewrite) == (False, True)
    assert of({}, timestamp=1.5).is_rewrite
    assert of({}, directories={"a": {}}).is_rewrite
    assert not of({}, directories={"a": None, "b": "c"}).is_rewrite


AES256 = f"/sha256/{'3' * 64}/aes256/{'4' * 64}"


@pytest.mark.parametrize(
    "urls", [[AES256], [AES256, url(1)], [AES256, f"/sha256/{'5' * 64}"], [AES256 + "/"]]
)
def test_parts_are_what_their_urls_say_in_whatever_suite(urls: list[str]) -> None:
    contents = [{"size": 10 + place, "url": text} for place, text in enumerate(urls)]
    size = sum(part["size"] for part in contents)
    entry = the_file(of({"a": {"contents": contents, "modified": 0, "size": size}}))
    assert entry.has_parts
    expected = [Reference.parse(text).block for text in urls]
    assert [part.reference for part in entry.parts()] == expected
    assert [part.size for part in entry.parts()] == [part["size"] for part in contents]
    lying = the_file(of({"a": {"contents": contents, "modified": 0, "size": size - 1}}))
    with pytest.raises(FormatError):
        lying.parts()


def test_a_part_that_fits_in_no_block_is_an_error_of_its_file() -> None:
    for size in (MAX_BLOCK_BYTES + 1, 2**40):
        huge = {"contents": [{"size": size, "url": AES256}], "modified": 0, "size": size}
        with pytest.raises(FormatError, match="fits in no block"):
            the_file(of({"a": huge})).parts()


def test_an_empty_file_has_no_parts() -> None:
    entry = the_file(of({"a": main_file()}))
    assert (entry.has_parts, entry.parts()) == (False, [])


@pytest.mark.parametrize(
    ("readonly", "executable", "mode"),
    [(False, False, 0o644), (True, False, 0o444), (False, True, 0o755), (True, True, 0o555)],
)
def test_the_mode_says_who_may_write_and_execute(
    readonly: bool, executable: bool, mode: int
) -> None:
    bundle = of({"a": main_file(readonly=readonly, executable=executable)})
    attributes = the_file(bundle).attributes()
    assert attributes.mode == stat.S_IFREG | mode
    assert (attributes.uid, attributes.gid) == OWNER
    assert bundle.document.attributes.mode == stat.S_IFDIR | 0o755
    assert (bundle.document.attributes.uid, bundle.document.attributes.gid) == OWNER


@pytest.mark.parametrize(
    ("modified", "mtime_ns"),
    [
        (0, UNIX_2001),
        (-0.5, UNIX_2001 - 5 * 10**8),
        (-978307201, -(10**9)),
        (721692800.25, 1_700_000_000_249_999_872),
        (1e300, 2**63 - 1),
        (-1e300, -(2**63) + 1),
    ],
)
def test_times_are_those_that_the_original_restores_as_far_as_linux_has_them(
    modified: float, mtime_ns: int
) -> None:
    assert the_file(of({"a": main_file(modified=modified)})).attributes().mtime_ns == mtime_ns


def test_folders_have_the_time_of_the_bundle_or_of_its_newest_file() -> None:
    files = {"x/a": main_file(modified=5), "b": main_file(modified=3)}
    for bundle, seconds in [(of(files), 5), (of(files, timestamp=9), 9), (of({}), 0)]:
        assert bundle.document.attributes.mtime_ns == UNIX_2001 + seconds * 10**9
    assert of(files).document.folders[b"x"].attributes == of(files).document.attributes


def test_names_that_are_not_utf_8_are_their_bytes() -> None:
    bundle = of({"caf\udce9/\udcff": main_file(), "é": main_file(), "😀": main_file()})
    assert set(paths(bundle.document)) == {
        b"caf\xe9",
        b"caf\xe9/\xff",
        "é".encode(),
        "😀".encode(),
    }


def test_the_rest_of_a_bundle_is_kept_and_keys_of_callers_are_not() -> None:
    file = rewrite_file(1, rsrc=parts(2), xattr={"user.a": url(3), "user.\udcff": url(4)}, more=[])
    bundle = of(
        {"a": file},
        bundles=[url(5), url(6)],
        index="a",
        previous=url(7),
        note={"files": [{}], "version": 7},
    )
    assert of({}, **{"caf\udce9": 1, "\ud800": [{"\udfff": 2}]}).entries == 0
    assert bundle.bundles == (reference_of(5), reference_of(6))
    assert (bundle.index, bundle.previous) == (b"a", reference_of(7))
    entry = the_file(bundle)
    assert [keys.part().reference for keys in entry.rsrc or ()] == [reference_of(2)]
    assert entry.has_xattrs
    xattr_urls = {b"user.a": reference_of(3), b"user.\xff": reference_of(4)}
    assert entry.attributes().xattr_urls == xattr_urls


@pytest.mark.parametrize("prior", [None, 7, ["x"], "yesterday"])
def test_prior_may_be_whatever_a_caller_put_there(prior: Any) -> None:
    assert of({}, prior=prior).previous is None
    assert of({}, prior=url(1)).previous == reference_of(1)


def test_a_sub_bundle_gives_files_that_look_as_the_one_above_says() -> None:
    above = of({}, timestamp=9).document.attributes
    text = json.dumps({"files": {"x/a": main_file()}, "directories": {"d": None}}).encode()
    bundle = parse_sub_bundle(text, OWNER, above)
    assert set(paths(bundle.document)) == {b"x", b"x/a"}
    assert bundle.document.folders[b"x"].attributes is above


def test_a_file_with_lying_sizes_is_shown_but_not_read_and_others_are() -> None:
    bundle = of({"a": main_file(1, size=11), "b": main_file(2)})
    assert the_file(bundle).size == 11
    with pytest.raises(FormatError, match="11 bytes, its parts have 10"):
        the_file(bundle).parts()
    assert len(the_file(bundle, b"b").parts()) == 1


@pytest.mark.parametrize(
    "bad", ["nonsense", "/sha256/1/aes256gcm/2", f"/sha256/{'A' * 64}", url(1) + "/x"]
)
def test_a_malformed_url_is_an_error_of_its_own_file(bad: str) -> None:
    entry = main_file(1)
    entry["contents"][0]["url"] = bad
    bundle = of({"a": entry, "b": main_file(2)})
    with pytest.raises(FormatError):
        the_file(bundle).parts()
    assert len(the_file(bundle, b"b").parts()) == 1


BAD_PATHS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\0b",
    "\0",
    "a" * 256,
    "a/" * (MAX_PATH_CHARACTERS // 2) + "ab",
    "a/" * 500_000 + "a",
    "\ud800",
    "\udc00",
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path[:10]))
def test_a_path_that_leads_out_or_nowhere_is_refused(path: str) -> None:
    with pytest.raises(FormatError):
        of({path: main_file()})
    with pytest.raises(FormatError):
        of({}, directories={path: None})
    with pytest.raises(FormatError):
        of({}, directories={path: {"link": "x"}})


@pytest.mark.parametrize(
    "bundle",
    [
        {"files": {"a": main_file(), "a/b": main_file()}},
        {"files": {"a/b": main_file(), "a": main_file()}},
        {"files": {"a": main_file()}, "directories": {"a": None}},
        {"files": {"a": main_file()}, "directories": {"a/b": None}},
        {"files": {"a/b": main_file()}, "directories": {"a": "link"}},
        {"files": {"a": main_file()}, "directories": {"a": "link"}},
        {"files": {"é": main_file(), "\udcc3\udca9": main_file()}},
        {"files": {}, "directories": {"a/b": None, "a": {"link": "b"}}},
    ],
)
def test_two_things_of_one_name_are_refused(bundle: Any) -> None:
    with pytest.raises(FormatError):
        parse(bundle)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"files"',
        b"{}",
        b'{"files":[]}',
        b'{"files":null}',
        b'{"files":{"a":null}}',
        b'{"files":{},"files":{}}',
        b'{"files":{"a":{"contents":[],"modified":0,"size":0,"size":1}}}',
        b'{"files":{"a":{"contents":[],"modified":NaN,"size":0}}}',
        b'{"files":{"a":{"contents":[],"modified":-Infinity,"size":0}}}',
        b'{"files":{"a":{"contents":[],"modified":1e999,"size":0}}}',
        b'{"files":{"a":{"contents":[],"modified":"1","size":0}}}',
        b'{"files":{"a":{"contents":[],"modified":0,"size":%s}}}' % (b"9" * 5000),
        b'{"files":{"a":{"contents":[],"modified":%s,"size":0}}}' % (b"9" * 4000),
        b'{"files":{},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"files":' + b'{"a":' * 100_000,
        b"\xef\xbb\xbf" + b'{"files":{}}',
        '{"files":{}}'.encode("utf-16"),
        b'{"files":{},"x":"%s"}' % (b"x" * MAX_BUNDLE_BYTES),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_bundle_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        parse_flat_bundle(text, OWNER)
    with pytest.raises(FormatError):
        parse_bundle(text, OWNER)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 2**63},
        {"size": "10"},
        {"size": 10.0},
        {"size": True},
        {"contents": None},
        {"parts": []},
        {"contents": [{"size": 10}]},
        {"contents": [{"size": 0, "url": url(1)}]},
        {"contents": [{"size": -1, "url": url(1)}, {"size": 11, "url": url(1)}]},
        {"contents": [{"size": 10, "url": None}]},
        {"contents": [url(1)]},
        {"contents": {}},
        {"modified": None},
        {"readonly": 1},
        {"executable": "yes"},
        {"link": ""},
        {"link": "a\0b"},
        {"link": "a" * 4096},
        {"link": "\ud800"},
        {"link": 7},
        {"rsrc": [{"size": 10}]},
        {"rsrc": 3},
        {"\udcff": 3},
        {"contents": [{"size": 10, "url": url(1), "\udcff": 3}]},
        {"xattr": {"": url(1)}},
        {"xattr": {"a\0": url(1)}},
        {"xattr": {"a" * 256: url(1)}},
        {"xattr": {"user.a": 3}},
        {"xattr": []},
    ],
    ids=str,
)
def test_a_file_with_impossible_keys_is_refused(changes: Json) -> None:
    with pytest.raises(FormatError):
        of({"a": main_file(1) | changes})


@pytest.mark.parametrize(
    "more",
    [
        {"directories": ["a"]},
        {"directories": {"a": 7}},
        {"directories": {"a": ""}},
        {"directories": {"a": {"link": ""}}},
        {"bundles": url(1)},
        {"bundles": ["nonsense"]},
        {"bundles": [url(1) + "/path"]},
        {"index": ""},
        {"index": ".."},
        {"index": "a/b"},
        {"index": 3},
        {"previous": "nonsense"},
        {"timestamp": "now"},
    ],
    ids=str,
)
def test_a_bundle_with_impossible_keys_is_refused(more: Json) -> None:
    with pytest.raises(FormatError):
        of({}, **more)


def test_more_entries_than_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_bundles, "MAX_ENTRIES", 6)
    assert of({"a/b/c": main_file()}, directories={"d/e/f": None}).entries == 6
    with pytest.raises(FormatError, match="more than 6"):
        of({"a/b/c": main_file()}, directories={"d/e/f/g": None})


def test_millions_of_nested_folders_are_refused_soon() -> None:
    deep = {f"{number:03x}/" + "a/" * 2040 + "b": None for number in range(250)}
    began = time.process_time()
    with pytest.raises(FormatError, match="more than"):
        of({}, directories=deep)
    assert time.process_time() - began < 10


def test_a_document_of_ours_is_told_from_the_originals() -> None:
    unix = {"mode": 0o040755, "uid": 1, "gid": 1, "mtime_ns": 0}
    ours = {"version": 1, "modified": 0.0, "unix": unix}
    assert isinstance(parse_bundle(json.dumps(ours).encode(), OWNER), Document)
    theirs = json.dumps({"files": {"\udcff": main_file()}}).encode()
    assert isinstance(parse_bundle(theirs, OWNER), FlatBundle)


@pytest.mark.parametrize("version", [2, 10**6])
def test_a_newer_document_is_refused_by_its_version(version: int) -> None:
    newer = {"version": version, "files": {"a": main_file()}}
    with pytest.raises(UnknownVersion, match="update"):
        parse_bundle(json.dumps(newer).encode(), OWNER)


def test_a_malformed_document_of_ours_is_refused_as_one_of_ours() -> None:
    broken = {"version": 1, "files": {"a": main_file()}}
    with pytest.raises(FormatError, match="unix"):
        parse_bundle(json.dumps(broken).encode(), OWNER)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_NAMES = st.sampled_from(["a", "b", "a/b", "a/b/c", "..", "", "\udcff", "\ud800", "é"]) | st.text()
_FILES = st.dictionaries(
    _NAMES,
    st.builds(
        lambda base, changes: base | changes,
        st.sampled_from([main_file(), main_file(1, 2), rewrite_file(3, link="x")]),
        st.dictionaries(st.sampled_from([*rewrite_file(), "contents", "link", "xattr"]), _JSON),
    )
    | _JSON,
    max_size=4,
)
_BUNDLES = st.fixed_dictionaries(
    {"files": _FILES},
    optional={
        "directories": st.dictionaries(_NAMES, st.none() | st.text() | _JSON, max_size=4),
        "bundles": st.lists(st.sampled_from([url(1), url(2), "x"])),
        "index": _JSON,
        "previous": _JSON,
        "prior": _JSON,
        "timestamp": _JSON,
        "version": _JSON,
    },
)


def _check(text: bytes) -> None:
    """Parse *text*: what comes of it is sound, or a FormatError."""
    with contextlib.suppress(FormatError):
        bundle = parse_bundle(text, OWNER)
        if isinstance(bundle, FlatBundle):
            found = paths(bundle.document)
            assert len(found) == bundle.entries
            for path, entry in found.items():
                assert not {b"", b".", b".."} & set(path.split(b"/"))
                assert b"\0" not in path
                if entry is not None:
                    _check_file(entry)


def _check_file(entry: FlatEntry) -> None:
    assert entry.size >= 0
    assert abs(entry.attributes().mtime_ns) < 2**63
    if entry.target():
        assert entry.size == len(entry.target())
        return
    with contextlib.suppress(FormatError):
        assert sum(part.size for part in entry.parts()) == entry.size


@settings(max_examples=300, deadline=None)
@given(_BUNDLES)
@example({"files": {}, "directories": {"a": {"link": "x"}, "a/b": None}})
def test_whatever_a_bundle_says_nothing_leads_out_of_it(bundle: Json) -> None:
    _check(json.dumps(bundle).encode())


@settings(max_examples=300, deadline=None)
@given(_JSON | st.dictionaries(st.sampled_from(["files", "directories", "a"]), _JSON))
def test_any_json_is_a_bundle_or_refused(anything: Any) -> None:
    _check(json.dumps(anything).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_bytes_put_anywhere_into_a_bundle_are_a_bundle_or_refused(put: bytes, at: int) -> None:
    text = json.dumps({"files": {"a/b": rewrite_file(1)}, "directories": {"c": {}}}).encode()
    _check(text[:at] + put + text[at:])
    _check(text[:at] + put + text[at + len(put) :])


def _seconds(count: int) -> float:
    files = {f"folder {number % 7}/{number}": main_file(number) for number in range(count)}
    text = json.dumps({"files": files}).encode()
    times = []
    for _ in range(3):
        began = time.process_time()
        assert parse_flat_bundle(text, OWNER).entries > count
        times.append(time.process_time() - began)
    return min(times)


def test_four_times_as_many_files_take_about_four_times_as_long() -> None:
    assert _seconds(4000) < 12 * _seconds(1000)


def test_folders_are_inlined_all() -> None:
    folder = of({"x/a": main_file()}).document.folders[b"x"]
    assert isinstance(folder, FolderEntry)
    assert folder.url is None
