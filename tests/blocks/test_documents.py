import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libernet.blocks.documents import (
    MAX_LEVELS,
    MAX_PAGE_LEVELS,
    Attributes,
    Document,
    Listing,
    Page,
    Part,
    key_of,
    name_of,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite

Json = dict[str, Any]

URL = f"/sha256/{'1' * 64}/aes256gcm/{'2' * 64}"
REFERENCE = Reference(BlockId.fromhex("1" * 64), Suite.AES256GCM, bytes.fromhex("2" * 64))
UNIX: Json = {"mode": 0o100644, "uid": 1000, "gid": 100, "mtime_ns": 978307200_000000000}
LINK_UNIX: Json = UNIX | {"mode": 0o120777}
FIFO_UNIX: Json = UNIX | {"mode": 0o010600}
FOLDER_UNIX: Json = UNIX | {"mode": 0o040755}
EMPTY: Json = {"version": 1, "modified": 0.0, "unix": FOLDER_UNIX}
FILE: Json = {"contents": [{"size": 3, "url": URL}], "size": 3, "modified": 0.0, "unix": UNIX}
LINK: Json = {"link": "ab", "size": 2, "modified": 0.0, "unix": LINK_UNIX}
FIFO: Json = {"size": 0, "modified": 0.0, "unix": FIFO_UNIX}
FOLDER: Json = {"url": URL, "modified": 0.0, "unix": FOLDER_UNIX}
SPILLED: Json = {
    "contents_lists": [{"size": 10, "url": URL}, {"size": 5, "url": URL}],
    "size": 15,
    "modified": 0.0,
    "unix": UNIX,
}
WHOLE: Json = EMPTY | {
    "files": {
        "file": FILE | {"unix": UNIX | {"xattr": {"user.a": "eHg="}, "link_group": 7}},
        "holes": FILE | {"contents": [{"size": 2**40}, {"size": 3, "url": URL}], "size": 2**40 + 3},
        "spilled": SPILLED,
        "link": LINK,
        "odd link": LINK | {"link": None, "unix": LINK_UNIX | {"link": "%FF/x"}, "size": 3},
        "fifo": FIFO,
        "/%FE": FILE,
    },
    "directories": {
        "far": FOLDER,
        "near": {"document": EMPTY | {"files": {"inner": FILE}, "directories": {"x": FOLDER}}},
    },
}


def parse(document: Any) -> Document:
    return parse_document(json.dumps(document).encode())


def with_file(**changes: Any) -> Json:
    return EMPTY | {"files": {"a": FILE | changes}}


def nested(levels: int) -> Json:
    document = EMPTY
    for _ in range(levels - 1):
        document = EMPTY | {"directories": {"a": {"document": document}}}
    return document


def test_a_document_gives_the_attributes_of_its_folder() -> None:
    document = parse(EMPTY)
    assert document.attributes == Attributes(0o040755, 1000, 100, 978307200_000000000)
    assert (document.files, document.folders, document.pages) == ({}, {}, ())


def test_entries_are_found_by_the_bytes_of_their_names() -> None:
    document = parse(WHOLE)
    assert document.find(b"\xfe") is document.files[b"\xfe"]
    assert document.find(b"far") is document.folders[b"far"]
    assert document.find(b"/%FE") is None
    assert set(document.files) == {
        b"file", b"holes", b"spilled", b"link", b"odd link", b"fifo", b"\xfe",
    }  # fmt: skip


def test_a_file_has_attributes_and_parts() -> None:
    entry = parse(WHOLE).files[b"file"]
    assert entry.size == 3
    assert entry.parts() == [Part(3, REFERENCE)]
    assert entry.attributes() == Attributes(
        0o100644, 1000, 100, 978307200_000000000, link_group=7, xattr={b"user.a": b"xx"}
    )
    assert entry.target() == b""


def test_a_part_without_a_reference_is_a_hole() -> None:
    assert parse(WHOLE).files[b"holes"].parts() == [Part(2**40, None), Part(3, REFERENCE)]


def test_spilled_parts_are_found_through_their_lists_only() -> None:
    entry = parse(WHOLE).files[b"spilled"]
    assert entry.spilled
    assert entry.part_lists() == [Part(10, REFERENCE), Part(5, REFERENCE)]
    with pytest.raises(ValueError, match="part_lists"):
        entry.parts()


def test_links_give_their_text_also_where_it_is_not_utf8() -> None:
    files = parse(WHOLE).files
    assert files[b"link"].target() == b"ab"
    assert files[b"odd link"].target() == b"\xff/x"


def test_a_folder_is_inlined_or_referenced() -> None:
    folders = parse(WHOLE).folders
    assert folders[b"far"].document is None
    assert folders[b"far"].reference() == REFERENCE
    near = folders[b"near"]
    assert near.document is not None
    assert near.document.files[b"inner"].parts() == [Part(3, REFERENCE)]
    assert near.attributes == near.document.attributes
    with pytest.raises(ValueError, match="inlined"):
        near.reference()


def test_keys_that_are_not_known_are_ignored() -> None:
    assert parse(EMPTY | {"later": [1, {"x": None}]}) == parse(EMPTY)


def test_a_newer_version_is_told_apart_from_a_malformed_document() -> None:
    with pytest.raises(UnknownVersion, match="version 2"):
        parse(EMPTY | {"version": 2})
    with pytest.raises(UnknownVersion, match="version 2"):
        parse(EMPTY | {"version": 2, "files": ["quite different"]})
    with pytest.raises(UnknownVersion):
        parse(EMPTY | {"directories": {"a": {"document": EMPTY | {"version": 2}}}})


MALFORMED = {
    "not an object": [],
    "no version": {"modified": 0.0, "unix": FOLDER_UNIX},
    "version 0": EMPTY | {"version": 0},
    "no attributes": {"version": 1},
    "attributes of a file": EMPTY | {"unix": UNIX},
    "link text of a folder": EMPTY | {"unix": FOLDER_UNIX | {"link": "%FF"}},
    "negative uid": EMPTY | {"unix": FOLDER_UNIX | {"uid": -1}},
    "gid over 32 bits": EMPTY | {"unix": FOLDER_UNIX | {"gid": 2**32}},
    "time over 64 bits": EMPTY | {"unix": FOLDER_UNIX | {"mtime_ns": 2**63}},
    "no base64": EMPTY | {"unix": FOLDER_UNIX | {"xattr": {"user.a": "!"}}},
    "xattr with two values": with_file(
        unix=UNIX | {"xattr": {"user.a": ""}, "xattr_urls": {"user.a": f"/sha256/{'a' * 64}"}}
    ),
    "xattr of no reference": with_file(unix=UNIX | {"xattr_urls": {"user.a": "nowhere"}}),
    "xattr without name": EMPTY | {"unix": FOLDER_UNIX | {"xattr": {"": ""}}},
    "long name of an xattr": EMPTY | {"unix": FOLDER_UNIX | {"xattr": {"x" * 256: ""}}},
    "xattr with a NUL": with_file(unix=UNIX | {"xattr": {"a\0": ""}}),
    "xattr with a wrong key": with_file(unix=UNIX | {"xattr": {"/a": ""}}),
    "long xattr": with_file(unix=UNIX | {"xattr": {"a": "A" * 87384}}),
    "empty name": EMPTY | {"files": {"": FILE}},
    "name .": EMPTY | {"files": {".": FILE}},
    "name ..": EMPTY | {"directories": {"..": FOLDER}},
    "name with a NUL": EMPTY | {"files": {"a\0": FILE}},
    "name with a slash": EMPTY | {"files": {"a/b": FILE}},
    "escaped name with a slash": EMPTY | {"files": {"/%FF%2F": FILE}},
    "long name": EMPTY | {"files": {"é" * 128: FILE}},
    "lone surrogate": EMPTY | {"files": {"\ud800": FILE}},
    "name escaped without need": EMPTY | {"files": {"/%61": FILE}},
    "escape in lower case": EMPTY | {"files": {"/%ff": FILE}},
    "file and folder of one name": EMPTY | {"files": {"a": FILE}, "directories": {"a": FOLDER}},
    "negative size": with_file(contents=[], size=-1),
    "empty part": with_file(contents=[{"size": 0}, {"size": 3}]),
    "parts of another sum": with_file(size=4),
    "no parts": with_file(contents=[]),
    "no contents": with_file(contents=None),
    "contents and lists": with_file(contents_lists=[{"size": 3, "url": URL}]),
    "list without url": with_file(contents=None, contents_lists=[{"size": 3}]),
    "lists of another sum": with_file(contents=None, contents_lists=[{"size": 4, "url": URL}]),
    "file with a link text": with_file(link="x"),
    "file with an odd link text": with_file(unix=UNIX | {"link": "%FF"}),
    "file with the mode of a folder": with_file(contents=None, size=0, unix=FOLDER_UNIX),
    "file without a type": with_file(contents=None, size=0, unix=UNIX | {"mode": 0o644}),
    "mode over 16 bits": with_file(unix=UNIX | {"mode": 0o200000}),
    "fifo with contents": EMPTY | {"files": {"a": FIFO | {"contents": []}}},
    "fifo with a size": EMPTY | {"files": {"a": FIFO | {"size": 1}}},
    "link with contents": EMPTY | {"files": {"a": LINK | {"contents": []}}},
    "link without text": EMPTY | {"files": {"a": LINK | {"link": None}}},
    "link with empty text": EMPTY | {"files": {"a": LINK | {"link": "", "size": 0}}},
    "link with two texts": EMPTY | {"files": {"a": LINK | {"unix": LINK_UNIX | {"link": "%FF"}}}},
    "link with a NUL": EMPTY | {"files": {"a": LINK | {"link": "a\0"}}},
    "long link": EMPTY | {"files": {"a": LINK | {"link": "a" * 4096, "size": 4096}}},
    "link of another size": EMPTY | {"files": {"a": LINK | {"size": 3}}},
    "link escaped without need": EMPTY
    | {"files": {"a": LINK | {"link": None, "unix": LINK_UNIX | {"link": "ab"}}}},
    "folder without document": EMPTY | {"directories": {"a": FOLDER | {"url": None}}},
    "folder with two documents": EMPTY | {"directories": {"a": FOLDER | {"document": EMPTY}}},
    "folder without attributes": EMPTY | {"directories": {"a": {"url": URL}}},
    "folder with those of a file": EMPTY | {"directories": {"a": FOLDER | {"unix": UNIX}}},
    "too many levels": nested(MAX_LEVELS + 1),
    "pages beside files": WHOLE | {"pages": [{"first": "a", "url": URL}]},
    "pages out of order": EMPTY
    | {"pages": [{"first": "b", "url": URL}, {"first": "a", "url": URL}]},
    "pages of one name": EMPTY
    | {"pages": [{"first": "a", "url": URL}, {"first": "a", "url": URL}]},
    "page with no name": EMPTY | {"pages": [{"first": "", "url": URL}]},
    "pages inlined": EMPTY
    | {"directories": {"a": {"document": EMPTY | {"pages": [{"first": "b", "url": URL}]}}}},
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_document_is_refused(document: Any) -> None:
    with pytest.raises(FormatError) as caught:
        parse(document)
    assert not isinstance(caught.value, UnknownVersion)


_EMPTY = json.dumps(EMPTY)
_FILE = json.dumps(FILE)
_TWO_FILES = f'"files": {{"a": {_FILE}, "a": {_FILE}}}'
_TWO_FOLDERS = f'"directories": {{"a": {json.dumps(FOLDER)}, "a": {json.dumps(FOLDER)}}}'
_INLINED = f'"directories": {{"d": {{"document": {_EMPTY[:-1]}, {_TWO_FILES}}}}}}}'


@pytest.mark.parametrize(
    "added",
    [
        _TWO_FILES,
        _TWO_FOLDERS,
        _INLINED,
        f'"files": {{"a": {_FILE[:-1]}, "size": 3}}}}',
        f'"files": {{}}, "files": {{"a": {_FILE}}}',
        f'"files": {{"a": {_FILE}, "\\u0061": {_FILE}}}',
        '"unknown": {"a": 1, "a": 2}',
        '"unknown": ' + "9" * 10_000,
    ],
)
def test_of_two_values_for_one_key_none_is_taken(added: str) -> None:
    parse_document(f'{_EMPTY[:-1]}, "unknown": 1}}'.encode())
    with pytest.raises(FormatError):
        parse_document(f"{_EMPTY[:-1]}, {added}}}".encode())


def test_a_list_of_parts_with_two_sizes_is_refused() -> None:
    part = f'{{"size": 3, "url": "{URL}"}}'
    written = f'{{"contents": [{part}], "version": 1}}'
    assert parse_contents_list(written.encode(), size=3)
    with pytest.raises(FormatError, match="two values for one key"):
        parse_contents_list(written.replace('"size"', '"size": 2, "size"').encode(), size=3)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"{",
        b'{"version":1',
        b'{"version":1}x',
        b'{"\xff":1,"version":1}',
        b'{"version":1e999}',
        b"[" * 100_000,
        b'{"directories":{"a":{"document":' * 10_000,
        json.dumps(EMPTY).encode() + b" " * MAX_CHUNK_BYTES,
    ],
    ids=lambda plaintext: repr(plaintext[:30]),
)
def test_what_is_no_json_or_too_much_of_it_is_refused(plaintext: bytes) -> None:
    with pytest.raises(FormatError):
        parse_document(plaintext)


