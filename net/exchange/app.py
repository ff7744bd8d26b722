"""What the peer port answers: an ASGI application that knows blocks by their ids and no more.

    GET, HEAD /sha256/ID        the block, application/octet-stream
    GET, HEAD /sha384/ID        the same for a blob of LBRYnet
    GET /sha256/like/ID         public blocks with ids like that one, {"/sha256/ID": bytes}
    PUT /sha256/ID              a block to be kept, see reception.py
    POST /sha256/               a batch of blocks, or which of many are here, see wire.py

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
from libernet.net.exchange.reception import Reception
from libernet.net.exchange.signing import NODE_HEADER
from libernet.net.exchange.wire import (
    BATCH_ANSWER_TYPE,
    BATCH_REQUEST_TYPE,
    BLOBS_PATH,
    BLOCK_TYPE,
    BLOCKS_PATH,
    LIKE_PATH,
    MAX_BATCH_BLOCK_BYTES,
    WHICH_ANSWER_TYPE,
    WHICH_REQUEST_TYPE,
    batch_record,
    block_path,
    parse_batch_request,
    which_answer,
)

_UNCHANGING = "public, max-age=31536000, immutable"
"""A year, the most that RFC 9111's predecessors allow; `immutable` is RFC 8246."""

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def exchange_app(
    offer: Offer,
    reception: Reception | None = None,
    *,
    is_busy_for: Callable[[str], bool] = lambda address: False,
) -> ASGIFramework:
    """Return the application that serves what *offer* gives, and puts what *reception* takes.

    *is_busy_for* says of an address that what is being sent there takes long already.
    """
    blocks = _Blocks(offer, reception, is_busy_for)
    headers = {NODE_HEADER: reception.node_key} if reception else {}

    def route(path: str, endpoint: Endpoint, *methods: str) -> Route:
        return Route(path, _guarded(endpoint, headers), methods=methods)

    router = Router(
        [
            route(BLOCKS_PATH, blocks.many, "POST"),
            route(LIKE_PATH + "{block_id}", blocks.like, "GET", "HEAD"),
            route(BLOCKS_PATH + "{block_id}", blocks.block, "GET", "HEAD", "PUT"),
            route(BLOBS_PATH + "{blob_id}", blocks.blob, "GET", "HEAD"),
        ],
        redirect_slashes=False,
    )
    # Both follow ASGI; starlette describes its messages as mappings, hypercorn as typed ones.
    return cast("ASGIFramework", router)


def _guarded(endpoint: Endpoint, headers: dict[str, str]) -> Endpoint:
    """Answer what can go wrong in *endpoint* by whose fault it is, always with *headers*."""

    async def answer(request: Request) -> Response:
        response = await attempt(request)
        response.headers.update(headers)
        return response

    async def attempt(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FormatError as exc:
            return PlainTextResponse(f"{exc}\n", 400)
        except StoreError as exc:
            _log.warning("a peer's request cannot be answered: %s", exc)
            return PlainTextResponse("the store cannot be used\n", 503)

    return answer


class _Blocks:
    def __init__(
        self, offer: Offer, reception: Reception | None, is_busy_for: Callable[[str], bool]
    ) -> None:
        self._is_busy_for = is_busy_for
        self._offer = offer
        self._reception = reception

    async def block(self, request: Request) -> Response:
        try:
            block_id = BlockId.parse(request.path_params["block_id"])
        except FormatError:  # its text is not sent: it quotes what a page elsewhere may have made
            return PlainTextResponse("a block id is 64 lower-case hex digits\n", 400)
        if request.method != "PUT":
            return await self._stored(block_id, request)
        if self._reception is None:
            return PlainTextResponse("this node keeps no blocks for others\n", 403)
        return await self._reception.put(block_id, request)

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
        if self._is_busy(request):
            return _busy()
        block = await self._offer.read(block_id)
        if block is None:
            return _absent()
        headers["content-length"] = str(len(block))
        return Response(block, headers=headers, media_type=BLOCK_TYPE)

    async def many(self, request: Request) -> Response:
        match request.headers.get("content-type"):
            case kind if kind == BATCH_REQUEST_TYPE and self._is_busy(request):
                return _busy()
            case kind if kind == BATCH_REQUEST_TYPE:
                return await self._batch(parse_batch_request(await request.body()))
            case kind if kind == WHICH_REQUEST_TYPE:
                return await self._which(parse_batch_request(await request.body()))
        return PlainTextResponse(f"send {BATCH_REQUEST_TYPE} or {WHICH_REQUEST_TYPE}\n", 415)

    def _is_busy(self, request: Request) -> bool:
        return request.client is not None and self._is_busy_for(request.client.host)

    async def _which(self, block_ids: list[BlockId]) -> Response:
        are_here = []
        for block_id in block_ids:
            are_here.append(await self._offer.tells(block_id))
            await trio.lowlevel.checkpoint()
        return Response(which_answer(are_here), media_type=WHICH_ANSWER_TYPE)

    async def _batch(self, block_ids: list[BlockId]) -> Response:
        records: list[bytes] = []
        room_bytes = MAX_BATCH_BLOCK_BYTES
        for block_id in block_ids:
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


def _busy() -> Response:
    return PlainTextResponse("the answers that are on their way to you take long already\n", 503)


def _knows(request: Request, etag: str) -> bool:
    return etag in request.headers.get("if-none-match", "")
