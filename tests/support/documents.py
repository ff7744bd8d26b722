"""Documents of folders, as this project writes them, made by hand: also such as nobody writes."""

import json
from collections.abc import Mapping
from typing import Any

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import Sealer

Json = dict[str, Any]

_UNIX: Json = {"mode": 0o100644, "uid": 1000, "gid": 1000, "mtime_ns": 978307200_000000000}
_FOLDER_UNIX: Json = _UNIX | {"mode": 0o040755}
EMPTY: Json = {"version": 1, "modified": 0.0, "unix": _FOLDER_UNIX}


class Documents:
    """Blocks of documents and files. State: `blocks`, all that were made here, by id."""

    def __init__(self) -> None:
        self.blocks: dict[BlockId, bytes] = {}
        self._sealer = Sealer(bytes(32))

    def put(self, plaintext: bytes) -> Reference:
        """Make a block."""
        reference, block = self._sealer.seal(plaintext)
        self.blocks[reference.id] = block
        return reference

    def lost(self, plaintext: bytes) -> Reference:
        """Return the reference of a block that nobody has."""
        return self._sealer.seal(plaintext)[0]

    def folder(self, document: Json | bytes) -> Reference:
        """Make the block of a document, given as JSON or as its bytes."""
        plaintext = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.put(plaintext)

    def file(self, content: bytes, **changes: Any) -> Json:
        """Return the entry of a file and make its block."""
        return file_entry([(len(content), self.put(content))], **changes)


def file_entry(parts: list[tuple[int, Reference]], **changes: Any) -> Json:
    """Return the entry of a file with these parts."""
    contents = [{"size": size, "url": str(reference)} for size, reference in parts]
    size = sum(size for size, _ in parts)
    return {"contents": contents, "size": size, "modified": 0.0, "unix": _UNIX} | changes


def link_entry(target: str) -> Json:
    """Return the entry of a symbolic link."""
    unix = _UNIX | {"mode": 0o120777}
    return {"link": target, "size": len(target), "modified": 0.0, "unix": unix}


def folder_entry(reference: Reference | str) -> Json:
    """Return the entry of a folder whose document is elsewhere."""
    return {"url": str(reference), "modified": 0.0, "unix": _FOLDER_UNIX}


def document(
    files: Mapping[str, Json] | None = None, folders: Mapping[str, Json] | None = None
) -> Json:
    """Return the document of a folder."""
    return EMPTY | {"files": dict(files or {}), "directories": dict(folders or {})}
