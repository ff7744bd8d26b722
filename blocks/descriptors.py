"""Descriptors of LBRYnet's streams: the blob in clear that lists the blobs of one file.

JSON with `blobs`, `key`, `stream_hash`, `stream_name`, `stream_type` and `suggested_file_name`, in
any order: the original sorts its keys since 2018-07 and had another order before. A descriptor is
named by the hash of its bytes, so what was received is kept and handed on as it came, and never
written anew. Whoever knows that name can read the stream: the key stands in it.

Like the original's reader this one looks at neither `stream_type` nor keys that it does not know.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from libernet.blocks.blobs import (
    CIPHER_BYTES,
    IV_BYTES,
    MAX_PIECE_BYTES,
    STREAM_KEY_BYTES,
    BlobReference,
)
from libernet.blocks.errors import BlockTooLarge, FormatError
from libernet.blocks.ids import BlobId
from libernet.blocks.limits import MAX_BLOB_BYTES
from libernet.blocks.stream_names import safe_name, suggested_name

MAX_STREAM_BLOBS = 12_000
"""Most blobs of one stream: as written, a descriptor of 2 MiB lists about 10,800, 22 GB of data;
without the blanks in it a few more would fit."""

MAX_STREAM_BYTES = 10_700 * MAX_PIECE_BYTES
"""Longest file that fits into one stream for sure, cut as the original does: 195 bytes of the
descriptor speak of each blob."""

_STREAM_TYPE = "lbryfile"
_NOT_HEX = re.compile(r"[^0-9a-f]")


@dataclass(frozen=True, slots=True)
class StreamBlob:
    """A blob with data as a descriptor lists it: *length* counts stored bytes, padding included."""

    id: BlobId
    iv: bytes = field(repr=False)
    length: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says; `sd_hash` names it.

    *blobs* are those with data, in file order: none for an empty file. *terminator_iv* ends the
    list and encrypts nothing. *stream_name* and *suggested_name* are what the writer
    says: use `file_name`.
    """

    sd_hash: BlobId
    key: bytes = field(repr=False)
    blobs: tuple[StreamBlob, ...]
    terminator_iv: bytes = field(repr=False)
    stream_name: str
    suggested_name: str

    @property
    def file_name(self) -> bytes:
        """The name under which a folder may show the file."""
        return safe_name(self.suggested_name)

    def reference(self, number: int) -> BlobReference:
        """Return what opens the blob of that number."""
        blob = self.blobs[number]
        return BlobReference(blob.id, self.key, blob.iv)


class _BlobKeys(msgspec.Struct, gc=False):
    blob_num: int
    iv: str
    length: int
    blob_hash: str | msgspec.UnsetType = msgspec.UNSET


class _DescriptorKeys(msgspec.Struct, gc=False):
    blobs: Annotated[list[_BlobKeys], msgspec.Meta(min_length=1, max_length=MAX_STREAM_BLOBS + 1)]
    key: str
    stream_hash: str
    stream_name: str
    suggested_file_name: str


_DESCRIPTOR = msgspec.json.Decoder(_DescriptorKeys)


def parse_descriptor(stored: bytes) -> Descriptor:
    """Return what the blob *stored* describes, checked as a whole, or raise FormatError.

    Refused are more than 2 MiB, no blobs at all or more than MAX_STREAM_BLOBS with data, numbers
    out of order, lengths that no blob with data has (whole cipher blocks, at most 2 MiB), a list
    without its terminator, digits that are no lower-case hex, a `stream_hash` that is not the
    stream's. Names may be anything.
    """
    if len(stored) > MAX_BLOB_BYTES:
        raise FormatError(f"a descriptor has {len(stored)} bytes, the limit is {MAX_BLOB_BYTES}")
    try:
        keys = _DESCRIPTOR.decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise FormatError(f"this is no descriptor of a stream: {exc}") from exc
    except RecursionError:
        raise FormatError("this is no descriptor of a stream: it is nested too deep") from None
    blobs = _blobs(keys)
    names = [_name(keys.stream_name), _name(keys.suggested_file_name)]
    descriptor = Descriptor(
        BlobId.of(stored),
        _from_hex(keys.key, STREAM_KEY_BYTES, "key"),
        blobs,
        _from_hex(keys.blobs[-1].iv, IV_BYTES, "IV"),
        *(name.decode(errors="replace") for name in names),
    )
    if _stream_hash(descriptor, *names) != keys.stream_hash:
        raise FormatError(f"the stream hash of descriptor {descriptor.sd_hash} is not the stream's")
    return descriptor


