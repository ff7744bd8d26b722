"""What a node signs of a request: who asks whom for what, when, and only once.

The header `libernet-signature` has six words: `v1`, then in lower-case hex the sender's public key,
the seconds since 1970 in decimal, a nonce, the SHA-256 of the body, and the signature. Signed is

    libernet request v1 LF method LF path LF recipient's public key LF the four words before the
    signature, each followed by LF but the last

As the body's hash stands in the header, a request that nobody may make is refused before its body
is read. The recipient's key is what each of its answers says in `libernet-node`.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from typing_extensions import Buffer

from libernet.blocks.errors import FormatError
from libernet.net.identity import NodeIdentity, is_signed

NODE_HEADER = "libernet-node"
SIGNATURE_HEADER = "libernet-signature"

NONCE_BYTES = 16

_SHAPE = re.compile(
    r"v1 (?P<sender>[0-9a-f]{64}) (?P<seconds>[0-9]{1,12}) (?P<nonce>[0-9a-f]{32})"
    r" (?P<body>[0-9a-f]{64}) (?P<signature>[0-9a-f]{128})"
)
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature, not yet checked; *seconds* since 1970 by the sender's clock."""

    sender: bytes
    seconds: int
    nonce: bytes
    body_hash: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the header says, or raise FormatError."""
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise FormatError(f"{SIGNATURE_HEADER} is not 'v1 KEY SECONDS NONCE HASH SIGNATURE'")
        return cls(
            bytes.fromhex(shape["sender"]),
            int(shape["seconds"]),
            bytes.fromhex(shape["nonce"]),
            bytes.fromhex(shape["body"]),
            bytes.fromhex(shape["signature"]),
        )

    def __str__(self) -> str:
        return f"v1 {' '.join(self._words())} {self.signature.hex()}"

    def is_of(self, method: str, path: str, recipient: bytes) -> bool:
        """Say whether the sender signed this very request to *recipient*; about 110 us."""
        return is_signed(self.sender, self.signature, self.message(method, path, recipient))

    def message(self, method: str, path: str, recipient: bytes) -> bytes:
        """Return the bytes that are signed."""
        lines = ["libernet request v1", method, path, recipient.hex(), *self._words()]
        return "\n".join(lines).encode()

    def _words(self) -> list[str]:
        return [self.sender.hex(), str(self.seconds), self.nonce.hex(), self.body_hash.hex()]


@dataclass(frozen=True, slots=True)
class Signer:
    """Sign requests of this node; *clock* answers in seconds since 1970."""

    identity: NodeIdentity
    clock: Callable[[], float] = time.time

    def sign(self, method: str, path: str, body: Buffer, recipient: bytes) -> Signature:
        """Return the signature of one request, never the same again."""
        unsigned = Signature(
            self.identity.public_key,
            int(self.clock()),
            secrets.token_bytes(NONCE_BYTES),
            hashlib.sha256(body).digest(),
            b"",
        )
        made = self.identity.sign(unsigned.message(method, path, recipient))
        return replace(unsigned, signature=made)


def node_key(text: str) -> bytes | None:
    """Return the public key written as 64 lower-case hex digits, None if it is none."""
    return bytes.fromhex(text) if _KEY.fullmatch(text) else None
