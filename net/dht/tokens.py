"""Proof that whoever writes here can receive at the address it writes from."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

TOKEN_BYTES = 8
TOKEN_SECONDS = 300.0
"""A token is good for this to twice this, as in BEP 5."""


class Tokens:
    """Tokens that need no memory: a keyed hash of the address, under a key that changes.

    State: the two newest keys, and since when the newest is in use.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys = (_new_key(), _new_key())
        self._since = clock()

    def make(self, ip: str) -> bytes:
        """Return the token that a node at *ip* may write with."""
        self._turn()
        return _token(self._keys[0], ip)

    def accepts(self, token: bytes, ip: str) -> bool:
        """Tell whether *token* was made for *ip*, and not too long ago."""
        self._turn()
        made = [hmac.compare_digest(token, _token(key, ip)) for key in self._keys]
        return any(made)

    def _turn(self) -> None:
        age = self._clock() - self._since
        if age < TOKEN_SECONDS:
            return
        # After a long rest the newest key is too old as well.
        self._keys = (_new_key(), self._keys[0] if age < 2 * TOKEN_SECONDS else _new_key())
        self._since = self._clock()


def _token(key: bytes, ip: str) -> bytes:
    return hashlib.blake2b(ip.encode(), key=key, digest_size=TOKEN_BYTES).digest()


def _new_key() -> bytes:
    return secrets.token_bytes(32)
