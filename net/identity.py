"""Who a node is to others: an Ed25519 key (RFC 8032), which signs network messages and no more."""

from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libernet.blocks.key_files import load_or_create_key

KEY_FILE = "node.key"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


class NodeIdentity:
    """This node's key pair. *public_key*, 32 bytes, is how others know it again."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the identity kept in *folder*, made there first if there is none; StoreError."""
        seed = load_or_create_key(
            folder / KEY_FILE,
            name="node's key",
            if_lost="others will know this node under a new one, and nothing else is lost",
        )
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes, in about 50 us.

        Messages of each kind begin with words of their own, so that none passes for another.
        """
        return self._key.sign(message)


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether the holder of *public_key* signed *message*; about 110 us. Whatever stands in
    the first two, nothing is raised."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
