"""zlib as the original uses it, never beyond a limit."""

import zlib

from typing_extensions import Buffer

_CM_DEFLATE = 8
_WINDOW_32K = 7
_HEADER_BYTES = 2


def looks_deflated(stored: Buffer) -> bool:
    """Say whether *stored* begins with a zlib header (RFC 1950): random bytes do once in 1,000."""
    head = bytes(memoryview(stored)[:_HEADER_BYTES])
    return (
        len(head) == _HEADER_BYTES
        and head[0] & 0x0F == _CM_DEFLATE
        and head[0] >> 4 <= _WINDOW_32K
        and int.from_bytes(head, "big") % 31 == 0
    )


def inflated(stored: Buffer, limit_bytes: int) -> bytes | None:
    """Return what the zlib stream *stored* inflates to.

    None if it is none, has bytes behind it, or inflates to more than *limit_bytes*; no more than
    that is ever allocated.
    """
    if not looks_deflated(stored):
        return None
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(stored, limit_bytes + 1)
    except zlib.error:
        return None
    if len(plain) > limit_bytes or not inflater.eof or inflater.unused_data:
        return None
    return plain