def test_as_many_levels_as_are_written_can_be_read() -> None:
    document: Document | None = parse(nested(MAX_LEVELS))
    levels = 0
    while document:
        levels += 1
        child = document.folders.get(b"a")
        document = child.document if child else None
    assert levels == MAX_LEVELS


@pytest.mark.parametrize("url", ["", "x", URL[:-1], URL + "/name", URL.replace("aes256gcm", "rot")])
def test_a_wrong_reference_is_refused_when_it_is_needed(url: str) -> None:
    document = parse(
        with_file(contents=[{"size": 3, "url": url}])
        | {"directories": {"d": FOLDER | {"url": url}}}
    )
    with pytest.raises(FormatError):
        document.files[b"a"].parts()
    with pytest.raises(FormatError):
        document.folders[b"d"].reference()


def test_a_part_that_fits_in_no_block_is_refused() -> None:
    document = parse(with_file(contents=[{"size": 2**21, "url": URL}], size=2**21))
    with pytest.raises(FormatError, match="fits in no block"):
        document.files[b"a"].parts()


def pages_of(*names: str) -> Json:
    return {"version": 1, "pages": [{"first": name, "url": URL} for name in names]}


def test_the_page_of_a_name_is_the_last_that_starts_at_or_before_it() -> None:
    document = parse(EMPTY | pages_of("b", "é", "/%FF"))
    assert [(page.first, page.before) for page in document.pages] == [
        (b"b", "é".encode()),
        ("é".encode(), b"\xff"),
        (b"\xff", None),
    ]
    assert document.page_of(b"a") is None
    assert document.page_of(b"b") is document.pages[0]
    assert document.page_of(b"zzz") is document.pages[0]
    assert document.page_of(b"\xfe") is document.pages[1]
    assert document.page_of(b"\xff\xff") is document.pages[2]
    assert document.pages[0].reference() == REFERENCE


