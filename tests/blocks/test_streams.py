"""LBRYnet's streams: what the original wrote is read, what we write it would have written."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from libernet.blocks.blobs import (
    MAX_PIECE_BYTES,
    BlobReference,
    BlobSealer,
    unseal_blob,
)
from libernet.blocks.descriptors import (
    MAX_STREAM_BLOBS,
    Descriptor,
    StreamBlob,
    blob_ids,
    parse_descriptor,
    write_descriptor,
)
from libernet.blocks.errors import BlockCorrupt, BlockTooLarge, FormatError
from libernet.blocks.ids import BlobId
from libernet.blocks.limits import MAX_BLOB_BYTES
from libernet.blocks.streams import StreamAddress, write_stream
from tests.support import vectors

_STREAMS = {stream["name"]: stream for stream in vectors.load("lbry-streams.json")["streams"]}
_KEY = bytes(range(16))
_IV = bytes(range(16, 32))

Keys = dict[str, Any]


def _content(stream: Keys) -> bytes:
    content = vectors.content(stream, "plain")
    assert content is not None
    return content


def _written(content: bytes, name: str, **given: Any) -> tuple[BlobId, dict[BlobId, bytes]]:
    """Write a stream; return its descriptor's id and all of its blobs."""
    blobs: dict[BlobId, bytes] = {}

    def put(blob_id: BlobId, blob: Buffer) -> None:
        blobs[blob_id] = bytes(blob)

    return write_stream(io.BytesIO(content), name, put, **given), blobs


def _read(descriptor: Descriptor, blobs: dict[BlobId, bytes]) -> bytes:
    references = map(descriptor.reference, range(len(descriptor.blobs)))
    return b"".join(unseal_blob(reference, blobs[reference.id]) for reference in references)


@pytest.fixture(params=_STREAMS)
def stream(request: pytest.FixtureRequest) -> Keys:
    return _STREAMS[request.param]


@pytest.mark.parametrize("order", ["sd_bytes_b64", "old_sort_sd_b64"])
def test_a_descriptor_of_the_original_is_read_in_either_order_of_its_fields(
    stream: Keys, order: str
) -> None:
    stored = base64.b64decode(stream[order])
    descriptor = parse_descriptor(stored)
    expected = {"sd_bytes_b64": "sd_hash", "old_sort_sd_b64": "old_sort_sd_hash"}[order]
    assert str(descriptor.sd_hash) == stream[expected]
    assert descriptor.key.hex() == stream["key_hex"]
    assert descriptor.stream_name == stream["file_name"]
    assert descriptor.suggested_name == stream["suggested_file_name"]
    assert descriptor.file_name.decode() == stream["suggested_file_name"]
    *filled, terminator = stream["blobs"]
    found = [(str(blob.id), blob.iv.hex(), blob.length) for blob in descriptor.blobs]
    assert found == [(blob["hash"], blob["iv"], blob["length"]) for blob in filled]
    assert descriptor.terminator_iv.hex() == terminator["iv"]


def test_a_stream_is_written_byte_for_byte_as_by_the_original(stream: Keys) -> None:
    content = _content(stream)
    assert hashlib.sha256(content).hexdigest() == stream["plain_sha256"]
    sd_hash, blobs = _written(
        content,
        stream["file_name"],
        key=bytes.fromhex(stream["key_hex"]),
        ivs=map(bytes.fromhex, stream["ivs_hex"]),
    )
    assert str(sd_hash) == stream["sd_hash"]
    assert blobs[sd_hash] == base64.b64decode(stream["sd_bytes_b64"])
    for blob in stream["blobs"][:-1]:
        stored = blobs[BlobId.parse(blob["hash"])]
        assert len(stored) == blob["length"]
        if "bytes_b64" in blob:
            assert stored == base64.b64decode(blob["bytes_b64"])
    assert _read(parse_descriptor(blobs[sd_hash]), blobs) == content


