"""The client of the original's branch main, and its backup tool: formats/libernet.md 4 and 5.

They share no code with ours. What is unsafe in them is left out where nothing depends on it.
"""

import datetime
import hashlib
import http.client
import json
import os
import random
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.support import original_restore

EPOCH = 978_307_200
CUT_BYTES = 1024 * 1024 - 16
SCORE = 12

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OriginalClient:
    """Blocks on a server, by their addresses without keys; whatever is not 200 is absent."""

    host: str
    port: int
    in_chunks: bool = False

    def __contains__(self, address: str) -> bool:
        return self._ask("HEAD", address)[0] == 200

    def get(self, address: str) -> bytes | None:
        status, body = self._ask("GET", address)
        return body if status == 200 else None

    def put(self, block: bytes, *, plain: bytes | None = None) -> str:
        """Store a block, of *plain* if it is one in the clear; return its address."""
        named = block if plain is None else plain
        address = f"/sha256/{hashlib.sha256(named).hexdigest()}"
        body: Any = iter([block[at : at + 8192] for at in range(0, len(block), 8192)])
        status, said = self._ask("PUT", address, body if self.in_chunks else block)
        if (status, said) != (200, b"data received"):
            raise OSError(f"PUT {address} was answered {status} {said!r}")
        return address

    def like(self, block_id: str) -> dict[str, int]:
        status, body = self._ask("GET", f"/sha256/like/{block_id}")
        found: dict[str, int] = json.loads(body)
        return found if status == 200 else {}

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, path, body, encode_chunked=self.in_chunks)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class BackupTool:
    """The original's backup tool on one machine, at the time *now*."""

    def __init__(
        self, client: OriginalClient, user: str, passphrase: str, machine: str, now: float
    ) -> None:
        self._client = client
        self._user = user
        self._passphrase = passphrase
        self._machine = machine
        self._now = now

    def add(self, path: str) -> None:
        """Note a folder that is to be backed up."""
        self._change({path: None})

    def backup(self) -> None:
        """Back up every folder that was added on this machine."""
        made = {}
        for path, prior in self.settings()["backup"][self._machine].items():
            url = make_bundle(self._client, path, prior and prior["url"])
            made[path] = {"url": url, "timestamp": self._now - EPOCH}
        self._change(made)

    def restore(self, path: str, target: str, machine: str | None = None) -> list[str]:
        """Restore a folder as it was backed up last; return the blocks that it lacks."""
        url = self.settings()["backup"][machine or self._machine][path]["url"]
        return original_restore.restore(url, self._client.get, target)

    def settings(self) -> Json:
        """Return what all machines have stored, merged, as found by like."""
        found: dict[str, Json] = {}
        for months in range(5):
            moment = self._now - months * 365 / 12 * 86400
            for address in self._client.like(like_id(self._user, moment)):
                block = self._client.get(address)
                settings = block and opened_settings(block, self._passphrase)
                if settings and self._is_mine(settings):
                    found[address] = settings
        return merged(found)

    def _is_mine(self, settings: Json) -> bool:
        wanted = {"type": "backup", "user": self._user, "passphrase": self._passphrase}
        return {key: settings.get(key) for key in wanted} == wanted

    def _change(self, paths: Json) -> None:
        known = self.settings()
        backup = known.get("backup", {})
        own = backup.get(self._machine, {}) | paths
        changed = {
            "type": "backup",
            "timestamp": self._now - EPOCH,
            "user": self._user,
            "passphrase": self._passphrase,
            "backup": backup | {self._machine: own},
            "previous": known.get("previous", []),
        }
        target = like_id(self._user, self._now)
        self._client.put(sealed_settings(changed, self._passphrase, target))


