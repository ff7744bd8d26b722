"""References: the text people copy, and everything that can be wrong with it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.addresses import link_of, parse_opening, without_path
from libernet.blocks.errors import FormatError
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_NAME_BYTES, MAX_PATH_PARTS
from libernet.blocks.reference import (
    LikeSearch,
    Reference,
    Suite,
    parse_address,
    parse_link,
)
from libernet.blocks.streams import StreamAddress

ID = "ab" * 32
KEY = "0123456789abcdef" * 4
ROOT = f"/sha256/{ID}/aes256gcm/{KEY}"
STREAM = f"/sha384/{'cd' * 48}"

names = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
ids = st.binary(min_size=32, max_size=32).map(BlockId)
references = st.builds(
    Reference,
    id=ids,
    suite=st.sampled_from([suite for suite in Suite if suite is not Suite.PLAIN]),
    key=st.binary(min_size=32, max_size=32),
    path=st.lists(names, max_size=5).map(tuple),
    index=st.booleans(),
) | st.builds(
    Reference,
    ids,
    st.just(Suite.PLAIN),
    st.just(b""),
    path=st.lists(names, max_size=5).map(tuple),
    index=st.booleans(),
)
# Texts that get past the first check: references with pieces taken out, doubled and replaced.
mangled = st.builds(
    lambda text, start, length, new: text[:start] + new + text[start + length :],
    references.map(str),
    st.integers(0, 200),
    st.integers(0, 100),
    st.text(st.sampled_from("/%.0aAgZ \0\n\u00fc\udcff"), max_size=5),
)


@given(references)
@settings(deadline=None)
def test_what_is_written_is_read_back_as_the_same_value(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text() | mangled)
@settings(deadline=None, max_examples=500)
def test_any_text_is_a_reference_or_a_format_error(text: str) -> None:
    for parse in (Reference.parse, LikeSearch.parse, parse_address, parse_link):
        try:
            address = parse(text)
        except FormatError:
            continue
        assert parse(str(address)) == address


def test_the_text_has_the_form_that_people_were_given() -> None:
    reference = Reference(
        BlockId.parse(ID), Suite.AES256GCM, bytes.fromhex(KEY), (b"photos", b"a b%c\xff~")
    )
    assert str(reference) == f"{ROOT}/photos/a%20b%25c%FF~"


def test_the_parts_of_a_text_become_the_fields() -> None:
    reference = Reference.parse(f"{ROOT}/a/b")
    assert reference.id == bytes.fromhex(ID)
    assert reference.suite is Suite.AES256GCM
    assert reference.key == bytes.fromhex(KEY)
    assert reference.path == (b"a", b"b")


@pytest.mark.parametrize("path", ["", "/a", "/a/b"])
def test_a_trailing_slash_asks_for_the_index(path: str) -> None:
    with_index = Reference.parse(f"{ROOT}{path}/")
    assert with_index.index
    assert str(with_index) == f"{ROOT}{path}/"
    assert with_index == replace(Reference.parse(f"{ROOT}{path}"), index=True)
    assert with_index.block == Reference.parse(ROOT)


def test_what_leads_on_from_a_block_without_a_key_stands_behind_its_suite() -> None:
    plain = Reference(BlockId.parse(ID), Suite.PLAIN, b"")
    for text in (f"/sha256/{ID}", f"/sha256/{ID}/plain"):
        assert Reference.parse(text) == plain
    assert str(plain) == f"/sha256/{ID}"
    for path, parts in (("/a%20b/c", (b"a b", b"c")), (f"/{KEY}", (KEY.encode(),))):
        inside = Reference.parse(f"/sha256/{ID}/plain{path}")
        assert inside == replace(plain, path=parts)
        assert str(inside) == f"/sha256/{ID}/plain{path}"
        assert inside.block == plain
    for text in (f"/sha256/{ID}/", f"/sha256/{ID}/plain/"):
        assert str(Reference.parse(text)) == f"/sha256/{ID}/plain/"


@pytest.mark.parametrize(
    "text",
    [
        f"/sha256/{ID}",
        f"/sha256/{ID}/aes256/{KEY}",
        f"/sha256/{ID}/passphrase/{KEY}",
        f"/sha256/{ID}/aes256/{KEY}/a/b",
        f"/sha256/{ID}/aes256/{KEY}/",
        f"/sha256/like/{ID}",
    ],
)
def test_all_that_the_originals_write_is_read_and_printed_back(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        f"/sha256/like/{ID}/",
        f"/sha256/like/{ID[1:]}",
        "/sha256/like/",
        f"/sha256/{ID}/eas256/{KEY}",
        f"/sha256/{ID}/password/{KEY}",
        f"/sha256/{ID}//{KEY}",
    ],
)
def test_what_no_original_writes_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_address(text)


@pytest.mark.parametrize("link", [f"libernet:{ROOT}/a", f"LIBERNET://{ROOT}/a", f"{ROOT}/a"])
def test_a_link_carries_a_reference(link: str) -> None:
    assert parse_link(link) == Reference.parse(f"{ROOT}/a")


def test_a_link_of_another_kind_is_refused() -> None:
    for text in (f"http:{ROOT}", f"libernet:libernet:{ROOT}", "libernet:", f"libernet:x{ROOT}"):
        with pytest.raises(FormatError):
            parse_link(text)


@given(references)
@settings(deadline=None)
def test_every_reference_has_a_link(reference: Reference) -> None:
    assert parse_link(link_of(reference)) == reference
    assert parse_opening(link_of(reference)) == reference


@pytest.mark.parametrize("text", [STREAM, f"{STREAM}/a%20b"])
@pytest.mark.parametrize("scheme", ["", "libernet:", "libernet://"])
def test_the_address_of_a_stream_is_opened_like_a_reference(scheme: str, text: str) -> None:
    address = parse_opening(f"{scheme}{text}")
    assert address == StreamAddress.parse(text)
    assert link_of(address) == f"libernet:{text}"
    assert str(without_path(address)) == STREAM
    with pytest.raises(FormatError, match="the address of a stream reads"):
        parse_opening(f"{scheme}{text}/b/c")


@pytest.mark.parametrize("text", ["a%2d%c3%bc+(1)", "%61-%C3%BC%2B%281%29"])
def test_percent_encoding_need_not_be_canonical(text: str) -> None:
    reference = Reference.parse(f"{ROOT}/{text}")
    assert reference.path == ("a-ü+(1)".encode(),)
    assert str(reference) == f"{ROOT}/a-%C3%BC%2B%281%29"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no reference: a reference reads /sha256/ID[/SUITE/KEY[/PATH]]"),
        (f"/sha256/{ID}/plain/..", "path part 1 is '..', which is no name"),
        ("/", "'/' is no reference"),
        ("sha256/" + ID, "is no reference"),
        ("/sha384/" + ID, "is no reference"),
        ("/sha256", "its block id is missing"),
        ("/sha256/abc", "the block id is truncated: 3 of 64 hex digits"),
        (f"/sha256/{ID}/aes256", "the reference is truncated, its key is missing"),
        (f"/sha256/{ID}/aes256gcm/", "the reference is truncated, its key is missing"),
        (ROOT[:-52], "the key is truncated: 12 of 64 hex digits"),
        (ROOT + "0", "the key is too long: 65 of 64 hex digits"),
        (ROOT + "\n", "the key is too long"),
        (ROOT.replace("abab", "abAB", 1), "the block id has 'A' in place 3"),
        (ROOT.replace("aes256gcm", "rot13"), "the suite 'rot13' is unknown: this version opens"),
        (f"{ROOT}//", "path part 1 is empty"),
        (f"{ROOT}/a//b", "path part 2 is empty"),
        (f"{ROOT}/a/..", "path part 2 is '..', which is no name"),
        (f"{ROOT}/a/%2E", "path part 2 is '.', which is no name"),
        (f"{ROOT}/a%2Fb", "path part 1 has a slash or a NUL in its name"),
        (f"{ROOT}/a%00b", "path part 1 has a slash or a NUL in its name"),
        (f"{ROOT}/a%2", "path part 1 has the incomplete escape '%2'"),
        (f"{ROOT}/100%zz", "path part 1 has the incomplete escape '%zz'"),
        (f"{ROOT}/a b", "path part 1 has ' ', which must be percent-encoded as %20"),
        (f"{ROOT}/ü", "must be percent-encoded as %C3%BC"),
        (f"{ROOT}/\udcff", "path part 1 has '\\udcff', which must be percent-encoded"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        Reference.parse(text)
    assert message in str(caught.value)


def test_a_name_as_long_as_linux_allows_is_accepted_and_a_longer_one_is_not() -> None:
    longest = "%FF" * MAX_NAME_BYTES
    assert Reference.parse(f"{ROOT}/{longest}").path == (b"\xff" * MAX_NAME_BYTES,)
    with pytest.raises(FormatError, match="has 256 bytes, a name at most 255"):
        Reference.parse(f"{ROOT}/{longest}a")


def test_a_path_as_deep_as_the_limit_is_accepted_and_a_deeper_one_is_not() -> None:
    assert len(Reference.parse(ROOT + "/a" * MAX_PATH_PARTS).path) == MAX_PATH_PARTS
    with pytest.raises(FormatError, match="has 2049 parts, at most 2048"):
        Reference.parse(ROOT + "/a" * (MAX_PATH_PARTS + 1))


def test_an_endless_text_is_refused_before_it_is_taken_apart() -> None:
    with pytest.raises(FormatError, match="too long: 100000064 characters"):
        Reference.parse("/sha256/" + ID[:56] + "/" * 10**8)


@pytest.mark.parametrize(
    ("block_id", "key", "path"),
    [
        (b"short", bytes(32), ()),
        (bytes(32), bytes(16), ()),
        (bytes(32), bytes(32), (b"..",)),
        (bytes(32), bytes(32), (b"a/b",)),
    ],
)
def test_a_value_that_could_not_be_written_cannot_be_made(
    block_id: bytes, key: bytes, path: tuple[bytes, ...]
) -> None:
    with pytest.raises(FormatError):
        Reference(BlockId(block_id), Suite.AES256GCM, key, path)


def test_neither_repr_nor_error_text_gives_the_key_away() -> None:
    assert KEY[:16] not in repr(Reference.parse(ROOT))
    assert repr(bytes.fromhex(KEY)) not in repr(Reference.parse(ROOT))
    with pytest.raises(FormatError) as caught:
        Reference.parse(ROOT[:-1] + "g")
    assert KEY[:16] not in str(caught.value)