def test_a_stream_needs_its_descriptor_and_its_blobs(stream: Keys) -> None:
    descriptor = parse_descriptor(base64.b64decode(stream["sd_bytes_b64"]))
    hashes = [blob["hash"] for blob in stream["blobs"][:-1]]
    assert [str(each) for each in blob_ids(descriptor)] == [stream["sd_hash"], *hashes]


@given(st.binary(max_size=100), st.text(min_size=1, max_size=20))
def test_what_is_written_is_read_back(content: bytes, name: str) -> None:
    sd_hash, blobs = _written(content, name)
    descriptor = parse_descriptor(blobs[sd_hash])
    assert descriptor.sd_hash == sd_hash
    assert _read(descriptor, blobs) == content
    assert all(BlobId.of(blob) == blob_id for blob_id, blob in blobs.items())


def test_the_same_file_twice_shares_nothing() -> None:
    first, second = (_written(b"the same", "name")[1] for _ in range(2))
    assert first.keys().isdisjoint(second)


def test_a_file_that_hands_out_little_at_a_time_is_cut_all_the_same() -> None:
    content = os.urandom(MAX_PIECE_BYTES + 7)

    class Trickle(io.BytesIO):
        def readinto(self, buffer: Buffer, /) -> int:
            return super().readinto(memoryview(buffer)[:300_000])

    blobs: dict[BlobId, bytes] = {}

    def put(blob_id: BlobId, blob: Buffer) -> None:
        blobs[blob_id] = bytes(blob)

    descriptor = parse_descriptor(blobs[write_stream(Trickle(content), "trickle", put)])
    assert [blob.length for blob in descriptor.blobs] == [MAX_BLOB_BYTES, 16]
    assert _read(descriptor, blobs) == content


def test_a_foreign_stream_may_be_cut_anywhere() -> None:
    pieces = [os.urandom(length) for length in (5, 16, 1000, 1, 31)]
    blobs = {}
    listed = []
    sealer = BlobSealer(_KEY)
    for piece in pieces:
        blob_id, blob = sealer.seal(piece, _IV)
        blobs[blob_id] = bytes(blob)
        listed.append(StreamBlob(blob_id, _IV, len(blob)))
    descriptor = parse_descriptor(write_descriptor(_KEY, listed, _IV, "odd"))
    assert _read(descriptor, blobs) == b"".join(pieces)


def test_a_piece_larger_than_a_blob_holds_is_refused() -> None:
    with pytest.raises(BlockTooLarge):
        BlobSealer(_KEY).seal(bytes(MAX_BLOB_BYTES), _IV)


def test_more_blobs_than_a_descriptor_lists_are_refused() -> None:
    blob = StreamBlob(BlobId(bytes(48)), _IV, 16)
    longest = write_descriptor(_KEY, [blob] * 10_000, _IV, "long")
    assert len(parse_descriptor(longest).blobs) == 10_000
    with pytest.raises(BlockTooLarge, match="publish at most 22 GB"):
        write_descriptor(_KEY, [blob] * MAX_STREAM_BLOBS, _IV, "too long")


def _mangled(change: Callable[[Keys], object]) -> bytes:
    """Return the descriptor of a stream of two blobs after *change*, its stream hash renewed."""
    document = json.loads(base64.b64decode(_STREAMS["2MiB"]["sd_bytes_b64"]))
    change(document)
    return json.dumps(_with_right_hash(document)).encode()


def _with_right_hash(document: Keys) -> Keys:
    """Return the document with the stream hash as formats say it: over the text of all fields."""
    if "stream_hash" not in document:
        return document
    total = hashlib.sha384()
    for blob in document.get("blobs", ()):
        text = str(blob.get("blob_hash", "")) if blob.get("length") else ""
        text += f"{blob.get('blob_num')}{blob.get('iv')}{blob.get('length')}"
        total.update(hashlib.sha384(text.encode()).digest())
    fields = (document.get(key, "") for key in ("stream_name", "key", "suggested_file_name"))
    whole = "".join(map(str, fields)).encode() + total.digest()
    return document | {"stream_hash": hashlib.sha384(whole).hexdigest()}