def merged(found: Mapping[str, Json]) -> Json:
    """Return what settings blocks, by their addresses, say together."""
    named = {each for settings in found.values() for each in settings.get("previous", [])}
    current = {address: found[address] for address in found if address not in named}
    result: Json = {}
    backup: dict[str, Json] = {}
    for settings in sorted(current.values(), key=lambda each: float(each["timestamp"])):
        result |= settings
        for machine, paths in settings["backup"].items():
            for path, entry in paths.items():
                known = backup.setdefault(machine, {}).get(path)
                if known is None or (entry and entry["timestamp"] > known["timestamp"]):
                    backup[machine][path] = entry
    return result | {"backup": backup, "previous": sorted(current)} if current else {}


def like_id(user: str, moment: float) -> str:
    """Return the id that settings blocks of a user's month, in local time, are like."""
    month = datetime.datetime.fromtimestamp(moment).strftime("%Y-%m")  # noqa: DTZ006
    return hashlib.sha256(f"USER:{user}@{month}".encode()).hexdigest()


def sealed_settings(settings: Json, passphrase: str, target: str) -> bytes:
    """Return the block of settings, with a suffix that makes it like *target*."""
    text = json.dumps(settings, sort_keys=True).encode()
    sealed = _encrypted(zlib.compress(text, 9), hashlib.sha256(passphrase.encode()).digest())
    wanted = int(target, 16) >> (256 - SCORE)
    drawn = random.Random(text)
    while True:
        block = sealed + b"\0" + drawn.randbytes(SCORE // 8 + 1).replace(b"\0", b"")
        if int.from_bytes(hashlib.sha256(block).digest()) >> (256 - SCORE) == wanted:
            return block


def opened_settings(block: bytes, passphrase: str) -> Json | None:
    """Return the settings in a block, None if it does not hold any under that passphrase."""
    cipher = Cipher(
        algorithms.AES256(hashlib.sha256(passphrase.encode()).digest()), modes.CBC(b"0" * 16)
    )
    decryptor = cipher.decryptor()
    try:
        padded = decryptor.update(block[: block.rindex(b"\0")]) + decryptor.finalize()
        settings: Json = json.loads(zlib.decompress(padded[: -padded[-1]]))
    except (ValueError, IndexError, zlib.error):
        return None
    return settings


def make_bundle(client: OriginalClient, folder: str, prior: str | None = None) -> str:
    """Store a folder of files and folders, with all of its blocks; return the bundle's address."""
    files: Json = {}
    directories: Json = {}
    for path, look in _walk(folder):
        if stat.S_ISDIR(look.st_mode):
            directories[path] = None
            continue
        with open(os.path.join(folder, path), "rb") as file:
            chunks = iter(lambda: file.read(CUT_BYTES), b"")
            contents = [{"size": len(each), "url": _stored(client, each)} for each in chunks]
        files[path] = {
            "contents": contents,
            "modified": look.st_mtime - EPOCH,
            "size": look.st_size,
        }
        if not look.st_mode & stat.S_IWUSR:
            files[path]["readonly"] = True
        if look.st_mode & stat.S_IXUSR:
            files[path]["executable"] = True
    bundle: Json = {"files": files, "prior": prior}
    if directories:
        bundle["directories"] = directories
    text = json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode()
    assert len(text) <= CUT_BYTES, "sub-bundles are not written here"
    return _stored(client, text)


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield files, and folders below which there is none."""
    for above, folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            yield os.path.relpath(path, folder), os.lstat(path)
        if not folders and not names and above != folder:
            yield os.path.relpath(above, folder), os.lstat(above)


def _stored(client: OriginalClient, plain: bytes) -> str:
    """Store a chunk under the suite aes256 unless it is there; return its address."""
    key = hashlib.sha256(plain).digest()
    packed = zlib.compress(plain, 9)
    block = _encrypted(packed if len(packed) <= len(plain) else plain, key)
    address = f"/sha256/{hashlib.sha256(block).hexdigest()}"
    if address not in client:
        client.put(block)
    return f"{address}/aes256/{key.hex()}"


def _encrypted(plain: bytes, key: bytes) -> bytes:
    padder, encryptor = (
        PKCS7(128).padder(),
        Cipher(algorithms.AES256(key), modes.CBC(b"0" * 16)).encryptor(),
    )
    padded = padder.update(plain) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()
