"""What a node of the DHT remembers from one start to the next, in a file."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from libernet.blocks.errors import FormatError
from libernet.net.dht.contact import Address
from libernet.net.dht.keys import KEY_BYTES, random_node_id

STATE_FILE = "dht.json"
STATE_VERSION = 1
MAX_STATE_BYTES = 256 * 1024
MAX_REMEMBERED = 200

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_IdText = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * KEY_BYTES}}}\\Z")]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    node_id: _IdText
    contacts: Annotated[list[tuple[str, _Port]], msgspec.Meta(max_length=MAX_REMEMBERED)]


@dataclass(frozen=True, slots=True)
class NodeState:
    """This node's id, and addresses where others were. Those must pass an AddressPolicy."""

    node_id: bytes
    contacts: tuple[Address, ...] = ()

    @classmethod
    def new(cls) -> "NodeState":
        """Return that of a node that knows nobody."""
        return cls(random_node_id())


def load_state(folder: Path) -> NodeState | None:
    """Return what save_state() kept in *folder*, None if nothing; FormatError if it is damaged."""
    path = folder / STATE_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(text) > MAX_STATE_BYTES:
        raise FormatError(f"{path} is longer than {MAX_STATE_BYTES} bytes")
    try:
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError(f"{path} is damaged: {exc}") from exc
    if document.version != STATE_VERSION:
        raise FormatError(f"{path} has version {document.version}, not {STATE_VERSION}")
    contacts = tuple(Address(ip, port) for ip, port in document.contacts)
    return NodeState(bytes.fromhex(document.node_id), contacts)


def save_state(folder: Path, node_id: bytes, contacts: Iterable[Address]) -> None:
    """Replace what *folder* keeps, in one step; OSError when that cannot be done."""
    kept = [(each.ip, each.port) for each in contacts][:MAX_REMEMBERED]
    document = _Document(STATE_VERSION, node_id.hex(), kept)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{STATE_FILE}-", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document)))
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, folder / STATE_FILE)
    except BaseException:
        os.unlink(temporary)
        raise
