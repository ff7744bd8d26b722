"""How names that may be any bytes are written as keys of JSON documents.

JSON holds Unicode text and msgspec refuses lone surrogates, so a name that is valid UTF-8 is its
own key and any other is "/" and its bytes percent-encoded. No plain key has a "/", so that the two
cannot clash, and one name has one key.
"""

from urllib.parse import quote_from_bytes, unquote_to_bytes

from libernet.blocks.errors import FormatError
from libernet.blocks.limits import MAX_NAME_BYTES


def key_of(name: bytes) -> str:
    """Return the key of the file or folder *name*, or raise FormatError where it is no name."""
    check_name(name)
    return escape(name)


def name_of(key: str) -> bytes:
    """Return the name of the file or folder with *key*, or raise FormatError.

    Refused are what no file can be called (empty, '.', '..', with NUL or '/', over 255 bytes) and a
    key that `key_of` would have written differently.
    """
    name = unescape(key)
    check_name(name)
    return name


def escape(text: bytes) -> str:
    """Return *text* itself where it is UTF-8 without a slash, else "/" and it percent-encoded."""
    try:
        key = text.decode()
    except UnicodeDecodeError:
        return "/" + quote_from_bytes(text, safe="")
    return key if "/" not in key else "/" + quote_from_bytes(text, safe="")


def unescape(key: str) -> bytes:
    """Return the bytes that `escape` writes as *key*, or raise FormatError if there are none."""
    try:
        if "/" not in key:
            return key.encode()
        text = unquote_to_bytes(key[1:])
    except UnicodeEncodeError:
        raise FormatError(f"the key {key[:80]!r} is not Unicode text") from None
    if escape(text) != key:
        raise FormatError(f"the key {key[:80]!r} is not how its name is written")
    return text


def check_name(name: bytes) -> None:
    """Raise FormatError where *name* is none that a file can have."""
    if not name or name in {b".", b".."}:
        raise FormatError(f"{name!r} is no name of a file or folder")
    if b"/" in name or b"\0" in name:
        raise FormatError(f"the name {name[:80]!r} has a slash or a NUL")
    if len(name) > MAX_NAME_BYTES:
        raise FormatError(
            f"the name {name[:80]!r}... has {len(name)} bytes, {MAX_NAME_BYTES} are possible"
        )