def page(document: Json, *, before: bytes | None = b"m", level: int = 1) -> Listing:
    return parse_page(json.dumps(document).encode(), Page(b"b", before, level, URL))


def test_a_page_lists_files_folders_or_further_pages() -> None:
    listing = page({"version": 1, "files": {"b": FILE}, "directories": {"c": FOLDER}})
    assert (set(listing.files), set(listing.folders)) == ({b"b"}, {b"c"})
    assert page(pages_of("b", "c")).pages == (
        Page(b"b", b"c", 2, URL),
        Page(b"c", b"m", 2, URL),
    )


@pytest.mark.parametrize(
    "document",
    [
        {"version": 1},
        {"version": 1, "files": {"a": FILE, "b": FILE}},
        {"version": 1, "files": {"c": FILE}},
        {"version": 1, "files": {"b": FILE}, "directories": {"m": FOLDER}},
        pages_of("a", "b"),
        pages_of("b", "m"),
    ],
    ids=["empty", "before it", "without its first", "after it", "page before it", "page after it"],
)
def test_a_page_that_does_not_keep_to_its_names_is_refused(document: Json) -> None:
    with pytest.raises(FormatError):
        page(document)


def test_pages_are_not_followed_for_ever() -> None:
    assert page(pages_of("b"), level=MAX_PAGE_LEVELS - 1).pages[0].level == MAX_PAGE_LEVELS
    with pytest.raises(FormatError, match="nested"):
        page(pages_of("b"), level=MAX_PAGE_LEVELS)


