"""What both ends of a block exchange agree on: addresses, media types, questions about many blocks.

A batch fetches many small blocks in one round trip. Its request is block ids of 32 bytes, one
after the other; its answer one record per id, in the order asked:

    length   4 bytes, big-endian; 0xFFFFFFFF for a block that is not here
    block    that many bytes

An answer may end after any record but not before the first: whoever asked asks again for the rest.

Which of many blocks a node has is asked for in the same form under another type. The answer has a
bit for each id in the order asked, the highest of a byte first, and zeros to the end of the last.
"""

import struct
from collections.abc import Iterator, Sequence

from libernet.blocks.errors import FormatError
from libernet.blocks.ids import BlobId, BlockId, StoredId
from libernet.blocks.limits import MAX_BLOB_BYTES, MAX_BLOCK_BYTES

BLOCKS_PATH = "/sha256/"

LIKE_PATH = "/sha256/like/"
BLOBS_PATH = "/sha384/"

BLOCK_TYPE = "application/octet-stream"
BATCH_REQUEST_TYPE = "application/vnd.libernet.block-ids.v1"
BATCH_ANSWER_TYPE = "application/vnd.libernet.blocks.v1"
WHICH_REQUEST_TYPE = "application/vnd.libernet.which-ids.v1"
WHICH_ANSWER_TYPE = "application/vnd.libernet.which-here.v1"

ID_BYTES = 32
LENGTH_BYTES = 4

MAX_BATCH_IDS = 512
"""Most ids in one batch: at 2 KiB per small block they fill an answer."""

MAX_BATCH_REQUEST_BYTES = MAX_BATCH_IDS * ID_BYTES

MAX_BATCH_BLOCK_BYTES = MAX_BLOCK_BYTES
"""Most block bytes in one answer, so that a batch takes no more memory than a large block."""

MAX_BATCH_ANSWER_BYTES = MAX_BATCH_BLOCK_BYTES + MAX_BATCH_IDS * LENGTH_BYTES

MAX_BODY_BYTES = max(MAX_BATCH_ANSWER_BYTES, MAX_BLOB_BYTES)
"""Longest body that is received; of its buffer only what was once filled is in memory."""

_LENGTH = struct.Struct(">I")
_ABSENT = 0xFFFFFFFF


def block_path(block_id: StoredId) -> str:
    """Return where every node serves the block, or blob."""
    return f"{BLOBS_PATH if isinstance(block_id, BlobId) else BLOCKS_PATH}{block_id}"


def batch_request(block_ids: Sequence[BlockId]) -> bytes:
    """Return the body that asks for *block_ids*, 1 to MAX_BATCH_IDS of them."""
    return b"".join(block_ids)


def parse_batch_request(body: bytes) -> list[BlockId]:
    """Return the ids asked for, or raise FormatError when there are none, or half of one."""
    if not body or len(body) % ID_BYTES or len(body) > MAX_BATCH_REQUEST_BYTES:
        raise FormatError(
            f"a batch asks for 1 to {MAX_BATCH_IDS} ids of {ID_BYTES} bytes, not {len(body)} bytes"
        )
    return [BlockId(body[at : at + ID_BYTES]) for at in range(0, len(body), ID_BYTES)]


def which_answer(are_here: Sequence[bool]) -> bytes:
    """Return the bits that say of each block whether it is here."""
    bits = "".join("01"[each] for each in are_here)
    size_bytes = which_bytes(len(bits))
    return int(bits.ljust(size_bytes * 8, "0"), 2).to_bytes(size_bytes)


def which_bytes(count: int) -> int:
    """Return how long the answer about *count* blocks is."""
    return -(-count // 8)


def parse_which_answer(answer: memoryview, count: int) -> list[bool]:
    """Return what an answer says of each of *count* blocks; FormatError if it is not about them."""
    if len(answer) != which_bytes(count):
        raise FormatError(f"{len(answer)} bytes do not say of {count} blocks which are here")
    bits = f"{int.from_bytes(answer):0{len(answer) * 8}b}"
    if "1" in bits[count:]:
        raise FormatError(f"more than the {count} blocks asked for are said to be here")
    return [bit == "1" for bit in bits[:count]]


def batch_record(block: bytes | None) -> bytes:
    """Return the record that carries *block*, or says that it is not here."""
    if block is None:
        return _LENGTH.pack(_ABSENT)
    return _LENGTH.pack(len(block)) + block


def batch_records(answer: memoryview) -> Iterator[memoryview | None]:
    """Yield the blocks of *answer* as parts of it, None for one that is not there.

    Raises FormatError when the answer ends within a record.
    """
    at = 0
    while at < len(answer):
        if len(answer) - at < LENGTH_BYTES:
            raise FormatError("a batch ends within the length of a block")
        (length,) = _LENGTH.unpack_from(answer, at)
        at += LENGTH_BYTES
        if length == _ABSENT:
            yield None
            continue
        if length > len(answer) - at:
            raise FormatError(
                f"a batch ends within a block: {length} bytes announced, {len(answer) - at} there"
            )
        yield answer[at : at + length]
        at += length
