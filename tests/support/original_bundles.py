"""Bundles that the original Libernet made, with their blocks and what it restored from them."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from tests.support.vectors import counted, load

BRANCHES = {"main": 1024 * 1024 - 16, "rewrite": 1024 * 1024}
"""The branches of the original, with the size at which each cuts files."""

_RECIPES = {"mb": 2_500_000, "ex": 1024 * 1024 - 16, "ex1": 1024 * 1024 - 15, "om": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class OriginalBundle:
    """A bundle: *tree* is what the original restored, by path; of very many files, their *digest*.

    *json* is what its top document says, None for very long ones.
    """

    name: str
    branch: str
    reference: Reference
    blocks: dict[BlockId, bytes]
    sub_bundles: list[Reference]
    json: dict[str, Any] | None
    tree: dict[bytes, dict[str, Any]] | None
    digest: str | None


@cache
def original_bundles() -> dict[str, OriginalBundle]:
    """Return all bundles by `branch-name`."""
    found = {}
    for branch, cut_bytes in BRANCHES.items():
        vectors = load(f"libernet-bundles-{branch}.json")
        long_blocks = dict(_long_blocks("pub", cut_bytes))
        for each in vectors["bundles"]:
            bundle = OriginalBundle(
                name=f"{branch}-{each['name']}",
                branch=branch,
                reference=Reference.parse(each["url"]),
                blocks=dict(_blocks(each["blocks"], long_blocks)),
                sub_bundles=[Reference.parse(url) for url in each["subbundles"]],
                json=each.get("bundle_json"),
                tree=_tree(each) if "tree" in each else None,
                digest=each.get("tree_digest"),
            )
            found[bundle.name] = bundle
    return found


def digest(files: dict[bytes, bytes]) -> str:
    """Return the digest of a tree's files, contents by path, as the vectors have it."""
    rows = [
        [path.decode(), hashlib.sha256(content).hexdigest(), len(content)]
        for path, content in files.items()
    ]
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def _tree(vector: dict[str, Any]) -> dict[bytes, dict[str, Any]]:
    return {bytes.fromhex(entry["path_hex"]): entry for entry in vector["tree"].values()}


def _blocks(given: dict[str, Any], long: dict[BlockId, bytes]) -> Iterator[tuple[BlockId, bytes]]:
    for address, stored in given.items():
        block_id = BlockId.parse(address.removeprefix("/sha256/"))
        yield block_id, base64.b64decode(stored) if isinstance(stored, str) else long[block_id]


def _long_blocks(seed: str, cut_bytes: int) -> Iterator[tuple[BlockId, bytes]]:
    """Yield the blocks that the vectors leave out: of files that do not compress."""
    for tag, length in _RECIPES.items():
        content = counted(seed + tag, length)
        for start in range(0, length, cut_bytes):
            chunk = content[start : start + cut_bytes]
            padder = PKCS7(128).padder()
            padded = padder.update(chunk) + padder.finalize()
            key = hashlib.sha256(chunk).digest()
            encryptor = Cipher(algorithms.AES256(key), modes.CBC(b"0" * 16)).encryptor()
            block = encryptor.update(padded) + encryptor.finalize()
            yield BlockId.of(block), block
