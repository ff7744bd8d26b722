"""Names of blocks."""

import hashlib
import re
from typing import Self

from typing_extensions import Buffer

from libernet.blocks.errors import FormatError

_HEX_DIGITS = re.compile(r"[0-9a-f]{64}\Z")


class BlockId(bytes):
    """The SHA-256 of a block's stored bytes: 32 bytes that compare and hash as such."""

    __slots__ = ()

    @classmethod
    def of(cls, block: Buffer) -> Self:
        """Return the id of *block*."""
        return cls(hashlib.sha256(block).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id written as 64 lower-case hex digits, or raise FormatError."""
        if not _HEX_DIGITS.match(text):
            raise FormatError(f"a block id must be 64 lower-case hex digits, not {text[:80]!r}")
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"BlockId({self.hex()})"
