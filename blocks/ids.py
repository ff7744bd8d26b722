"""Names of stored bytes."""

import hashlib
import re
from typing import ClassVar, Self

from typing_extensions import Buffer

from libernet.blocks.errors import FormatError

_HEX_DIGITS = re.compile(r"[0-9a-f]+\Z")


class _HashId(bytes):
    """The hash of stored bytes: bytes that compare and hash as such."""

    __slots__ = ()
    _algorithm: ClassVar[str]
    _hex_digits: ClassVar[int]
    _what: ClassVar[str]

    @classmethod
    def of(cls, stored: Buffer) -> Self:
        """Return the id of *stored*."""
        return cls(hashlib.new(cls._algorithm, stored, usedforsecurity=False).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id written in lower-case hex digits, or raise FormatError."""
        if len(text) != cls._hex_digits or not _HEX_DIGITS.match(text):
            raise FormatError(
                f"a {cls._what} id must be {cls._hex_digits} lower-case hex digits,"
                f" not {text[:120]!r}"
            )
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class BlockId(_HashId):
    """The SHA-256 of a block of Libernet: 32 bytes.

    That of its stored bytes; plain blocks of the original alone are named by what they inflate to.
    """

    __slots__ = ()
    _algorithm = "sha256"
    _hex_digits = 64
    _what = "block"

    @classmethod
    def of(cls, stored: Buffer) -> Self:
        return cls(hashlib.sha256(stored).digest())


class BlobId(_HashId):
    """The SHA-384 of a blob of LBRYnet: 48 bytes."""

    __slots__ = ()
    _algorithm = "sha384"
    _hex_digits = 96
    _what = "blob"


StoredId = BlockId | BlobId
"""What the store knows bytes by."""


def stored_id(digest: bytes) -> StoredId:
    """Return the id that *digest* is, told by its length."""
    return BlockId(digest) if len(digest) == BlockId._hex_digits // 2 else BlobId(digest)


def parse_stored_id(text: str) -> StoredId:
    """Return the id written in lower-case hex digits, of either kind, or raise FormatError."""
    return (BlobId if len(text) == BlobId._hex_digits else BlockId).parse(text)