def test_a_list_of_parts_must_make_up_its_size() -> None:
    plaintext = json.dumps({"version": 1, "contents": [{"size": 3, "url": URL}, {"size": 9}]})
    assert parse_contents_list(plaintext.encode(), size=12) == [Part(3, REFERENCE), Part(9, None)]
    with pytest.raises(FormatError, match="12"):
        parse_contents_list(plaintext.encode(), size=13)
    with pytest.raises(UnknownVersion):
        parse_contents_list(b'{"version":2,"contents":[]}', size=0)


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in {b".", b".."} and not set(b"/\0") & set(name)
)


@given(names | st.text(min_size=1, max_size=60).map(lambda text: text.encode(errors="replace")))
@example(b"%FF")
@example("\ufffe\U0010ffff".encode())
def test_a_name_has_one_key_and_the_key_that_name(name: bytes) -> None:
    if set(b"/\0") & set(name) or name in {b".", b".."}:
        with pytest.raises(FormatError):
            key_of(name)
        return
    key = key_of(name)
    assert name_of(key) == name
    assert json.loads(json.dumps(key, ensure_ascii=False).encode()) == key


@given(st.text() | st.text("/%0123456789ABCDEFabcdef."))
@example("\ud800")
@example("/\ud800")
@example("/")
@example("/%FF%41")
def test_a_key_is_refused_or_is_the_one_of_its_name(key: str) -> None:
    try:
        name = name_of(key)
    except FormatError:
        return
    assert key_of(name) == key


