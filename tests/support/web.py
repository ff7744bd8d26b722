"""The view by URL asked over streams in memory, as a client that h11 does not help."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference
from libernet.fs.node import LocalNode
from libernet.fs.outside import Outside
from libernet.fs.storage import Storage
from libernet.fs.web.connection import WebLimits
from libernet.fs.web.server import WebServer
from libernet.fs.web.site import Site
from tests.support.caller import Caller, opened_node
from tests.support.flat_json import Json, main_file, serialized

PORT = 8042
HOST = f"localhost:{PORT}"
_SECONDS = 60  # longer than anything here takes on a busy machine


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: *is_whole* unless the connection ended in its body."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """A node that runs, with its view by URL."""

    def __init__(self, storage: Storage, node: LocalNode, limits: WebLimits | None = None) -> None:
        self.storage = storage
        self.node = node
        self.caller = Caller(node.namespace)
        self.server = WebServer(Site(node.namespace, node.blocks, node.counters), limits=limits)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """Ask for *target* on a connection of its own; underscores in names stand for hyphens."""
        lines = [f"{method} {target} HTTP/1.1"]
        given = {"host": HOST, "connection": "close"} | headers
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        raw = await self.converse("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return parsed(raw, is_head=method == "HEAD")

    async def converse(self, sent: bytes) -> bytes:
        """Send bytes on a connection, and return all that comes until it is closed."""
        near, far = memory_stream_pair()
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.serve, far, PORT)
            nursery.start_soon(self._send, near, sent)
            async for piece in near:
                received += piece
            await near.aclose()
        return bytes(received)

    async def _send(self, stream: trio.abc.SendStream, sent: bytes) -> None:
        await stream.send_all(sent)

    def put(self, blocks: Iterable[tuple[StoredId, bytes]]) -> None:
        """Put blocks into the store."""
        for block_id, block in blocks:
            self.storage.store.put(block_id, block)
        self.storage.store.flush()

    def put_public(self, content: bytes) -> Reference:
        """Put a block that is sealed as the original seals."""
        reference, block = seal_public(content)
        self.put([(reference.id, block)])
        return reference

    def file(self, content: bytes) -> Json:
        """Return a bundle's entry for a file, whose block is put here."""
        part = {"size": len(content), "url": str(self.put_public(content))}
        return main_file() | {"contents": [part], "size": len(content)}

    def bundle(self, bundle: Any) -> Reference:
        """Put a bundle of the original's here."""
        plaintext = bundle if isinstance(bundle, bytes) else serialized(bundle)
        return self.put_public(plaintext)


@asynccontextmanager
async def web_running(
    folder: Path, limits: WebLimits | None = None, outside: Outside | None = None
) -> AsyncIterator[Web]:
    """Run a node in *folder* with its view by URL, and no mount."""
    with trio.fail_after(_SECONDS), opened_node(folder, outside=outside) as (storage, node):
        async with node.running():
            yield Web(storage, node, limits)


def parsed(raw: bytes, *, is_head: bool = False) -> Reply:
    """Return the one answer that *raw* is."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    status = int(first.split()[1])
    if headers.get("transfer-encoding") == "chunked" and not is_head:
        body, is_whole = _unchunked(body)
    else:
        is_whole = is_head or status == 304 or len(body) == int(headers["content-length"])
    return Reply(status, headers, body, is_whole)


def _unchunked(raw: bytes) -> tuple[bytes, bool]:
    found = b""
    while raw:
        length, _, raw = raw.partition(b"\r\n")
        size = int(length, 16)
        if not size:
            return found, raw == b"\r\n"
        found, raw = found + raw[:size], raw[size + 2 :]
    return found, False


def absent(text: str) -> BlockId:
    """Return the id of a block that nobody has."""
    return BlockId.of(text.encode())
