"""What of hypercorn stands on the peer port: its HTTP/1.1, without bodies, upgrades and HTTP/2."""

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    Scope,
)

from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.net.exchange.wire import BLOCKS_PATH, MAX_BATCH_REQUEST_BYTES

MAX_HEAD_BYTES = 8 * 1024
"""Longest request head; ours have 200 bytes, browsers' about 1,000. RFC 9112 section 3 asks for
8,000 at least."""

_REFUSAL_HEADERS = [
    (b"content-length", b"0"),
    (b"connection", b"close"),
    (b"allow", b"GET, HEAD, PUT, POST"),
]
_METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"POST"})
_BLOCKS_TARGET = BLOCKS_PATH.encode()
_PUT_TARGET = re.compile(rb"/sha256/[^/]+")

_log = logging.getLogger(__name__)


def http_config() -> Config:
    """Return how hypercorn behaves on the peer port: quiet, to clients and in the log."""
    config = Config()
    config.accesslog = None  # a path may hold a key that somebody sent here by mistake
    config.errorlog = _log
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    return config


def block_protocol(
    app: ASGIFramework,
    config: Config,
    nursery: trio.Nursery,
    handle: Callable[[Event], Awaitable[None]],
    *,
    address: str,
    blame: Callable[[str], None],
) -> H11Protocol:
    """Return the protocol of one connection; *app* answers in *nursery*, *handle* does the rest.

    The application is told the client's *address*. *blame* is told what the client does wrong,
    before the connection is closed because of it.
    """
    protocol = _BlockProtocol(
        ASGIWrapper(app),
        config,
        WorkerContext(None),
        _Answering(nursery),
        ConnectionState({}),
        False,
        (address, 0),
        None,
        handle,
    )
    protocol.blame = blame
    return protocol


class _Answering(TaskGroup):
    """Run the application for a request.

    hypercorn's own task group goes on to send when its task is cancelled, within a head perhaps,
    and that is an error of h11's.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__()
        self._answers = nursery

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application; return where it gets what the client sends."""
        sender, receiver = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        async def put(event: ASGIReceiveEvent) -> None:
            with suppress(trio.BrokenResourceError):
                await sender.send(event)

        async def send_answer(event: ASGISendEvent) -> None:
            receiver.close()  # a body that is refused fills no queue that nobody empties
            await send(event)

        async def answer() -> None:
            try:
                await app(
                    scope,
                    receiver.receive,
                    send_answer,
                    trio.to_thread.run_sync,
                    trio.from_thread.run,
                )
            except Exception:  # noqa: BLE001 - the edge of the application: it costs one answer
                _log.exception("a request on the peer port could not be answered")
            receiver.close()
            await send(None)

        self._answers.start_soon(answer)
        return put


class _BlockProtocol(H11Protocol):
    """HTTP/1.1 and nothing else, with bodies only where something is done with them."""

    blame: Callable[[str], None]

    async def _check_protocol(self, event: h11.Request) -> None:
        """Stay with HTTP/1.1: a server may ignore an offer to change (RFC 9110 section 7.8)."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = _refusal(request)
        if status is None:
            await super()._create_stream(request)
            return
        self.blame(f"it sent what is not wanted here (status {status})")
        head = h11.Response(status_code=status, headers=_REFUSAL_HEADERS)
        await self._send_h11_event(head)
        await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        """Answer what h11 takes for no request."""
        self.blame(f"it sent what is no request (status {status_code})")
        await super()._send_error_response(status_code)


def _refusal(request: h11.Request) -> int | None:
    """Return the status for a request that must not get as far as the application."""
    headers = dict(request.headers)
    if headers.get(b"upgrade", b"").lower() == b"websocket":
        return 400
    is_batch = request.method == b"POST" and request.target == _BLOCKS_TARGET
    is_put = request.method == b"PUT" and _PUT_TARGET.fullmatch(request.target) is not None
    if b"transfer-encoding" in headers:
        body_bytes = 0 if is_put else inf  # the application counts what comes
    else:
        body_bytes = int(headers.get(b"content-length", 0))  # h11 made sure that it is a number
    most_bytes = MAX_BATCH_REQUEST_BYTES if is_batch else MAX_BLOCK_BYTES if is_put else 0
    if body_bytes <= most_bytes:
        return None
    return 413 if is_put or request.method in _METHODS - {b"PUT"} else 405
