"""What a node of the DHT remembers from one start to the next, in a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from libernet.blocks.errors import FormatError
from libernet.net.dht.contact import Address
from libernet.net.state_files import read_state, replace_state

STATE_FILE = "dht.json"
STATE_VERSION = 2
"""Version 1 had an id of the node's own beside the contacts, which no key proved: it is dropped."""

MAX_STATE_BYTES = 256 * 1024
MAX_REMEMBERED = 200

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Head(msgspec.Struct):
    version: int


class _Document(msgspec.Struct):
    version: int
    contacts: Annotated[list[tuple[str, _Port]], msgspec.Meta(max_length=MAX_REMEMBERED)]


def load_state(folder: Path) -> tuple[Address, ...]:
    """Return the addresses that save_state() kept in *folder*, none if there is nothing.

    They must pass an AddressPolicy. FormatError if the file is damaged or of a later version.
    """
    path = folder / STATE_FILE
    text = read_state(path, MAX_STATE_BYTES)
    if text is None:
        return ()
    try:
        version = msgspec.json.decode(text, type=_Head).version
        if not 1 <= version <= STATE_VERSION:
            raise FormatError(f"{path} has version {version}, not {STATE_VERSION}")
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError(f"{path} is damaged: {exc}") from exc
    return tuple(Address(ip, port) for ip, port in document.contacts)


def save_state(folder: Path, contacts: Iterable[Address]) -> None:
    """Replace what *folder* keeps, in one step; OSError when that cannot be done."""
    kept = [(each.ip, each.port) for each in contacts][:MAX_REMEMBERED]
    replace_state(folder / STATE_FILE, _Document(STATE_VERSION, kept))
