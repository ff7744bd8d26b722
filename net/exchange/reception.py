"""Blocks that others put here: admitted, received under a limit, checked, kept durably."""

import hashlib
import logging
from collections import Counter
from contextlib import aclosing
from typing import Protocol

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.store import Store
from libernet.blocks.verification import is_block
from libernet.net.exchange.admission import Admission, Refused, Visitor
from libernet.net.exchange.connection import host_of
from libernet.net.exchange.signing import SIGNATURE_HEADER, Signature
from libernet.net.exchange.wire import block_path
from libernet.net.sparing_log import SparingLog

MAX_AT_ONCE = 16
"""Blocks received and kept at one time: as many MiB of memory."""

MAX_PER_HOST = 4

MAX_PIECES = 16 * 1024
"""Most pieces of a body sent in chunks, 64 bytes each for the largest: each costs about 10 us."""

_KEEPING_THREADS = 4  # fsyncs overlap; the mount's own find threads free

_log = logging.getLogger(__name__)


_OUTCOMES = {
    200: "kept",
    403: "refused",
    413: "wrong",
    422: "wrong",
    503: "busy",
    507: "no_room",
}


class Intake(Protocol):
    """Where blocks go that others put here."""

    async def keep(self, block_id: BlockId, block: bytes, *, guest: bool) -> bool:
        """Keep a block, whose id was checked, durably; return False when there is no room for it.

        *guest* says that nobody knows whose it is. Raises StoreError.
        """
        ...


class StoreIntake:
    """Keep blocks in the local store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = trio.CapacityLimiter(_KEEPING_THREADS)

    async def keep(self, block_id: BlockId, block: bytes, *, guest: bool) -> bool:
        """Keep a block as a guest's or as held for another node; return once it is durable."""

        def put() -> bool:
            is_kept = (self._store.put_guest if guest else self._store.put_held)(block_id, block)
            if is_kept:
                self._store.flush()
            return is_kept

        return await trio.to_thread.run_sync(put, limiter=self._threads)


class Reception:
    """Answer PUT.

    State: `_receiving`, from which hosts bodies are coming in or being kept right now, as often as
    they are; `outcomes`, what came of how many.
    """

    def __init__(
        self, admission: Admission, intake: Intake, said: SparingLog | None = None
    ) -> None:
        self._said = said or SparingLog(_log)
        self.node_key = admission.recipient.hex()
        self._admission = admission
        self._intake = intake
        self._receiving: list[str] = []
        self.outcomes = Counter(dict.fromkeys(_OUTCOMES.values(), 0))

    async def put(self, block_id: BlockId, request: Request) -> Response:
        """Take a block in, if it is one and its sender may put it here."""
        answer = await self._put(block_id, request)
        self.outcomes[_OUTCOMES[answer.status_code]] += 1
        return answer

    async def _put(self, block_id: BlockId, request: Request) -> Response:
        address = _address_of(request)
        visitor = Visitor(
            address, request.headers.get(SIGNATURE_HEADER), request.headers.get("origin")
        )
        try:
            signature = self._admission.admit(visitor, "PUT", block_path(block_id))
        except Refused as exc:
            _log.debug("%s may not put a block here: %s", address, exc)
            return PlainTextResponse(f"{exc}\n", 403)
        host = host_of(address)
        if len(self._receiving) >= MAX_AT_ONCE or self._receiving.count(host) >= MAX_PER_HOST:
            return PlainTextResponse("too many blocks are coming in\n", 503)
        self._receiving.append(host)
        try:
            return await self._receive(block_id, request, signature)
        finally:
            self._receiving.remove(host)

    async def _receive(
        self, block_id: BlockId, request: Request, signature: Signature | None
    ) -> Response:
        body = await _body(request)
        if body is None:
            return PlainTextResponse("a block is not as long as that\n", 413)
        if signature is not None and hashlib.sha256(body).digest() != signature.body_hash:
            return PlainTextResponse("the body is not the one that was signed\n", 403)
        if not is_block(block_id, body):
            address = _address_of(request)
            text = f"{address} put {len(body)} bytes that are not block {block_id}"
            self._said.say("wrong bytes put", address, text)
            return PlainTextResponse("these bytes are not that block\n", 422)
        if not await self._intake.keep(block_id, body, guest=signature is None):
            return PlainTextResponse("there is no room for it\n", 507)
        return Response("data received", media_type="text/html")  # what the original says


def _address_of(request: Request) -> str:
    return request.client.host if request.client else ""


async def _body(request: Request) -> bytes | None:
    """Return the body, None if it is too long; the connection bounds how long it takes."""
    body = bytearray()
    pieces = 0
    async with aclosing(request.stream()) as received:
        async for piece in received:
            body += piece
            pieces += 1
            if len(body) > MAX_BLOCK_BYTES or pieces > MAX_PIECES:
                return None
    return bytes(body)
