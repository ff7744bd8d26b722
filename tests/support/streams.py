"""Streams of LBRYnet to read: those of the vectors, and others that are cut as one likes."""

import base64
import io
from collections.abc import Callable, Iterable

from typing_extensions import Buffer

from libernet.blocks.blobs import BlobSealer
from libernet.blocks.descriptors import StreamBlob, write_descriptor
from libernet.blocks.ids import BlobId
from libernet.blocks.streams import write_stream
from tests.support import vectors

Blobs = dict[BlobId, bytes]

KEY = bytes(range(16))
IV = bytes(range(16, 32))

VECTORS = {stream["name"]: stream for stream in vectors.load("lbry-streams.json")["streams"]}


def collector(blobs: Blobs) -> Callable[[BlobId, Buffer], None]:
    """Return what puts blobs into a dict."""

    def put(blob_id: BlobId, blob: Buffer) -> None:
        blobs[blob_id] = bytes(blob)

    return put


def content_of(name: str) -> bytes:
    """Return the content of a vector's file."""
    content = vectors.content(VECTORS[name], "plain")
    assert content is not None
    return content


def blobs_of(name: str) -> tuple[BlobId, BlobId, Blobs]:
    """Return a vector's stream: its descriptor's hash, that in the old order, and all blobs."""
    stream = VECTORS[name]
    blobs: Blobs = {}
    sd_hash = write_stream(
        io.BytesIO(content_of(name)),
        stream["file_name"],
        collector(blobs),
        key=bytes.fromhex(stream["key_hex"]),
        ivs=map(bytes.fromhex, stream["ivs_hex"]),
    )
    assert str(sd_hash) == stream["sd_hash"]
    old = base64.b64decode(stream["old_sort_sd_b64"])
    blobs[BlobId.of(old)] = old
    return sd_hash, BlobId.of(old), blobs


def cut_stream(pieces: Iterable[bytes], name: str = "file") -> tuple[list[BlobId], Blobs]:
    """Return the ids (descriptor first) and blobs of a stream that somebody cut into *pieces*."""
    sealer = BlobSealer(KEY)
    blobs: Blobs = {}
    listed = []
    for piece in pieces:
        blob_id, blob = sealer.seal(piece, IV)
        blobs[blob_id] = bytes(blob)
        listed.append(StreamBlob(blob_id, IV, len(blob)))
    descriptor = write_descriptor(KEY, listed, IV, name)
    blobs[BlobId.of(descriptor)] = descriptor
    return [BlobId.of(descriptor), *(blob.id for blob in listed)], blobs
