"""Whether stored bytes are what their id names."""

from typing_extensions import Buffer

from libernet.blocks.errors import BlockTooLarge
from libernet.blocks.ids import BlobId, BlockId, StoredId
from libernet.blocks.inflating import inflated
from libernet.blocks.limits import MAX_BLOB_BYTES, MAX_BLOCK_BYTES


def max_bytes(stored_id: StoredId) -> int:
    """Return how many bytes may be stored under an id of that kind."""
    return MAX_BLOB_BYTES if isinstance(stored_id, BlobId) else MAX_BLOCK_BYTES


def checked_size(stored_id: StoredId, stored: Buffer) -> int:
    """Return how many bytes *stored* has; BlockTooLarge if none may be so long under that id."""
    size_bytes = memoryview(stored).nbytes
    if size_bytes > max_bytes(stored_id):
        raise BlockTooLarge(
            f"block {stored_id} has {size_bytes} bytes, the limit is {max_bytes(stored_id)}"
        )
    return size_bytes


def is_block(stored_id: StoredId, stored: Buffer) -> bool:
    """Say whether *stored* may stand under *stored_id*, whoever gave it.

    The id is the hash of the bytes or, for plain blocks of the original, of what they inflate to;
    that is looked at only if they begin like such a block, and never beyond MAX_BLOCK_BYTES.
    """
    if type(stored_id).of(stored) == stored_id:
        return True
    if isinstance(stored_id, BlobId):
        return False
    plain = inflated(stored, MAX_BLOCK_BYTES)
    return plain is not None and BlockId.of(plain) == stored_id