def test_a_descriptor_is_read_whatever_else_it_says() -> None:
    def change(document: Keys) -> None:
        document |= {"stream_type": "something else", "more": [1, {"a": None}]}

    assert len(parse_descriptor(_mangled(change)).blobs) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(blobs=[]), "length"),
        (lambda d: d.pop("blobs"), "blobs"),
        (lambda d: d["blobs"].pop(), "terminator is missing"),
        (lambda d: d["blobs"].pop(0), "number"),
        (lambda d: d["blobs"].reverse(), "number"),
        (lambda d: d["blobs"][1].update(blob_num=7), "number"),
        (lambda d: d["blobs"][0].update(blob_num=0.0), "float"),
        (lambda d: d["blobs"][0].update(length=0), "none with data"),
        (lambda d: d["blobs"][0].update(length=-16), "none with data"),
        (lambda d: d["blobs"][0].update(length=17), "none with data"),
        (lambda d: d["blobs"][0].update(length=MAX_BLOB_BYTES + 16), "none with data"),
        (lambda d: d["blobs"][0].update(length=10**30), "none with data"),
        (lambda d: d["blobs"][0].pop("blob_hash"), "has no hash"),
        (lambda d: d["blobs"][0].update(blob_hash="0" * 64), "96"),
        (lambda d: d["blobs"][0].update(blob_hash="A" * 96), "96"),
        (lambda d: d["blobs"][0].update(blob_hash=None), "null"),
        (lambda d: d["blobs"][0].update(iv="0" * 30), "IV"),
        (lambda d: d["blobs"][0].update(iv="g" * 32), "IV"),
        (lambda d: d["blobs"][-1].update(blob_hash="0" * 96), "terminator"),
        (lambda d: d["blobs"][-1].update(length=16), "terminator"),
        (lambda d: d["blobs"][-1].update(iv=""), "IV"),
        (lambda d: d.update(key="0" * 64), "key"),
        (lambda d: d.update(key=7), "int"),
        (lambda d: d.update(stream_name="abc"), "name"),
        (lambda d: d.update(suggested_file_name="AB"), "name"),
        (lambda d: d.pop("suggested_file_name"), "suggested_file_name"),
        (lambda d: d.pop("stream_hash"), "stream_hash"),
    ],
)
def test_a_descriptor_that_is_none_is_refused(
    change: Callable[[Keys], object], complaint: str
) -> None:
    with pytest.raises(FormatError, match=complaint):
        parse_descriptor(_mangled(change))


@pytest.mark.parametrize("field", ["key", "stream_name", "suggested_file_name", "stream_hash"])
def test_a_field_changed_behind_the_stream_hash_is_noticed(field: str) -> None:
    document = json.loads(base64.b64decode(_STREAMS["2MiB"]["sd_bytes_b64"]))
    document[field] = "00" + document[field][2:]
    with pytest.raises(FormatError, match="stream hash"):
        parse_descriptor(json.dumps(document).encode())


@pytest.mark.parametrize("field", ["blob_hash", "iv"])
def test_a_blob_changed_behind_the_stream_hash_is_noticed(field: str) -> None:
    document = json.loads(base64.b64decode(_STREAMS["2MiB"]["sd_bytes_b64"]))
    document["blobs"][0][field] = "00" + document["blobs"][0][field][2:]
    with pytest.raises(FormatError, match="stream hash"):
        parse_descriptor(json.dumps(document).encode())


def test_too_many_blobs_and_too_many_bytes_are_refused() -> None:
    terminator = {"blob_num": 0, "iv": "00" * 16, "length": 0}
    with pytest.raises(FormatError, match="length"):
        parse_descriptor(json.dumps({"blobs": [terminator] * (MAX_STREAM_BLOBS + 2)}).encode())
    with pytest.raises(FormatError, match="limit"):
        parse_descriptor(b" " * (MAX_BLOB_BYTES + 1))


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(FormatError, match="too deep"):
        parse_descriptor(b'{"x":' + b"[" * 1_000_000)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_descriptor_or_a_format_error(given_bytes: bytes) -> None:
    with pytest.raises(FormatError):
        parse_descriptor(given_bytes)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(["blobs", "key", "stream_hash", "stream_name", "suggested_file_name"]), _JSON
)
def test_any_value_in_a_field_is_a_descriptor_or_a_format_error(field: str, value: Any) -> None:
    document = json.loads(base64.b64decode(_STREAMS["2MiB"]["sd_bytes_b64"])) | {field: value}
    with pytest.raises(FormatError):
        parse_descriptor(json.dumps(document).encode())


