"""Blocks on their way, and what became of those that could not be had."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import LibernetError, PeerTimeout
from libernet.blocks.ids import StoredId
from libernet.blocks.source import Origin

MAX_WAITING = 100
"""Readers that may wait at one time: half of the mount's tasks, so that the other half goes on."""

_MAX_FAILURES = 64


@dataclass(slots=True)
class Flight:
    """A block on its way.

    State: `done`, set when either `block` or `error` says what came of it; `readers` that wait;
    `asked`, the addresses of the peers asked for this block alone; `scope`, around its fetch;
    `is_ahead`, whether nobody ever waited for it who may try again.
    """

    done: trio.Event = field(default_factory=trio.Event)
    block: bytes | None = None
    error: LibernetError | None = None
    readers: int = 0
    asked: list[str] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_ahead: bool = False

    def outcome(self) -> bytes:
        """Return the block, or raise why it did not come: a new error for each reader."""
        if self.block is not None:
            return self.block
        assert self.error is not None
        raise type(self.error)(*self.error.args) from self.error


class Flights:
    """All blocks on their way, each once.

    State: _flights, by id, none of which is done; _waiting, their readers.
    """

    def __init__(self) -> None:
        self._flights: dict[StoredId, Flight] = {}
        self._waiting = 0

    def __contains__(self, block_id: StoredId) -> bool:
        return block_id in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, block_id: StoredId) -> Flight | None:
        """Return the block's flight, if it is on its way."""
        return self._flights.get(block_id)

    def begin(self, block_id: StoredId) -> Flight:
        """Return the new flight of a block that is not on its way."""
        assert block_id not in self._flights
        flight = self._flights[block_id] = Flight()
        return flight

    def arrived(self, block_id: StoredId, block: bytes) -> None:
        """Hand a block to those who wait for it."""
        flight = self._flights.pop(block_id, None)
        if flight is not None:
            flight.block = block
            flight.done.set()

    def lost(self, block_id: StoredId, error: LibernetError) -> None:
        """Tell those who wait for a block why it does not come; nothing if it has arrived."""
        flight = self._flights.pop(block_id, None)
        if flight is not None:
            flight.error = error
            flight.done.set()

    def give_up(self, block_id: StoredId, flight: Flight) -> None:
        """End a flight that nobody waits for: who wants the block next begins another."""
        if self._flights.get(block_id) is flight:
            del self._flights[block_id]
            flight.scope.cancel()

    def lose_all(self, error: LibernetError) -> None:
        """Tell all who wait that nothing comes any more."""
        for block_id in list(self._flights):
            self.lost(block_id, error)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the readers' places; PeerTimeout at once when all are taken."""
        if self._waiting >= MAX_WAITING:
            raise PeerTimeout(f"{MAX_WAITING} readers wait for the network already")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A block that could not be had: what for, since when, who was asked, and what came of it."""

    origin: Origin | None
    since: float
    asked: list[str]
    error: str


class Failures:
    """Blocks that could not be had lately, for people to see: nothing is decided by them.

    State: _failures, at most _MAX_FAILURES, the one that failed longest ago first.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[StoredId, Failure] = OrderedDict()

    def note(
        self, block_id: StoredId, origin: Origin | None, asked: list[str], error: LibernetError
    ) -> None:
        """Note that a block could not be had, once more."""
        before = self._failures.pop(block_id, None)
        since = before.since if before else trio.current_time()
        self._failures[block_id] = Failure(origin, since, asked, str(error))
        if len(self._failures) > _MAX_FAILURES:
            self._failures.popitem(last=False)

    def forget(self, block_id: StoredId) -> None:
        """Forget what is said of a block, as it came."""
        self._failures.pop(block_id, None)

    def status(self, is_here: Callable[[StoredId], bool]) -> list[dict[str, object]]:
        """Return those that are still not here, as plain values for JSON."""
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
            if not is_here(block_id)
        ]
