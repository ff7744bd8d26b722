"""Where in the DHT's space of 160 bits something belongs."""

import hashlib

from libernet.blocks.errors import FormatError

KEY_BYTES = 20
"""Length of keys and node ids: kademlia's routing table is written for 160 bits."""

SHA256_NAMESPACE = b"sha256:"
"""Namespace of Libernet's blocks."""

IDENTIFIER_NAMESPACE = b"id:"
"""Namespace of what other programs announce: identifiers of any length."""


def packed_keys(packed: bytes) -> list[bytes]:
    """Return the keys that stand one after the other in *packed*; FormatError for an odd length."""
    if len(packed) % KEY_BYTES:
        raise FormatError("keys of an odd length")
    return [packed[start : start + KEY_BYTES] for start in range(0, len(packed), KEY_BYTES)]


def routing_key(namespace: bytes, identifier: bytes) -> bytes:
    """Return the key under which *identifier* is announced and looked up.

    Identifiers of any length and of all namespaces spread evenly over one network, and a node
    that stores a record does not learn what it is for unless it knows the identifier already.
    """
    return hashlib.blake2b(namespace + identifier, digest_size=KEY_BYTES).digest()


def node_id_of(public_key: bytes) -> bytes:
    """Return the id of the node with that key: nobody else can prove that it is theirs."""
    return hashlib.blake2b(public_key, digest_size=KEY_BYTES).digest()
