"""Bundles of the original written by hand, and a place for blocks that are told apart by number."""

import hashlib
import json
from typing import Any

from libernet.blocks.errors import BlockNotFound
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite

Json = dict[str, Any]


def reference_of(number: int) -> Reference:
    """Return a reference, another for each number."""
    digest = hashlib.sha256(b"%d" % number).digest()
    return Reference(BlockId(digest), Suite.AES256GCM, bytes(32))


def url(number: int) -> str:
    return str(reference_of(number))


def parts(*numbers: int, size: int = 10) -> list[Json]:
    return [{"size": size, "url": url(number)} for number in numbers]


def main_file(*numbers: int, **changes: Any) -> Json:
    """Return a file as the branch main writes it, with a part of 10 bytes for each number."""
    entry = {"contents": parts(*numbers), "modified": 0.0, "size": 10 * len(numbers)}
    return entry | changes


def rewrite_file(*numbers: int, **changes: Any) -> Json:
    """Return a file as the branch python_rewrite writes it."""
    entry = main_file(*numbers)
    return {"parts": entry.pop("contents")} | entry | changes


def serialized(bundle: Any) -> bytes:
    """Return a bundle as both branches write it."""
    return json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode()


class Shelf:
    """Plaintexts that are here, by the number of their reference."""

    def __init__(self, **documents: Any) -> None:
        self._plaintexts: dict[Reference, bytes] = {}
        for name, document in documents.items():
            self.put(int(name.removeprefix("n")), serialized(document))

    def put(self, number: int, plaintext: bytes) -> None:
        self._plaintexts[reference_of(number)] = plaintext

    def has(self, block_id: BlockId) -> bool:
        return any(reference.id == block_id for reference in self._plaintexts)

    def read(self, reference: Reference) -> bytes:
        if reference not in self._plaintexts:
            raise BlockNotFound(str(reference.id))
        return self._plaintexts[reference]
