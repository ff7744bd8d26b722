"""Blocks from the local store, and from peers when it has none.

One fetch for each block however many readers wait. A fetch asks, one after the other: the peers
that had the bundle's root, peers known to deliver, the providers that discovery knows for the root,
those it knows for the block. What comes is checked, kept in the store as a cached block, used.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    LibernetError,
    NetworkError,
    PeerTimeout,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.address import PeerAddress
from libernet.net.discovery import Discovery
from libernet.net.local import LocalSource
from libernet.net.peers import Peer, Peers

_log = logging.getLogger(__name__)

T = TypeVar("T")

FETCH_SECONDS = 30.0
"""How long a fetch goes on; readers may stop to wait for it earlier."""

_ASK_SECONDS = 10.0  # one peer's turn: a late one must leave time for the next
_FIND_SECONDS = 8.0
_FOUND_SECONDS = 600.0  # how long what discovery found is good for
_NOTHING_FOUND_SECONDS = 10.0
_MAX_WAITING = 100  # readers; half of the mount's tasks, so that the other half goes on
_BATCH_IDS = 256
_MAX_FAILURES = 64  # kept for `status`
_FLUSH_SECONDS = 5.0
_MAX_ROOTS = 256


@dataclass(slots=True)
class _Flight:
    """A block on its way: what wakes its readers, and what came of it."""

    done: trio.Event = field(default_factory=trio.Event)
    block: bytes | None = None
    error: LibernetError | None = None


@dataclass(slots=True)
class _Found:
    """What discovery knew for an id, and until when that is good."""

    addresses: list[PeerAddress]
    until: float


@dataclass(slots=True)
class Failure:
    """A block that could not be had: what for, since when, and who was asked."""

    origin: Origin | None
    since: float
    asked: list[str]
    error: str


class Fetcher:
    """The source of blocks behind the mount.

    State
      _flights   blocks on their way
      _found     what discovery knew lately, by id, bounded
      _failures  blocks that could not be had lately, for `status`, bounded
      _waiting   readers that wait for the network
    Tasks
      run() holds _nursery, with a task for each flight and batch, and flushes cached blocks to the
      store's index. A flight goes on when its readers stop to wait: the next ones find it.
    """

    def __init__(
        self,
        store: Store,
        discovery: Discovery,
        peers: Peers,
        *,
        fetched: Callable[[BlockId, Origin | None], None] = lambda block_id, origin: None,
    ) -> None:
        self._store = store
        self._local = LocalSource(store)
        self._discovery = discovery
        self._peers = peers
        self._fetched = fetched
        self._flights: dict[BlockId, _Flight] = {}
        self._found: OrderedDict[BlockId, _Found] = OrderedDict()
        self._failures: OrderedDict[BlockId, Failure] = OrderedDict()
        self._waiting = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    await trio.sleep(_FLUSH_SECONDS)
                    if self._store.queued_blocks:
                        await trio.to_thread.run_sync(self._flush)
        finally:
            self._nursery = None
            for flight in self._flights.values():
                flight.error = flight.error or NetworkError("the network went down")
                flight.done.set()
            self._flights.clear()

    async def get(
        self, block_id: BlockId, use: Callable[[bytes], T], origin: Origin | None = None
    ) -> T:
        """Return what *use* makes of the block; errors as libernet.blocks.source says."""
        if block_id in self._store:
            try:
                return await self._local.get(block_id, use)
            except (BlockNotFound, BlockCorrupt) as exc:
                _log.warning("%s: asking peers for it", exc)
        block = await self._from_network(block_id, origin)
        return use(block)

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        """Start to bring small blocks here that will be wanted soon, many in one request."""
        if self._nursery is None:
            return
        missing = [
            block_id
            for block_id in dict.fromkeys(block_ids)
            if block_id not in self._flights and block_id not in self._store
        ]
        for start in range(0, len(missing), _BATCH_IDS):
            flights = {block_id: _Flight() for block_id in missing[start : start + _BATCH_IDS]}
            self._flights.update(flights)
            self._nursery.start_soon(self._bring, flights, origin)

    def failures(self) -> list[dict[str, object]]:
        """Return the blocks that could not be had lately, as plain values for JSON."""
        now = trio.current_time()
        return [
            {
                "block": str(block_id),
                "path": failure.origin.path if failure.origin else "",
                "since_seconds": round(now - failure.since, 1),
                "asked": failure.asked,
                "error": failure.error,
            }
            for block_id, failure in self._failures.items()
        ]

    async def _from_network(self, block_id: BlockId, origin: Origin | None) -> bytes:
        """Wait for the block's flight, starting one if there is none."""
        if self._nursery is None:
            raise NetworkError(f"block {block_id} is not here, and the network is down")
        flight = self._flights.get(block_id)
        if flight is None:
            flight = self._flights[block_id] = _Flight()
            self._nursery.start_soon(self._fly, block_id, flight, origin)
        if self._waiting >= _MAX_WAITING:
            raise PeerTimeout(f"{_MAX_WAITING} readers wait for the network already")
        self._waiting += 1
        try:
            await flight.done.wait()
        finally:
            self._waiting -= 1
        if flight.error is not None:
            raise flight.error
        assert flight.block is not None
        return flight.block

    async def _fly(self, block_id: BlockId, flight: _Flight, origin: Origin | None) -> None:
        asked: list[str] = []
        try:
            with trio.fail_after(FETCH_SECONDS):
                block = await self._ask_for(block_id, origin, asked)
            await self._land(block_id, flight, block, origin)
        except trio.TooSlowError:
            late = PeerTimeout(f"nobody gave block {block_id} within {FETCH_SECONDS:g} s")
            self._lost(block_id, flight, origin, asked, late)
        except LibernetError as exc:
            self._lost(block_id, flight, origin, asked, exc)
        except Exception as exc:  # noqa: BLE001 - the top of a task: its readers must be woken
            _log.exception("fetching block %s failed for an unforeseen reason", block_id)
            error = NetworkError(f"fetching block {block_id} failed: {exc!r}")
            self._lost(block_id, flight, origin, asked, error)
        finally:
            self._flights.pop(block_id, None)
            flight.done.set()

    async def _ask_for(self, block_id: BlockId, origin: Origin | None, asked: list[str]) -> bytes:
        """Return the block from the first peer that gives it."""
        async for peer in self._candidates(block_id, origin):
            asked.append(str(peer.address))
            try:
                with trio.fail_after(_ASK_SECONDS):
                    block = await peer.client.get(block_id)
            except BlockNotFound:
                continue
            except trio.TooSlowError:
                self._peers.failed(peer, PeerTimeout(f"{peer.address} took too long"))
            except (BlockCorrupt, NetworkError) as exc:
                self._peers.failed(peer, exc)
            else:
                self._peers.delivered(peer)
                return block
        whom = f"{len(asked)} peers were asked" if asked else "no peer is known who might"
        raise BlockNotFound(f"nobody has block {block_id} right now: {whom}")

    async def _candidates(self, block_id: BlockId, origin: Origin | None) -> AsyncIterator[Peer]:
        """Yield the peers worth asking, each once, looking for more only when these had nothing."""
        seen: set[PeerAddress] = set()
        root = origin.root if origin else block_id
        known = self._found.get(root)
        for peer in self._fresh(known.addresses if known else (), seen):
            yield peer
        for peer in self._fresh(self._discovery.peers_hint(), seen):
            yield peer
        for wanted in dict.fromkeys((root, block_id)):
            for peer in self._fresh(await self._find(wanted), seen):
                yield peer

    def _fresh(self, addresses: Iterable[PeerAddress], seen: set[PeerAddress]) -> list[Peer]:
        new = [address for address in addresses if address not in seen]
        seen.update(new)
        return self._peers.by_merit(new)

    async def _find(self, block_id: BlockId) -> list[PeerAddress]:
        """Return who announced an id, asking discovery when what it said is too old."""
        found = self._found.get(block_id)
        if found is not None and found.until > trio.current_time():
            return found.addresses
        addresses: list[PeerAddress] = []
        try:
            with trio.move_on_after(_FIND_SECONDS):
                addresses = [each.address for each in await self._discovery.find(block_id)]
        except NetworkError as exc:
            _log.info("nobody could be asked who has block %s: %s", block_id, exc)
        seconds = _FOUND_SECONDS if addresses else _NOTHING_FOUND_SECONDS
        self._found[block_id] = _Found(addresses, trio.current_time() + seconds)
        if len(self._found) > _MAX_ROOTS:
            self._found.popitem(last=False)
        return addresses

    async def _bring(self, flights: dict[BlockId, _Flight], origin: Origin) -> None:
        """Ask the best peer for many blocks at once; who waits for one it lacks asks further."""
        brought: dict[BlockId, bytes] = {}
        try:
            async for peer in self._candidates(origin.root, origin):
                try:
                    with trio.fail_after(FETCH_SECONDS):
                        brought = await peer.client.get_many(flights)
                except trio.TooSlowError:
                    self._peers.failed(peer, PeerTimeout(f"{peer.address} took too long"))
                except (BlockCorrupt, NetworkError) as exc:
                    self._peers.failed(peer, exc)
                else:
                    self._peers.delivered(peer, len(brought))
                if brought:
                    break
            for block_id, block in brought.items():
                await self._land(block_id, flights[block_id], block, origin)
        except Exception:  # noqa: BLE001 - the top of a task: what is missing is fetched singly
            _log.exception("bringing %d blocks failed for an unforeseen reason", len(flights))
        for block_id, flight in flights.items():
            if flight.block is None and self._nursery is not None:
                self._nursery.start_soon(self._fly, block_id, flight, origin)
            else:
                self._flights.pop(block_id, None)
                flight.done.set()

    async def _land(
        self, block_id: BlockId, flight: _Flight, block: bytes, origin: Origin | None
    ) -> None:
        """Keep a block that came, and hand it to its readers."""
        if len(block) <= self._store.small_bytes:
            self._store.put_cached(block_id, block)
        else:
            await trio.to_thread.run_sync(self._store.put_cached, block_id, block)
        self._failures.pop(block_id, None)
        flight.block = block
        self._fetched(block_id, origin)

    def _lost(
        self,
        block_id: BlockId,
        flight: _Flight,
        origin: Origin | None,
        asked: list[str],
        error: LibernetError,
    ) -> None:
        flight.error = error
        before = self._failures.pop(block_id, None)
        since = before.since if before else trio.current_time()
        self._failures[block_id] = Failure(origin, since, asked, str(error))
        if len(self._failures) > _MAX_FAILURES:
            self._failures.popitem(last=False)

    def _flush(self) -> None:
        try:
            self._store.flush()
        except LibernetError as exc:
            _log.warning("cached blocks could not be entered in the store's index: %s", exc)
