"""Fetch blocks from one peer: a Libernet node, this one's kind or the original."""

from collections.abc import Iterable, Sequence

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    FormatError,
    LibernetError,
    NetworkError,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.verification import is_block
from libernet.net.address import PeerAddress
from libernet.net.exchange.http_exchange import Answer, Question
from libernet.net.exchange.pool import ClientLimits, ConnectionPool
from libernet.net.exchange.streams import Dial, dial_tcp
from libernet.net.exchange.wire import (
    BATCH_ANSWER_TYPE,
    BATCH_REQUEST_TYPE,
    BLOCKS_PATH,
    MAX_BATCH_ANSWER_BYTES,
    MAX_BATCH_IDS,
    batch_records,
    batch_request,
    block_path,
)

ABSENT_STATUSES = frozenset({404, 409, 410, 504})
"""What says that a block is not there: 504 in the original, 409 in its rewrite."""

BUSY_STATUSES = frozenset({429, 503})

NO_BATCH_STATUSES = frozenset({200, 400, 403, 404, 405, 411, 413, 415, 500, 501, 504})
"""What a server that does not know batches may say to one; 200 with a page of its own."""


class ExchangeClient:
    """Fetch blocks from *peer*. Every block is checked against its id before it is returned.

    State: `_pool`, the connections; `_speaks_batches`, until the peer has refused one.
    """

    def __init__(
        self, peer: PeerAddress, *, limits: ClientLimits | None = None, dial: Dial = dial_tcp
    ) -> None:
        self.peer = peer
        self._limits = limits or ClientLimits()
        self._pool = ConnectionPool(peer, dial, self._limits)
        self._speaks_batches = True

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

    async def get(self, block_id: BlockId) -> bytes:
        """Return the block.

        Raises BlockNotFound when the peer does not have it, BlockCorrupt when it sends something
        else, PeerUnreachable, PeerTimeout and RemoteProtocolError.
        """
        question = Question("GET", block_path(block_id), MAX_BLOCK_BYTES)
        async with self._pool.ask(question) as answer:
            if not self._is_found(answer):
                raise BlockNotFound(f"peer {self.peer} does not have block {block_id}")
            return self._check(block_id, answer.body)

    async def has(self, block_id: BlockId) -> bool:
        """Say whether the peer says that it has the block; errors as for `get`."""
        async with self._pool.ask(Question("HEAD", block_path(block_id))) as answer:
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
            found |= await self._get_each(wanted)
        return found

    async def _batch(self, wanted: Sequence[BlockId]) -> dict[BlockId, bytes | None]:
        """Return what the peer answered for the first of *wanted*: one at least, or none when it
        does not know batches."""
        body = batch_request(wanted)
        question = Question("POST", BLOCKS_PATH, MAX_BATCH_ANSWER_BYTES, body, BATCH_REQUEST_TYPE)
        async with self._pool.ask(question) as answer:
            if answer.status == 200 and answer.content_type == BATCH_ANSWER_TYPE:
                return self._check_batch(wanted, answer.body)
            if answer.status not in NO_BATCH_STATUSES:
                raise self._failure(answer)
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

    async def _get_each(self, wanted: Sequence[BlockId]) -> dict[BlockId, bytes]:
        """Ask for one block at a time on each connection."""
        waiting = iter(wanted)
        found: dict[BlockId, bytes] = {}
        failures: list[LibernetError] = []

        async def work(nursery: trio.Nursery) -> None:
            for block_id in waiting:
                try:
                    found[block_id] = await self.get(block_id)
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

    def _check(self, block_id: BlockId, body: memoryview) -> bytes:
        if not is_block(block_id, body):
            raise BlockCorrupt(
                f"peer {self.peer} sent {len(body)} bytes that are not block {block_id}"
            )
        return bytes(body)
