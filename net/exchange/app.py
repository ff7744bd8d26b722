"""What the peer port answers: an ASGI application that knows blocks by their ids and no more.

    GET, HEAD /sha256/ID        the block, application/octet-stream
    GET, HEAD /sha384/ID        the same for a blob of LBRYnet
    GET /sha256/like/ID         public blocks with ids like that one, {"/sha256/ID": bytes}
    POST /sha256/               a batch of blocks, see wire.py

Everything else is 404 or 405: nothing with a key, no listing, no redirect.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import cast

import trio
from hypercorn.typing import ASGIFramework
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from libernet.blocks.errors import FormatError, StoreError
from libernet.blocks.ids import BlobId, BlockId, StoredId
from libernet.net.exchange.offer import Offer
from libernet.net.exchange.wire import (
    BATCH_ANSWER_TYPE,
    BATCH_REQUEST_TYPE,
    BLOBS_PATH,
    BLOCK_TYPE,
    BLOCKS_PATH,
    LIKE_PATH,
    MAX_BATCH_BLOCK_BYTES,
    batch_record,
    block_path,
    parse_batch_request,
)

_UNCHANGING = "public, max-age=31536000, immutable"
"""A year, the most that RFC 9111's predecessors allow; `immutable` is RFC 8246."""

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def exchange_app(offer: Offer) -> ASGIFramework:
    """Return the application that serves what *offer* gives."""
    blocks = _Blocks(offer)
    router = Router(
        [
            Route(BLOCKS_PATH, _guarded(blocks.batch), methods=["POST"]),
            Route(LIKE_PATH + "{block_id}", _guarded(blocks.like), methods=["GET", "HEAD"]),
            Route(BLOCKS_PATH + "{block_id}", _guarded(blocks.block), methods=["GET", "HEAD"]),
            Route(BLOBS_PATH + "{blob_id}", _guarded(blocks.blob), methods=["GET", "HEAD"]),
        ],
        redirect_slashes=False,
    )
    # Both follow ASGI; starlette describes its messages as mappings, hypercorn as typed ones.
    return cast("ASGIFramework", router)


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Answer what can go wrong in *endpoint* by whose fault it is."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FormatError as exc:
            return PlainTextResponse(f"{exc}\n", 400)
        except StoreError as exc:
            _log.warning("a peer's request cannot be answered: %s", exc)
            return PlainTextResponse("the store cannot be read\n", 503)

    return answer


class _Blocks:
    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def block(self, request: Request) -> Response:
        try:
            block_id = BlockId.parse(request.path_params["block_id"])
        except FormatError:  # its text is not sent: it quotes what a page elsewhere may have made
            return PlainTextResponse("a block id is 64 lower-case hex digits\n", 400)
        return await self._stored(block_id, request)

    async def blob(self, request: Request) -> Response:
        try:
            blob_id = BlobId.parse(request.path_params["blob_id"])
        except FormatError:
            return PlainTextResponse("a blob id is 96 lower-case hex digits\n", 400)
        return await self._stored(blob_id, request)

    async def like(self, request: Request) -> Response:
        try:
            target = BlockId.parse(request.path_params["block_id"])
        except FormatError:
            return PlainTextResponse("a block id is 64 lower-case hex digits\n", 400)
        found = {block_path(block_id): size for block_id, size in await self._offer.like(target)}
        return JSONResponse(found, 200 if found else 404)  # as the original says that none is

    async def _stored(self, block_id: StoredId, request: Request) -> Response:
        size_bytes = await self._offer.size(block_id)
        if size_bytes is None:
            return _absent()
        headers = {
            "content-length": str(size_bytes),
            "etag": f'"{block_id}"',
            "cache-control": _UNCHANGING,
            "x-content-type-options": "nosniff",
        }
        if _knows(request, headers["etag"]):
            del headers["content-length"]
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers, media_type=BLOCK_TYPE)
        block = await self._offer.read(block_id)
        if block is None:
            return _absent()
        headers["content-length"] = str(len(block))
        return Response(block, headers=headers, media_type=BLOCK_TYPE)

    async def batch(self, request: Request) -> Response:
        if request.headers.get("content-type") != BATCH_REQUEST_TYPE:
            return PlainTextResponse(f"send {BATCH_REQUEST_TYPE}\n", 415)
        records: list[bytes] = []
        room_bytes = MAX_BATCH_BLOCK_BYTES
        for block_id in parse_batch_request(await request.body()):
            size_bytes = await self._offer.size(block_id)
            if size_bytes is not None and size_bytes > room_bytes:
                break
            block = await self._offer.read(block_id) if size_bytes is not None else None
            records.append(batch_record(block))
            room_bytes -= size_bytes or 0
            await trio.lowlevel.checkpoint()  # hundreds of look-ups: others want the loop too
        return Response(b"".join(records), media_type=BATCH_ANSWER_TYPE)


def _absent() -> Response:
    return PlainTextResponse("this block is not here\n", 404)


def _knows(request: Request, etag: str) -> bool:
    return etag in request.headers.get("if-none-match", "")
