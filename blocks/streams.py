"""LBRYnet's streams: one file as blobs, and the address that opens it.

The descriptor holds the key in clear and its hash is what gets announced: this is publishing, no
backup. (Descriptors: descriptors.py; blobs: blobs.py.)
"""

import io
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from typing_extensions import Buffer

from libernet.blocks.blobs import IV_BYTES, MAX_PIECE_BYTES, STREAM_KEY_BYTES, BlobSealer
from libernet.blocks.descriptors import MAX_STREAM_BLOBS, StreamBlob, write_descriptor
from libernet.blocks.errors import BlockTooLarge, FormatError
from libernet.blocks.ids import BlobId
from libernet.blocks.limits import MAX_NAME_BYTES
from libernet.blocks.names import check_name

_SHAPE = "the address of a stream reads /sha384/SD_HASH[/FILE]"
_MAX_TEXT_CHARACTERS = 3 * MAX_NAME_BYTES + 128
# A path segment of RFC 3986, as in references.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """Name a stream by its descriptor, and its file by the name that the stream's folder shows."""

    sd_hash: BlobId
    file_name: bytes | None = None

    def __post_init__(self) -> None:
        if self.file_name is not None:
            check_name(self.file_name)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address written as `/sha384/SD_HASH[/FILE]`, or raise FormatError.

        SD_HASH is 96 lower-case hex digits, FILE is percent-encoded. One trailing slash
        is accepted.
        """
        if len(text) > _MAX_TEXT_CHARACTERS:
            raise FormatError(f"the address is too long: {len(text)} characters")
        fields = text.removesuffix("/").split("/")
        if fields[:2] != ["", "sha384"] or not 3 <= len(fields) <= 4:
            raise FormatError(f"{text[:40]!r} is no address of a stream: {_SHAPE}")
        sd_hash = BlobId.parse(fields[2])
        return cls(sd_hash, _parse_name(fields[3]) if len(fields) == 4 else None)

    def __str__(self) -> str:
        name = "" if self.file_name is None else "/" + quote_from_bytes(self.file_name, safe="")
        return f"/sha384/{self.sd_hash}{name}"


def _parse_name(text: str) -> bytes:
    if not _SEGMENT.fullmatch(text):
        raise FormatError(f"{text[:80]!r} is no percent-encoded name of a file")
    return unquote_to_bytes(text)


def random_ivs() -> Iterator[bytes]:
    """Yield an IV for each blob of a stream, never the same."""
    while True:
        yield secrets.token_bytes(IV_BYTES)


def write_stream(
    source: io.BufferedIOBase | io.RawIOBase,
    name: str,
    put: Callable[[BlobId, Buffer], None],
    *,
    key: bytes | None = None,
    ivs: Iterator[bytes] | None = None,
) -> BlobId:
    """Give each blob of a stream that holds *source* to its end to *put*, the descriptor last.

    Return the descriptor's id. What *put* is given is valid until it returns. *name* is what the
    file is called. *key* and *ivs* are random unless given, and never used for two streams.
    Raises BlockTooLarge for more than about 22 GB, after the blobs that fit.
    """
    key = key or secrets.token_bytes(STREAM_KEY_BYTES)
    ivs = ivs or random_ivs()
    sealer = BlobSealer(key)
    piece = memoryview(bytearray(MAX_PIECE_BYTES))
    blobs: list[StreamBlob] = []
    while length := _read_full(source, piece):
        if len(blobs) == MAX_STREAM_BLOBS:
            raise BlockTooLarge("the file is too long for one stream: publish at most 22 GB")
        iv = next(ivs)
        blob_id, blob = sealer.seal(piece[:length], iv)
        put(blob_id, blob)
        blobs.append(StreamBlob(blob_id, iv, len(blob)))
    descriptor = write_descriptor(key, blobs, next(ivs), name)
    sd_hash = BlobId.of(descriptor)
    put(sd_hash, descriptor)
    return sd_hash


def _read_full(source: io.BufferedIOBase | io.RawIOBase, buffer: memoryview) -> int:
    """Fill *buffer* from *source* and return how many bytes there were before its end."""
    filled = 0
    while filled < len(buffer):
        read = source.readinto(buffer[filled:])
        if not read:
            break
        filled += read
    return filled
