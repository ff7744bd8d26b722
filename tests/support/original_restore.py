"""The original's restore of a bundle (branch main), written from formats/libernet.md alone.

It shares no code with the readers in libernet.blocks, so that what we write is read by somebody
else. As the original does, it looks for all blocks first and knows the suites plain and aes256
only, files with `contents` only, and `directories` that are null or the text of a link.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

_EPOCH = 978_307_200
_MOST_BYTES = 1024 * 1024

GetBlock = Callable[[str], bytes | None]
"""Returns the stored block of an address without its key (`/sha256/ID`), None if it is absent."""


class NotRestored(Exception):
    """The original's restore fails, or aborts, on this."""


def restore(url: str, get: GetBlock, target: str | bytes) -> list[str]:
    """Restore a bundle into the folder *target*; return the blocks it lacks, then nothing is."""
    folder = os.fsencode(target)
    keys = bundle_keys(url, get)
    lacking = [each for each in _addresses(url, keys, get) if get(_stored(each)) is None]
    if lacking:
        return [_stored(each) for each in lacking]
    for path, entry in whole_files(keys, get).items():
        _restore_file(os.path.join(folder, os.fsencode(path)), entry, get)
    for path, link in keys.get("directories", {}).items():
        full = os.path.join(folder, os.fsencode(path))
        if link is None:
            os.makedirs(full, exist_ok=True)
        elif isinstance(link, str):
            os.makedirs(os.path.dirname(full), exist_ok=True)
            os.symlink(os.fsencode(link), full)
        else:
            raise NotRestored(f"{path!a} is no text and not null")
    return []


def bundle_keys(url: str, get: GetBlock) -> dict[str, Any]:
    """Return the JSON of the top document."""
    keys: dict[str, Any] = json.loads(_opened(url, get))
    return keys


def whole_files(keys: dict[str, Any], get: GetBlock) -> dict[str, dict[str, Any]]:
    """Return `files` with those of the sub-bundles, of which nothing else is looked at."""
    files: dict[str, dict[str, Any]] = dict(keys["files"])
    for url in keys.get("bundles", []):
        files.update(json.loads(_opened(url, get))["files"])
    return files


def _addresses(url: str, keys: dict[str, Any], get: GetBlock) -> Iterator[str]:
    yield url
    yield from keys.get("bundles", [])
    for entry in whole_files(keys, get).values():
        yield from (part["url"] for part in entry["contents"])


def _restore_file(full: bytes, entry: dict[str, Any], get: GetBlock) -> None:
    os.makedirs(os.path.dirname(full), exist_ok=True)
    if "link" in entry:
        os.symlink(os.fsencode(entry["link"]), full)
        return
    parts = [_opened(part["url"], get) for part in entry["contents"]]
    if [len(part) for part in parts] != [part["size"] for part in entry["contents"]]:
        raise NotRestored("a part is not as long as its bundle says")
    with open(full, "xb") as file:
        file.write(b"".join(parts))
    if os.path.getsize(full) != entry["size"]:
        raise NotRestored("a file is not as long as its bundle says")
    mtime_ns = int((entry["modified"] + _EPOCH) * 1e9)
    os.utime(full, ns=(mtime_ns, mtime_ns))
    mode = 0o444 if entry.get("readonly") else 0o644
    os.chmod(full, mode | (0o111 if entry.get("executable") else 0))


def _stored(url: str) -> str:
    return "/".join(url.split("/")[:3])


def _opened(url: str, get: GetBlock) -> bytes:
    """Return the plaintext of one block."""
    parts = url.split("/")
    if len(parts) not in {3, 5} or parts[:2] != ["", "sha256"]:
        raise NotRestored(f"the address {url!r} is unknown")
    block = get(_stored(url))
    if block is None:
        raise NotRestored(f"the block of {url!r} is absent")
    if len(block) > _MOST_BYTES:
        raise NotRestored(f"the block of {url!r} is too large")
    if len(parts) == 3:
        return _checked(block, parts[2])
    if parts[3] != "aes256":
        raise NotRestored(f"the suite {parts[3]!r} is unknown")
    if hashlib.sha256(block).hexdigest() != parts[2]:
        raise NotRestored(f"the block of {url!r} is another one")
    cipher = Cipher(algorithms.AES256(bytes.fromhex(parts[4])), modes.CBC(b"0" * 16))
    decryptor, unpadder = cipher.decryptor(), PKCS7(128).unpadder()
    padded = decryptor.update(block) + decryptor.finalize()
    return _checked(unpadder.update(padded) + unpadder.finalize(), parts[4])


def _checked(data: bytes, digest: str) -> bytes:
    """Return *data*, or what it inflates to, whichever has the hash."""
    if hashlib.sha256(data).hexdigest() != digest:
        data = zlib.decompress(data)
    if hashlib.sha256(data).hexdigest() != digest:
        raise NotRestored("neither the data nor what it inflates to has the hash")
    return data
