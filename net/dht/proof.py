"""Proof that a node's id is its own: once for each acquaintance, not on each datagram.

A node's id is made of its public key. Asked with a Hello it signs: who asked and under which
random request id, so that no earlier proof serves again; and the address it was asked at, so
that another node, asked at another address, cannot hand the question on and the proof back.
"""

from libernet.net.dht.keys import node_id_of
from libernet.net.dht.wire import Envelope, Proof
from libernet.net.identity import NodeIdentity, is_signed

_KIND = b"libernet dht hello 2\0"


def prove(keys: NodeIdentity, hello: Envelope, to: bytes, seen: bytes) -> Proof:
    """Return the answer to *hello*, which was sent to the packed address *to*; about 50 us."""
    return Proof(keys.public_key, keys.sign(_message(hello.sender, hello.rpc_id, to)), seen)


def is_proven(reply: Envelope, proof: Proof, asker: bytes, to: bytes) -> bool:
    """Say whether *reply*, with *proof*, proves its sender's id to the node *asker*, which asked
    at *to* under the reply's request id; about 120 us."""
    message = _message(asker, reply.rpc_id, to)
    is_key_of_sender = node_id_of(proof.public_key) == reply.sender
    return is_key_of_sender and is_signed(proof.public_key, proof.signature, message)


def _message(asker: bytes, rpc_id: bytes, to: bytes) -> bytes:
    """Return what is signed; all but its end has a fixed length."""
    return _KIND + asker + rpc_id + to
