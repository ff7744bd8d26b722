"""How far a sweep has come, in a file, so that it goes on there after a restart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from libernet.blocks.errors import FormatError
from libernet.net.state_files import read_state, replace_state

SWEEP_FILE = "sweep.json"
SWEEP_VERSION = 1
MAX_SWEEP_BYTES = 4096

_Key = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    started: Annotated[float, msgspec.Meta(ge=0, le=2**40)]
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    position: _Key
    is_over: bool
    blocks: _Count


@dataclass(frozen=True, slots=True)
class SweepRound:
    """One time that all blocks are announced, in the order of their keys.

    *started* in seconds since 1970, *position* the last key told of (empty before the first),
    *blocks* how many were told of, those that came and went counted, at *port* of this machine.
    """

    started: float
    port: int
    position: bytes = b""
    is_over: bool = False
    blocks: int = 0


def load_round(folder: Path) -> SweepRound | None:
    """Return what save_round() kept in *folder*, None if nothing; FormatError if it is damaged."""
    path = folder / SWEEP_FILE
    text = read_state(path, MAX_SWEEP_BYTES)
    if text is None:
        return None
    try:
        kept = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError(f"{path} is damaged: {exc}") from exc
    if kept.version != SWEEP_VERSION:
        raise FormatError(f"{path} has version {kept.version}, not {SWEEP_VERSION}")
    position = bytes.fromhex(kept.position)
    return SweepRound(kept.started, kept.port, position, kept.is_over, kept.blocks)


def save_round(folder: Path, current: SweepRound) -> None:
    """Replace what *folder* keeps, in one step; OSError when that cannot be done."""
    document = _Document(
        SWEEP_VERSION,
        current.started,
        current.port,
        current.position.hex(),
        current.is_over,
        current.blocks,
    )
    replace_state(folder / SWEEP_FILE, document)
