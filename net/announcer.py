"""Telling others what this node has: roots of snapshots, shares and opened bundles.

Announced at once, again before the record ends, withdrawn when it is gone. What cannot be announced
now (no network yet) is tried again.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.net.discovery import ANNOUNCE_AGAIN_SECONDS, RECORD_SECONDS, Discovery

_log = logging.getLogger(__name__)

_ANNOUNCE_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 2.0
_MAX_RETRY_SECONDS = 60.0
_LOOK_SECONDS = 300.0  # whether the machine slept
_TASKS = 4  # look-ups at one time: more would lose datagrams in the socket's buffer


def slept_seconds() -> int:
    """Return how many whole seconds this machine has slept: records of others end meanwhile."""
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - awake)


@dataclass(slots=True)
class _Announcement:
    """One root: when it is due, until when others know of it, both on trio's clock plus the time
    that the machine slept, and how long to wait after the next failure."""

    due: float
    known_until: float = -math.inf
    retry_seconds: float = _FIRST_RETRY_SECONDS


class Announcer:
    """Keep roots announced that *is_here* finds in the store.

    State
      _roots   what others are to know of, by id
      _gone    what was announced and is to be withdrawn
      _busy    ids about which discovery is just being told: one thing at a time of each
      _trouble why an announcement failed last, empty since one did not
      _wake    woken when there may be something to do, then replaced
    Tasks
      run(), and up to _TASKS announcements at one time below it. What became due last goes first:
      a new share does not wait for the old roots of a node that has just started.
    """

    def __init__(
        self,
        discovery: Discovery,
        *,
        is_here: Callable[[BlockId], bool] = lambda block_id: True,
        slept: Callable[[], float] = slept_seconds,
    ) -> None:
        self._discovery = discovery
        self._slept = slept
        self._is_here = is_here
        self._roots: dict[BlockId, _Announcement] = {}
        self._gone: set[BlockId] = set()
        self._busy: set[BlockId] = set()
        self._trouble = ""
        self._wake = trio.Event()

    def add(self, block_id: BlockId) -> None:
        """Announce a root from now on."""
        self._gone.discard(block_id)
        if block_id not in self._roots:
            self._roots[block_id] = _Announcement(due=self._now())
            self._wake.set()

    def remove(self, block_id: BlockId) -> None:
        """Announce a root no longer."""
        if self._roots.pop(block_id, None) is not None:
            self._gone.add(block_id)
            self._wake.set()

    def start_over(self) -> None:
        """Announce all roots again: what others know of them leads nowhere any more."""
        now = self._now()
        # Anew, not changed: an announcement under way may still tell of where this node was.
        self._roots = {block_id: _Announcement(due=now) for block_id in self._roots}
        self._wake.set()

    def pending(self) -> list[BlockId]:
        """Return the roots that others cannot know of yet, or any more."""
        now = self._now()
        return [block_id for block_id, root in self._roots.items() if root.known_until <= now]

    async def run(self) -> None:
        """Announce until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while len(self._busy) < _TASKS and (block_id := self._next()) is not None:
                    self._busy.add(block_id)
                    nursery.start_soon(self._tell, block_id)
                await self._sleep()

    def _now(self) -> float:
        return trio.current_time() + self._slept()

    def _next(self) -> BlockId | None:
        """Return an id about which something is to be told now."""
        for block_id in self._gone - self._busy:
            return block_id
        now = self._now()
        due = {
            block_id: root.due
            for block_id, root in self._roots.items()
            if root.due <= now and block_id not in self._busy
        }
        return max(due, key=due.__getitem__, default=None)

    async def _sleep(self) -> None:
        """Return when something is due, was added, or is done."""
        waiting = (root.due for id, root in self._roots.items() if id not in self._busy)
        next_due = math.inf if len(self._busy) >= _TASKS else min(waiting, default=math.inf)
        with trio.move_on_after(min(max(next_due - self._now(), 0.0), _LOOK_SECONDS)):
            await self._wake.wait()
        self._wake = trio.Event()

    async def _tell(self, block_id: BlockId) -> None:
        root = self._roots.get(block_id)
        try:
            if root is None:
                await self._withdraw(block_id)
            else:
                await self._announce(block_id, root)
        finally:
            self._busy.discard(block_id)
            self._wake.set()

    async def _announce(self, block_id: BlockId, root: _Announcement) -> None:
        try:
            if not self._is_here(block_id):
                _log.info("%s is not here any more, it is not announced again", block_id)
                self.remove(block_id)
                return
            with trio.fail_after(_ANNOUNCE_SECONDS):
                await self._discovery.announce(block_id)
        except (LibernetError, trio.TooSlowError) as exc:
            # A node that nobody can reach says so once, not for each root and each minute.
            level = logging.DEBUG if str(exc) == self._trouble else logging.INFO
            _log.log(level, "announcing %s failed, it will be tried again: %s", block_id, exc)
            self._trouble = str(exc)
            self._put_off(root)
        except Exception:  # noqa: BLE001 - the top of a task: the network shall go on
            _log.exception("announcing %s failed for an unforeseen reason", block_id)
            self._put_off(root)
        else:
            now = self._now()
            root.known_until = now + RECORD_SECONDS
            root.due = now + ANNOUNCE_AGAIN_SECONDS
            root.retry_seconds = _FIRST_RETRY_SECONDS
            self._trouble = ""

    def _put_off(self, root: _Announcement) -> None:
        root.due = self._now() + root.retry_seconds
        root.retry_seconds = min(2 * root.retry_seconds, _MAX_RETRY_SECONDS)

    async def _withdraw(self, block_id: BlockId) -> None:
        self._gone.discard(block_id)
        try:
            with trio.fail_after(_ANNOUNCE_SECONDS):
                await self._discovery.withdraw(block_id)
        except (LibernetError, trio.TooSlowError) as exc:
            _log.info("withdrawing %s failed, its record will end by itself: %s", block_id, exc)
        except Exception:  # noqa: BLE001 - the top of a task: the network shall go on
            _log.exception("withdrawing %s failed for an unforeseen reason", block_id)
