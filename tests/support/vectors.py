"""The reference vectors: what the originals wrote and read (tests/vectors/README.md)."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    """Return the vectors of the file *name*."""
    return json.loads((FOLDER / name).read_text())


def from_recipe(recipe: Mapping[str, Any]) -> bytes:
    """Return the bytes that a recipe describes."""
    if "zeros" in recipe:
        return bytes(recipe["zeros"])
    return counted(recipe["sha256ctr"], recipe["len"])


def counted(tag: str, length: int) -> bytes:
    """Return the first *length* bytes of the hashes of `tag:0`, `tag:1` and so on."""
    hashes: Iterator[bytes] = (
        hashlib.sha256(f"{tag}:{number}".encode()).digest() for number in range(length // 32 + 1)
    )
    return b"".join(hashes)[:length]


def content(vector: Mapping[str, Any], name: str) -> bytes | None:
    """Return the bytes called *name* in a vector; None if only their hash is there."""
    if f"{name}_b64" in vector:
        return base64.b64decode(vector[f"{name}_b64"])
    if f"{name}_recipe" in vector:
        return from_recipe(vector[f"{name}_recipe"])
    return None