@given(st.integers(0, 2), st.sampled_from(["blob_hash", "blob_num", "iv", "length"]), _JSON)
def test_any_value_in_a_blob_is_a_descriptor_or_a_format_error(
    number: int, field: str, value: Any
) -> None:
    document = json.loads(base64.b64decode(_STREAMS["2MiB"]["sd_bytes_b64"]))
    if document["blobs"][number].get(field) == value and type(value) is int:
        return  # drawn by chance: nothing is changed
    document["blobs"][number][field] = value
    with pytest.raises(FormatError):
        parse_descriptor(json.dumps(document).encode())


def test_padding_is_checked_to_its_last_byte() -> None:
    piece = b"x" * 20
    blob_id, blob = BlobSealer(_KEY).seal(piece, _IV)
    reference = BlobReference(blob_id, _KEY, _IV)
    assert unseal_blob(reference, blob) == piece
    for place in range(4, 16):  # in CBC a bit flipped here flips the same bit of the next block
        broken = bytearray(blob)
        broken[place] ^= 1
        with pytest.raises(BlockCorrupt):
            unseal_blob(reference, broken)


@pytest.mark.parametrize("length", [0, 15, 17, MAX_BLOB_BYTES + 16])
def test_bytes_that_no_cipher_makes_are_refused(length: int) -> None:
    with pytest.raises(BlockCorrupt, match="as none with data"):
        unseal_blob(BlobReference(BlobId(bytes(48)), _KEY, _IV), bytes(length))


def test_keys_stay_out_of_logs() -> None:
    descriptor = parse_descriptor(base64.b64decode(_STREAMS["tiny"]["sd_bytes_b64"]))
    shown = repr(descriptor) + repr(descriptor.reference(0))
    assert not re.search(r"5a5a601e|Z`\\x1e", shown)


_HASH = _STREAMS["tiny"]["sd_hash"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"/sha384/{_HASH}", None),
        (f"/sha384/{_HASH}/tiny.txt", b"tiny.txt"),
        (f"/sha384/{_HASH}/caf%C3%A9%20%2541", "café %41".encode()),
    ],
)
def test_an_address_is_printed_as_it_was_read(text: str, name: bytes | None) -> None:
    address = StreamAddress.parse(text)
    assert address == StreamAddress(BlobId.parse(_HASH), name)
    assert str(address) == text
    assert StreamAddress.parse(text + "/") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/sha384",
        "/sha384/",
        f"sha384/{_HASH}",
        f"/sha256/{_HASH}",
        f"/sha384/{_HASH[:-1]}",
        f"/sha384/{_HASH[:-1]}G",
        f"/sha384/{_HASH.upper()}",
        f"/sha384/{_HASH}//",
        f"/sha384/{_HASH}/a/b",
        f"/sha384/{_HASH}/..",
        f"/sha384/{_HASH}/%2e%2E",
        f"/sha384/{_HASH}/a%2Fb",
        f"/sha384/{_HASH}/a%00",
        f"/sha384/{_HASH}/a%0",
        f"/sha384/{_HASH}/a b",
        f"/sha384/{_HASH}/" + "a" * 256,
        f"/sha384/{_HASH}/" + "a" * 5000,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        StreamAddress.parse(text)


@given(st.binary(min_size=1, max_size=255))
def test_every_name_can_stand_in_an_address(name: bytes) -> None:
    try:
        address = StreamAddress(BlobId.parse(_HASH), name)
    except FormatError:
        assert name in {b".", b".."} or b"/" in name or b"\0" in name
    else:
        assert StreamAddress.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        StreamAddress.parse(text)
