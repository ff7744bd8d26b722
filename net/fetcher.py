"""Blocks from the local store, and from peers when it has none.

One fetch for each block however many readers wait. Whom it asks, and in which order, `finder.py`
says. What comes is checked, kept in the store as a cached block, used.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockError,
    BlockNotFound,
    LibernetError,
    NetworkError,
    PeerTimeout,
)
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.discovery import Discovery
from libernet.net.enquiry import Enquiry
from libernet.net.finder import Finder
from libernet.net.flights import Failures, Flight, Flights
from libernet.net.local import LocalSource
from libernet.net.peers import Peer, Peers

_log = logging.getLogger(__name__)

T = TypeVar("T")

FETCH_SECONDS = 30.0
"""How long a fetch goes on and a reader waits; readers may stop to wait for it earlier."""

_BATCH_SECONDS = 10.0  # after that, readers of blocks that have not come ask for each by itself
_BATCH_IDS = 64  # few enough that the first of them is soon here, also on a slow line
_BATCHES = 4  # at one time: 16 MiB of memory if each small block has 64 KiB
_MAX_FLIGHTS = 2048  # what may be brought ahead beyond that is not
_USING_THREADS = 4
_PUT_AT_ONCE_BYTES = 8 * 1024 * 1024  # queued in the store; with more, putting may have to flush
_AHEAD_SECONDS = 0.3  # beside the round trips: what comes in bursts, and waits for the processor
_LEAST_AHEAD_BYTES = 4 * 1024 * 1024
_HOUSEKEEPING_SECONDS = 5.0
_TRIM_SECONDS = 300.0


class Fetcher:
    """The source of blocks behind the mount.

    State
      _flights   blocks on their way
      _failures  blocks that could not be had lately, for `status`
      _nursery   that of run(), None while the network is down
    Tasks
      run() holds one for each flight and batch, and looks after store and connections. A flight
      goes on when its readers stop to wait: the next ones find it. But what was only wanted ahead
      of a reader ends with the last who wanted it. No error is kept: the next reader of a block
      starts a new flight.
    """

    def __init__(
        self,
        store: Store,
        discovery: Discovery,
        peers: Peers,
        *,
        fetched: Callable[[StoredId, Origin | None], None] = lambda block_id, origin: None,
    ) -> None:
        """Call *fetched* for each block that came from a peer and was kept."""
        self._store = store
        self._local = LocalSource(store)
        self._peers = peers
        self._finder = Finder(discovery, peers)
        self._fetched = fetched
        self._flights = Flights()
        self._failures = Failures()
        self._batches = trio.CapacityLimiter(_BATCHES)
        self._threads = trio.CapacityLimiter(_USING_THREADS)
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    await self._keep_house()
                finally:
                    self._nursery = None
        finally:
            self._flights.lose_all(_network_down())

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        """Return what *use* makes of the block; errors as libernet.blocks.source says."""
        was_here = False

        def use_here(block: bytes) -> T:
            nonlocal was_here
            was_here = True
            return use(block)

        try:
            return await self._local.get(block_id, use_here)
        except (BlockNotFound, BlockCorrupt) as exc:
            if was_here:
                raise  # the block is right, but not for this use: peers have no other
            if isinstance(exc, BlockCorrupt):
                _log.info("%s: asking peers for it", exc)
        block = await self._from_network(block_id, origin, ahead=ahead)
        if len(block) <= self._store.small_bytes:
            return use(block)
        return await trio.to_thread.run_sync(use, block, limiter=self._threads)

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        """Start to bring small blocks here that will be wanted soon, many in one request."""
        if self._nursery is None:
            return
        missing = [
            block_id
            for block_id in dict.fromkeys(block_ids)
            if block_id not in self._flights and block_id not in self._store
        ]
        del missing[max(0, _MAX_FLIGHTS - len(self._flights)) :]
        for start in range(0, len(missing), _BATCH_IDS):
            batch = {
                block_id: self._flights.begin(block_id)
                for block_id in missing[start : start + _BATCH_IDS]
            }
            self._nursery.start_soon(self._bring, batch, origin)

    def failures(self) -> list[dict[str, object]]:
        """Return the blocks that could not be had lately, as plain values for JSON."""
        return self._failures.status(self._store.__contains__)

    def ahead_bytes(self, origin: Origin | None) -> int:
        """Return what those who gave blocks of the bundle send in a round trip and a while more."""
        if origin is None:
            return 0
        givers = [each.standing for each in self._finder.givers(origin.root) if each.is_proven]
        sent = sum(each.rate * (2 * each.round_trip_seconds + _AHEAD_SECONDS) for each in givers)
        return max(int(sent), _LEAST_AHEAD_BYTES) if givers else 0

    async def _from_network(
        self, block_id: StoredId, origin: Origin | None, *, ahead: bool
    ) -> bytes:
        """Wait for the block's flight, starting one if there is none."""
        if self._nursery is None:
            raise NetworkError(f"block {block_id} is not here, and the network is down")
        with self._flights.place():
            flight = self._flights.find(block_id)
            if flight is None:
                flight = self._flights.begin(block_id)
                flight.is_ahead = ahead
                self._nursery.start_soon(self._fly, block_id, flight, origin)
            flight.is_ahead = flight.is_ahead and ahead
            flight.readers += 1
            try:
                with trio.move_on_after(FETCH_SECONDS):
                    await flight.done.wait()
            finally:
                flight.readers -= 1
                if flight.is_ahead and not flight.readers:
                    self._flights.give_up(block_id, flight)
        if not flight.done.is_set():
            error = _nobody_in_time(block_id)
            self._failures.note(block_id, origin, flight.asked, error)
            raise error
        return flight.outcome()

    async def _fly(
        self,
        block_id: StoredId,
        flight: Flight,
        origin: Origin | None,
        seconds: float = FETCH_SECONDS,
    ) -> None:
        """Bring one block here, or tell its readers why it does not come."""
        root = origin.root if origin else block_id
        search = self._finder.search(root, block_id)
        if isinstance(root, BlockId) and self._finder.is_busy(root) and self._nursery is not None:
            self._nursery.start_soon(self._finder.widen, root)
        enquiry = Enquiry(self._peers, search, block_id, flight.asked)
        error: LibernetError = _network_down()
        try:
            with flight.scope, trio.fail_after(seconds):
                block = await enquiry.run()
            if flight.scope.cancelled_caught:
                return
            await self._land(block_id, block, origin)
        except trio.TooSlowError:
            error = _nobody_in_time(block_id)
        except LibernetError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - the top of a task: its readers must be woken
            _log.exception("fetching block %s failed for an unforeseen reason", block_id)
            error = NetworkError(f"fetching block {block_id} failed: {exc!r}")
        finally:
            if self._flights.find(block_id) is flight:
                if self._nursery is not None:
                    self._failures.note(block_id, origin, flight.asked, error)
                self._flights.lost(block_id, error)

    async def _bring(self, batch: dict[BlockId, Flight], origin: Origin) -> None:
        """Bring many blocks here; who waits for one that does not come asks further."""
        try:
            with trio.move_on_after(_BATCH_SECONDS):
                async with self._batches:
                    await self._ask_for_many(batch, origin)
        except LibernetError as exc:
            _log.info("of %d blocks brought ahead not all are of use: %s", len(batch), exc)
        except Exception:  # noqa: BLE001 - the top of a task: what is missing is fetched singly
            _log.exception("bringing %d blocks failed for an unforeseen reason", len(batch))
        finally:
            for block_id, flight in batch.items():
                if flight.readers and not flight.done.is_set() and self._nursery is not None:
                    left = FETCH_SECONDS - _BATCH_SECONDS
                    self._nursery.start_soon(self._fly, block_id, flight, origin, left)
                elif not flight.done.is_set():
                    self._flights.lost(block_id, _network_down())

    async def _ask_for_many(self, batch: dict[BlockId, Flight], origin: Origin) -> None:
        search = self._finder.search(origin.root)
        missing = list(batch)
        while missing and (peer := await search.next()) is not None:
            brought = await self._brought_by(peer, missing)
            if brought:
                self._finder.gave(origin.root, peer.address, len(brought))
            elif not peer.is_failing:
                self._finder.lacked(origin.root, peer.address)
            for block_id, block in brought.items():
                await self._land(block_id, block, origin)
            missing = [block_id for block_id in missing if block_id not in brought]

    async def _brought_by(self, peer: Peer, missing: list[BlockId]) -> dict[BlockId, bytes]:
        """Return those of the blocks that a peer gives."""
        errand = peer.standing.asked()
        size_bytes: int | None = None
        try:
            brought = await peer.client.get_many(missing)
            size_bytes = sum(map(len, brought.values()))
        except trio.Cancelled:
            self._peers.late(peer)
            raise
        except (BlockError, NetworkError) as exc:
            self._peers.failed(peer, exc)
            return {}
        finally:
            peer.standing.over(errand, size_bytes)
        self._peers.delivered(peer, len(brought), size_bytes)
        return brought

    async def _land(self, block_id: StoredId, block: bytes, origin: Origin | None) -> None:
        """Keep a block that came, and hand it to its readers."""
        is_quick = len(block) <= self._store.small_bytes
        if is_quick and self._store.queued_bytes < _PUT_AT_ONCE_BYTES:
            is_kept = self._store.put_cached(block_id, block)
        else:
            is_kept = await trio.to_thread.run_sync(self._store.put_cached, block_id, block)
        self._failures.forget(block_id)
        self._flights.arrived(block_id, block)
        if is_kept:
            self._fetched(block_id, origin)

    async def _keep_house(self) -> None:
        """Enter blocks in the store's index, make room there, close idle connections."""
        trimmed = trio.current_time()
        while True:
            await trio.sleep(_HOUSEKEEPING_SECONDS)
            self._peers.close_idle()
            if self._store.queued_blocks:
                await trio.to_thread.run_sync(_try, self._store.flush)
            if trio.current_time() >= trimmed + _TRIM_SECONDS:
                await trio.to_thread.run_sync(_try, self._store.trim)
                trimmed = trio.current_time()


def _try(work: Callable[[], None]) -> None:
    try:
        work()
    except (LibernetError, OSError) as exc:
        _log.warning("the store could not be looked after: %s", exc)


def _network_down() -> NetworkError:
    return NetworkError("the network went down")


def _nobody_in_time(block_id: StoredId) -> PeerTimeout:
    return PeerTimeout(f"nobody gave block {block_id} within {FETCH_SECONDS:g} s")
