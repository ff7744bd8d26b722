"""Fetch blocks from one peer, or give it some: a Libernet node, this one's kind or the original."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    FormatError,
    LibernetError,
    NetworkError,
    PeerRefused,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.verification import is_block, max_bytes
from libernet.net.address import PeerAddress
from libernet.net.exchange.http_exchange import MAX_ERROR_BODY_BYTES, Answer, Question, unheard
from libernet.net.exchange.line import Lines
from libernet.net.exchange.pool import ClientLimits, ConnectionPool
from libernet.net.exchange.signing import Signer, node_key
from libernet.net.exchange.streams import Dial, dial_tcp
from libernet.net.exchange.wire import (
    BATCH_ANSWER_TYPE,
    BATCH_REQUEST_TYPE,
    BLOCKS_PATH,
    MAX_BATCH_ANSWER_BYTES,
    MAX_BATCH_IDS,
    WHICH_ANSWER_TYPE,
    WHICH_REQUEST_TYPE,
    batch_records,
    batch_request,
    block_path,
    parse_which_answer,
    which_bytes,
)

T = TypeVar("T")

ABSENT_STATUSES = frozenset({404, 409, 410, 504})
"""What says that a block is not there: 504 in the original, 409 in its rewrite."""

BUSY_STATUSES = frozenset({429, 503})

REFUSED_STATUSES = frozenset({400, 403, 404, 405, 411, 413, 501, 507})
"""What says that a block may not be put there: 507 that there is no room, 405 that none may be."""

NO_BATCH_STATUSES = frozenset({200, 400, 403, 404, 405, 411, 413, 415, 500, 501, 504})
"""What a server that does not know batches may say to one; 200 with a page of its own."""


class ExchangeClient:
    """Fetch blocks from *peer*. Every block is checked against its id before it is returned.

    State: `_pool`, the connections; `_speaks_batches` and `_tells_which`, until the peer has
    refused to; `node_key`, by which the peer says that it is known, None while it has not.
    """

    def __init__(
        self,
        peer: PeerAddress,
        *,
        limits: ClientLimits | None = None,
        dial: Dial = dial_tcp,
        signer: Signer | None = None,
        lines: Lines | None = None,
    ) -> None:
        """Sign what the peer is given by *signer*, where it can check that; share *lines*."""
        self.peer = peer
        self.node_key: bytes | None = None
        self._signer = signer
        self._limits = limits or ClientLimits()
        self._pool = ConnectionPool(peer, dial, self._limits, lines)
        self._speaks_batches = True
        self._tells_which = True

    @property
    def round_trip_seconds(self) -> float | None:
        """How long the last connection took to be made: one round trip; None before the first."""
        return self._pool.round_trip_seconds

    def close(self) -> None:
        """Close the connections; never waits. Questions under way end first."""
        self._pool.close()

    def close_idle(self) -> None:
        """Close the connections that nobody has used for long; never waits."""
        self._pool.close_idle()

    async def get(self, block_id: StoredId, heard: Callable[[int], None] = unheard) -> bytes:
        """Return the block or blob; *heard* is told how many bytes came, each time that some do.

        Raises BlockNotFound when the peer does not have it, BlockCorrupt when it sends something
        else, PeerUnreachable, PeerTimeout and RemoteProtocolError.
        """
        question = Question("GET", block_path(block_id), max_bytes(block_id), heard=heard)
        async with self._ask(question) as answer:
            if not self._is_found(answer):
                raise BlockNotFound(f"peer {self.peer} does not have block {block_id}")
            return self._check(block_id, answer.body)

    async def has(self, block_id: BlockId) -> bool:
        """Say whether the peer says that it has the block; errors as for `get`."""
        async with self._ask(Question("HEAD", block_path(block_id))) as answer:
            return self._is_found(answer)

    async def get_many(self, block_ids: Iterable[BlockId]) -> dict[BlockId, bytes]:
        """Return those of the blocks that the peer has, many to a round trip if it can do that.

        Meant for small blocks: all are in memory at once, and only one answer of about 1 MiB is
        under way at a time. Errors as for `get`; what was received until then is given up.
        """
        wanted = list(dict.fromkeys(block_ids))
        found: dict[BlockId, bytes] = {}
        while wanted and self._speaks_batches:
            answered = await self._batch(wanted[:MAX_BATCH_IDS])
            found.update((key, block) for key, block in answered.items() if block is not None)
            wanted = wanted[len(answered) :]
        if wanted:
            found |= await self._each(wanted, self.get)
        return found

    async def put(self, block_id: BlockId, block: bytes) -> None:
        """Let the peer keep a block; when this returns it says that it does.

        It is signed if the peer has a key. Raises PeerRefused when it will not have it; other
        errors as for `get`.
        """
        if self.node_key is None and self._signer is not None:
            await self.has(block_id)
        path = block_path(block_id)
        sign = None
        if self.node_key is not None and self._signer is not None:
            sign = partial(self._signer.sign, "PUT", path, block, self.node_key)
        question = Question("PUT", path, MAX_ERROR_BODY_BYTES, block, sign=sign)
        async with self._ask(question) as answer:
            if answer.status == 200:
                return
            if answer.status in REFUSED_STATUSES:
                why = bytes(answer.body[:200]).decode("ascii", "replace").strip()
                raise PeerRefused(
                    f"peer {self.peer} does not keep block {block_id}: {answer.status} {why!a}"
                )
            raise self._failure(answer)

    async def which(self, block_ids: Iterable[BlockId]) -> set[BlockId]:
        """Return those of the blocks that the peer says to have, many to a round trip.

        It speaks only of those that are public or kept for others, unless it cannot answer such a
        question: then it is asked for each by HEAD. Errors as for `get`.
        """
        wanted = list(dict.fromkeys(block_ids))
        found: set[BlockId] = set()
        while wanted and self._tells_which:
            asked = wanted[:MAX_BATCH_IDS]
            are_here = await self._which(asked)
            if are_here is not None:
                found.update(each for each, is_here in zip(asked, are_here, strict=True) if is_here)
                del wanted[: len(asked)]
        if wanted:
            has = await self._each(wanted, self.has)
            found.update(each for each in has if has[each])
        return found

    async def _which(self, asked: Sequence[BlockId]) -> list[bool] | None:
        """Return which blocks the peer has, None when it does not know such questions."""
        question = Question(
            "POST", BLOCKS_PATH, which_bytes(len(asked)), batch_request(asked), WHICH_REQUEST_TYPE
        )
        async with self._ask(question) as answer:
            if answer.status == 200 and answer.content_type == WHICH_ANSWER_TYPE:
                try:
                    return parse_which_answer(answer.body, len(asked))
                except FormatError as exc:
                    raise RemoteProtocolError(f"peer {self.peer} answers oddly: {exc}") from exc
            self._check_ignorance(answer)
            self._tells_which = False
            return None

    @asynccontextmanager
    async def _ask(self, question: Question) -> AsyncIterator[Answer]:
        async with self._pool.ask(question) as answer:
            self.node_key = node_key(answer.node_key) or self.node_key
            yield answer

    def _check_ignorance(self, answer: Answer) -> None:
        """Raise unless the peer says that it does not know what it was asked."""
        if answer.status not in NO_BATCH_STATUSES:
            raise self._failure(answer)

    async def _batch(self, wanted: Sequence[BlockId]) -> dict[BlockId, bytes | None]:
        """Return what the peer answered for the first of *wanted*: one at least, or none when it
        does not know batches."""
        body = batch_request(wanted)
        question = Question("POST", BLOCKS_PATH, MAX_BATCH_ANSWER_BYTES, body, BATCH_REQUEST_TYPE)
        async with self._ask(question) as answer:
            if answer.status == 200 and answer.content_type == BATCH_ANSWER_TYPE:
                return self._check_batch(wanted, answer.body)
            self._check_ignorance(answer)
            self._speaks_batches = False
            return {}

    def _check_batch(
        self, wanted: Sequence[BlockId], body: memoryview
    ) -> dict[BlockId, bytes | None]:
        try:
            records = list(batch_records(body))
        except FormatError as exc:
            raise RemoteProtocolError(f"peer {self.peer} sent a broken batch: {exc}") from exc
        if not 1 <= len(records) <= len(wanted):
            raise RemoteProtocolError(
                f"peer {self.peer} answered {len(wanted)} ids with {len(records)} records"
            )
        return {
            block_id: None if record is None else self._check(block_id, record)
            for block_id, record in zip(wanted, records, strict=False)
        }

    async def _each(
        self, wanted: Sequence[BlockId], ask: Callable[[BlockId], Awaitable[T]]
    ) -> dict[BlockId, T]:
        """Ask for one block at a time on each connection."""
        waiting = iter(wanted)
        found: dict[BlockId, T] = {}
        failures: list[LibernetError] = []

        async def work(nursery: trio.Nursery) -> None:
            for block_id in waiting:
                try:
                    found[block_id] = await ask(block_id)
                except BlockNotFound:
                    continue
                except LibernetError as exc:
                    failures.append(exc)
                    nursery.cancel_scope.cancel()
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(min(self._limits.connections, len(wanted))):
                nursery.start_soon(work, nursery)
        if failures:
            raise failures[0]  # the other workers' are cancellations, or the same again
        return found

    def _is_found(self, answer: Answer) -> bool:
        if answer.status == 200:
            return True
        if answer.status in ABSENT_STATUSES:
            return False
        raise self._failure(answer)

    def _failure(self, answer: Answer) -> NetworkError:
        """Return what an answer means that is neither the block nor its absence."""
        if answer.status in BUSY_STATUSES:
            return PeerUnreachable(f"peer {self.peer} is too busy (status {answer.status})")
        if 300 <= answer.status < 400:
            return RemoteProtocolError(
                f"peer {self.peer} redirects (status {answer.status}), which is not followed"
            )
        return RemoteProtocolError(f"peer {self.peer} answers with status {answer.status}")

    def _check(self, block_id: StoredId, body: memoryview) -> bytes:
        if not is_block(block_id, body):
            raise BlockCorrupt(
                f"peer {self.peer} sent {len(body)} bytes that are not block {block_id}"
            )
        return bytes(body)
