"""Telling others what this node has: roots of snapshots, shares and opened bundles.

Announced at once, again before the record ends, withdrawn when it is gone. What cannot be announced
now (no network yet) is tried again.
"""

import logging
from dataclasses import dataclass

import trio

from libernet.blocks.errors import NetworkError
from libernet.blocks.ids import BlockId
from libernet.net.discovery import ANNOUNCE_AGAIN_SECONDS, Discovery

_log = logging.getLogger(__name__)

_ANNOUNCE_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 5.0
_MAX_RETRY_SECONDS = 600.0
_TASKS = 4  # look-ups at one time: more would lose datagrams in the socket's buffer


@dataclass(slots=True)
class _Announcement:
    """One root: when it is due on trio's clock, and how long to wait after the next failure."""

    due: float
    retry_seconds: float = _FIRST_RETRY_SECONDS
    is_announced: bool = False


class Announcer:
    """Keep roots announced.

    State
      _roots   what others are to know of, by id
      _gone    what was announced and is to be withdrawn
      _wake    woken when there is something to do now, then replaced
    Tasks
      run(), and up to _TASKS announcements at one time below it.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._roots: dict[BlockId, _Announcement] = {}
        self._gone: set[BlockId] = set()
        self._wake = trio.Event()
        self._limit = trio.CapacityLimiter(_TASKS)

    def add(self, block_id: BlockId) -> None:
        """Announce a root from now on."""
        self._gone.discard(block_id)
        if block_id not in self._roots:
            self._roots[block_id] = _Announcement(due=trio.current_time())
            self._wake.set()

    def remove(self, block_id: BlockId) -> None:
        """Announce a root no longer."""
        if self._roots.pop(block_id, None) is not None:
            self._gone.add(block_id)
            self._wake.set()

    def pending(self) -> list[BlockId]:
        """Return the roots that others cannot know of yet."""
        return [block_id for block_id, root in self._roots.items() if not root.is_announced]

    async def run(self) -> None:
        """Announce until cancelled."""
        while True:
            async with trio.open_nursery() as nursery:
                for block_id in list(self._gone):
                    nursery.start_soon(self._withdraw, block_id)
                now = trio.current_time()
                for block_id, root in list(self._roots.items()):
                    if root.due <= now:
                        nursery.start_soon(self._announce, block_id, root)
            await self._sleep()

    async def _sleep(self) -> None:
        """Return when something is due or was added."""
        next_due = min((root.due for root in self._roots.values()), default=float("inf"))
        with trio.move_on_at(next_due):
            await self._wake.wait()
        self._wake = trio.Event()

    async def _announce(self, block_id: BlockId, root: _Announcement) -> None:
        try:
            async with self._limit:
                with trio.fail_after(_ANNOUNCE_SECONDS):
                    await self._discovery.announce(block_id)
        except (NetworkError, trio.TooSlowError) as exc:
            _log.info("announcing %s failed, it will be tried again: %s", block_id, exc)
            root.due = trio.current_time() + root.retry_seconds
            root.retry_seconds = min(2 * root.retry_seconds, _MAX_RETRY_SECONDS)
        else:
            root.is_announced = True
            root.due = trio.current_time() + ANNOUNCE_AGAIN_SECONDS
            root.retry_seconds = _FIRST_RETRY_SECONDS

    async def _withdraw(self, block_id: BlockId) -> None:
        self._gone.discard(block_id)
        try:
            async with self._limit:
                with trio.fail_after(_ANNOUNCE_SECONDS):
                    await self._discovery.withdraw(block_id)
        except (NetworkError, trio.TooSlowError) as exc:
            _log.info("withdrawing %s failed, its record will end by itself: %s", block_id, exc)