def write_descriptor(
    key: bytes, blobs: Sequence[StreamBlob], terminator_iv: bytes, name: str
) -> bytes:
    """Return the descriptor of the file *name*, byte for byte as the original writes it.

    Raises BlockTooLarge when there are too many blobs for one: files of up to 22 GB have room.
    """
    name = name.encode(errors="replace").decode()  # bytes that are no UTF-8 become "?"
    names = name.encode(), suggested_name(name).encode()
    entries: list[dict[str, object]] = [
        {"blob_hash": str(blob.id), "blob_num": number, "iv": blob.iv.hex(), "length": blob.length}
        for number, blob in enumerate(blobs)
    ]
    entries.append({"blob_num": len(blobs), "iv": terminator_iv.hex(), "length": 0})
    document = {
        "blobs": entries,
        "key": key.hex(),
        "stream_hash": _hash_of(key, blobs, terminator_iv, names),
        "stream_name": names[0].hex(),
        "stream_type": _STREAM_TYPE,
        "suggested_file_name": names[1].hex(),
    }
    written = json.dumps(document, sort_keys=True).encode()
    if len(written) > MAX_BLOB_BYTES or len(blobs) > MAX_STREAM_BLOBS:
        raise BlockTooLarge(
            f"a stream of {len(blobs)} blobs is too long for one descriptor: publish at most 22 GB"
        )
    return written


def blob_ids(descriptor: Descriptor) -> list[BlobId]:
    """Return every blob that the stream needs, its descriptor first."""
    return [descriptor.sd_hash, *dict.fromkeys(blob.id for blob in descriptor.blobs)]


def _blobs(keys: _DescriptorKeys) -> tuple[StreamBlob, ...]:
    """Return the blobs with data; FormatError unless a terminator follows them."""
    for number, blob in enumerate(keys.blobs):
        if blob.blob_num != number:
            raise FormatError(f"blob {number} of a stream has the number {blob.blob_num}")
    *filled, terminator = keys.blobs
    if terminator.length != 0 or terminator.blob_hash is not msgspec.UNSET:
        raise FormatError("the last blob of a stream has data: the terminator is missing")
    return tuple(_blob(blob) for blob in filled)


def _blob(blob: _BlobKeys) -> StreamBlob:
    if blob.blob_hash is msgspec.UNSET:
        raise FormatError(f"blob {blob.blob_num} of a stream has no hash")
    if not 0 < blob.length <= MAX_BLOB_BYTES or blob.length % CIPHER_BYTES:
        raise FormatError(
            f"blob {blob.blob_num} of a stream has {blob.length} bytes, as none with data"
        )
    iv = _from_hex(blob.iv, IV_BYTES, "IV")
    return StreamBlob(BlobId.parse(blob.blob_hash), iv, blob.length)


def _from_hex(text: str, length: int, what: str) -> bytes:
    if len(text) != 2 * length or _NOT_HEX.search(text):
        raise FormatError(f"the {what} of a stream is not {2 * length} lower-case hex digits")
    return bytes.fromhex(text)


def _name(text: str) -> bytes:
    if len(text) % 2 or _NOT_HEX.search(text):
        raise FormatError("a name in a descriptor is not written as lower-case hex digits")
    return bytes.fromhex(text)


def _stream_hash(descriptor: Descriptor, *names: bytes) -> str:
    return _hash_of(descriptor.key, descriptor.blobs, descriptor.terminator_iv, names)


def _hash_of(
    key: bytes, blobs: Iterable[StreamBlob], terminator_iv: bytes, names: Sequence[bytes]
) -> str:
    """Return the hash over all of a stream's fields, as the text of the descriptor has it."""
    of_blobs = hashlib.sha384()
    number = 0
    for number, blob in enumerate(blobs, start=1):
        text = f"{blob.id}{number - 1}{blob.iv.hex()}{blob.length}"
        of_blobs.update(hashlib.sha384(text.encode()).digest())
    of_blobs.update(hashlib.sha384(f"{number}{terminator_iv.hex()}0".encode()).digest())
    stream_name, suggested = (name.hex() for name in names)
    fields = f"{stream_name}{key.hex()}{suggested}".encode()
    return hashlib.sha384(fields + of_blobs.digest()).hexdigest()
