"""Small documents that are kept from one start to the next, each a file of its own."""

import os
import tempfile
from pathlib import Path

import msgspec

from libernet.blocks.errors import FormatError


def read_state(path: Path, max_bytes: int) -> bytes | None:
    """Return what a file holds, None if there is none; FormatError if it is too long.

    What a process that died left of replacing it goes: nobody else may be at that just now.
    """
    for left in path.parent.glob(f".{path.name}-*"):
        left.unlink(missing_ok=True)
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except FileNotFoundError:
        return None
    if len(text) > max_bytes:
        raise FormatError(f"{path} is longer than {max_bytes} bytes")
    return text


def replace_state(path: Path, document: msgspec.Struct) -> None:
    """Write a document in place of what the file held, in one step, readable for its owner only.

    OSError when that cannot be done; the file is then as it was.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document)))
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