def look_at_everything(listing: Listing) -> None:
    for entry in listing.files.values():
        entry.attributes()
        entry.target()
        entry.part_lists()
        if not entry.spilled:
            assert sum(part.size for part in entry.parts()) == entry.size or entry.target()
    for folder in listing.folders.values():
        if folder.document:
            look_at_everything(folder.document)
        else:
            folder.reference()
    for each in listing.pages:
        each.reference()


def assert_only_format_errors(plaintext: bytes) -> None:
    for read in (
        parse_document,
        lambda text: parse_page(text, Page(b"file", None, 1, URL)),
    ):
        with contextlib.suppress(FormatError):
            look_at_everything(read(plaintext))
    with contextlib.suppress(FormatError):
        parse_contents_list(plaintext, size=15)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_arbitrary_bytes_raise_nothing_but_format_errors(plaintext: bytes) -> None:
    assert_only_format_errors(plaintext)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_documents_with_changed_bytes_raise_nothing_but_format_errors(data: st.DataObject) -> None:
    plaintext = bytearray(json.dumps(WHOLE).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(plaintext) - 1))
        length = data.draw(st.integers(0, 5))
        plaintext[start : start + length] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{}", b"[", b"9" * 30, b"-", b"null"])
        )
    assert_only_format_errors(bytes(plaintext))


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Return where values stand in *value*: each container with a key or index."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [
        place for key in keys for place in places_in(value[key])
    ]


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([URL, "", "/%FF", 0o040755, 0o120777, 0o100644, 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_documents_with_changed_values_raise_nothing_but_format_errors(data: st.DataObject) -> None:
    document = json.loads(json.dumps(WHOLE))  # nothing in it is shared
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places_in(document)))
        if isinstance(container, dict) and data.draw(st.booleans()):
            container[data.draw(st.text(max_size=4))] = container.pop(key)
        else:
            container[key] = copy.deepcopy(
                data.draw(any_json | st.sampled_from([FILE, LINK, EMPTY, SPILLED]))
            )
    assert_only_format_errors(json.dumps(document).encode())
