"""Where in the DHT's space of 160 bits something belongs."""

import hashlib
import secrets

KEY_BYTES = 20
"""Length of keys and node ids: kademlia's routing table is written for 160 bits."""

SHA256_NAMESPACE = b"sha256:"
"""Namespace of Libernet's blocks."""


IDENTIFIER_NAMESPACE = b"id:"
"""Namespace of what other programs announce: identifiers of any length."""


def routing_key(namespace: bytes, identifier: bytes) -> bytes:
    """Return the key under which *identifier* is announced and looked up.

    Identifiers of any length and of all namespaces spread evenly over one network, and a node
    that stores a record does not learn what it is for unless it knows the identifier already.
    """
    return hashlib.blake2b(namespace + identifier, digest_size=KEY_BYTES).digest()


def random_node_id() -> bytes:
    """Return an id for a new node."""
    return secrets.token_bytes(KEY_BYTES)
