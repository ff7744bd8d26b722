"""Telling others of every block that is here, neighbourhood after neighbourhood of the DHT.

Roots and shares are announced one by one and at once (`announcer.py`). All blocks, which can be a
million, are announced in the order of their keys, so that one look-up serves for many: a round
takes as long as the bytes that may be sent for it, and the next one begins 22 hours after. What
comes and goes meanwhile is told, or taken back, every few minutes in the same way.
"""

import bisect
import logging
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import trio

from libernet.blocks.errors import FormatError, NetworkError
from libernet.blocks.holdings import Holdings
from libernet.blocks.ids import BlockId
from libernet.net.dht.keys import SHA256_NAMESPACE, routing_key
from libernet.net.dht.neighbourhood import MAX_SWEPT_KEYS, Swept
from libernet.net.discovery import ANNOUNCE_AGAIN_SECONDS
from libernet.net.sweep_state import SweepRound, load_round, save_round

SWEEP_BYTES_PER_SECOND = 16 * 1024
"""A million blocks among a thousand nodes take 300 MB: a round of five hours."""

CHANGES_SECONDS = 300.0
"""How long changes are collected: the more there are, the more of them one look-up serves."""

_KEYS_AHEAD = 8192
"""Keys listed with one walk through all ids (3 s of a core for a million, so 6 minutes in 22 hours,
and 2.5 MB). Twice as many are sorted at one time, which holds the interpreter for 6 ms."""

_IDS_AT_ONCE = 1000
_SWEEP_SECONDS = 120.0
_SAVE_SECONDS = 60.0
_LAST_SAVE_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 10.0
_MAX_RETRY_SECONDS = 3600.0

_log = logging.getLogger(__name__)

_Send = Callable[[Sequence[bytes]], Awaitable[Swept]]


class Neighbourhoods(Protocol):
    """Who can be told of many keys, in order, as `DhtDiscovery` says."""

    async def sweep(self, keys: Sequence[bytes]) -> Swept:
        """Announce the first of *keys* and as many of its neighbours as come with it."""
        ...

    async def sweep_away(self, keys: Sequence[bytes]) -> Swept:
        """Take back what sweep() announced, in the same way."""
        ...


class Sweeper:
    """Keep all blocks announced that *holdings* has, with *bytes_per_second* at most.

    State
      _round      how far the present round has come; _saved, what the file has of it, and when
      _keys       the next keys of the round, in order
      _new, _gone keys of blocks that came and went since, to be told of, in order
      _withdrawn  the keys of all that went since _keys were listed: they must not be announced;
                  none while there is no list
      _is_anew    whether the next round shall begin now
      _failure    why nothing can be told now
    Tasks: run().
    """

    def __init__(
        self,
        holdings: Holdings,
        is_here: Callable[[BlockId], bool],
        folder: Path,
        *,
        bytes_per_second: int = SWEEP_BYTES_PER_SECOND,
        clock: Callable[[], float] = time.time,
        in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        """Remember in *folder* how far it came; *clock* answers in seconds since 1970.

        *in_thread* runs what may wait for the disk.
        """
        self._holdings = holdings
        self._is_here = is_here
        self._folder = folder
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._in_thread = in_thread
        self._round = SweepRound(0.0, 0)
        self._saved: SweepRound | None = None
        self._saved_at = 0.0
        self._keys: list[bytes] = []
        self._new: list[bytes] = []
        self._gone: list[bytes] = []
        self._withdrawn: set[bytes] = set()
        self._changes_due = 0.0
        self._is_anew = False
        self._failure: str | None = None

    async def run(self, network: Neighbourhoods, port: int) -> None:
        """Tell *network* that the blocks are to be had at *port*, until cancelled."""
        self._holdings.follow()
        self._begin(port)
        self._changes_due = trio.current_time() + CHANGES_SECONDS
        delay = _FIRST_RETRY_SECONDS
        try:
            while True:
                if await self._tells(network):
                    delay = _FIRST_RETRY_SECONDS
                elif self._failure is None:
                    await trio.sleep(self._seconds_of_rest())
                else:
                    await trio.sleep(delay)
                    delay = min(2 * delay, _MAX_RETRY_SECONDS)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_SAVE_SECONDS):
                await self._save()

    def start_over(self) -> None:
        """Begin another round soon: what others know does not hold any more."""
        self._is_anew = True

    def status(self) -> dict[str, Any]:
        """Return how far the present round has come, as plain values for JSON."""
        share = int.from_bytes(self._round.position) / 2**160
        return {
            "blocks": self._round.blocks,
            "share": 1.0 if self._round.is_over else share,
            "started": self._round.started,
            "changes": len(self._new) + len(self._gone),
            "bytes_per_second": self._bytes_per_second,
            "failure": self._failure,
        }

    async def _tells(self, network: Neighbourhoods) -> bool:
        """Tell of a few keys of each kind; False when there was nothing to do, or it failed."""
        try:
            await self._take_changes()
            self._gone, gone = await self._tell(self._gone, network.sweep_away)
            self._new, new = await self._tell(self._new, network.sweep)
            self._count(len(new) - len(gone))
            going_on = await self._go_on(network)
            self._failure = None
        except (NetworkError, trio.TooSlowError) as exc:
            if self._failure is None:
                _log.info("No blocks can be announced now, it will be tried again: %s", exc)
            self._failure = str(exc) or "nobody answers in time"
            return False
        except Exception as exc:  # noqa: BLE001 - the top of a task: the network shall go on
            _log.exception("Announcing blocks failed for an unforeseen reason")
            self._failure = repr(exc)
            return False
        if trio.current_time() >= self._saved_at + _SAVE_SECONDS:
            await self._save()
        return bool(gone or new or going_on)

    async def _go_on(self, network: Neighbourhoods) -> bool:
        """Tell of the next blocks of the round, or begin the next; False when there are none."""
        if self._is_anew or (self._round.is_over and self._is_due()):
            self._is_anew = False
            self._begin_round(self._round.port)
        if self._round.is_over:
            return False
        if not self._keys:
            self._withdrawn = set(self._gone)
            self._keys = await self._keys_behind(self._round.position)
            if not self._keys:
                self._round = replace(self._round, is_over=True)
                await self._save()
                return False
        self._keys, told = await self._tell(self._keys, network.sweep, but=self._withdrawn)
        if told:
            self._count(len(told))
            self._round = replace(self._round, position=told[-1])
        return True

    def _is_due(self) -> bool:
        """Say whether the round began long ago, or in the future: then the clock was wrong."""
        return not 0 <= self._clock() - self._round.started < ANNOUNCE_AGAIN_SECONDS

    def _count(self, blocks: int) -> None:
        self._round = replace(self._round, blocks=max(self._round.blocks + blocks, 0))

    async def _tell(
        self, keys: list[bytes], send: _Send, *, but: Container[bytes] = ()
    ) -> tuple[list[bytes], list[bytes]]:
        """Tell of the first of *keys*, without those in *but*; return the rest, and the told ones.

        Takes the time that what was sent takes at the rate that is allowed.
        """
        wanted = [key for key in keys[:MAX_SWEPT_KEYS] if key not in but]
        if not wanted:
            return keys[MAX_SWEPT_KEYS:], []
        with trio.fail_after(_SWEEP_SECONDS):
            swept = await send(wanted)
        told = wanted[: swept.keys]
        await trio.sleep(swept.sent_bytes / self._bytes_per_second)
        return keys[bisect.bisect_right(keys, told[-1]) :], told

    async def _take_changes(self) -> None:
        """Take the next ones, if it is time, when all of the last ones were told."""
        if self._new or self._gone or trio.current_time() < self._changes_due:
            return
        self._changes_due = trio.current_time() + CHANGES_SECONDS
        changed = self._holdings.take_changes()
        self._new, self._gone = await self._in_thread(self._sorted_out, changed)
        if self._keys:
            self._withdrawn = self._withdrawn.union(self._gone).difference(self._new)
        else:
            self._withdrawn = set()  # the next list is made without what went

    def _sorted_out(self, changed: list[BlockId]) -> tuple[list[bytes], list[bytes]]:
        """Return the keys of those that are here, and of those that are not, in order."""
        here: list[bytes] = []
        gone: list[bytes] = []
        for block_id in changed:
            (here if self._is_here(block_id) else gone).append(_key(block_id))
        return sorted(here), sorted(gone)

    async def _keys_behind(self, position: bytes) -> list[bytes]:
        """Return up to _KEYS_AHEAD keys behind *position*, in order.

        Ids are in another order than their keys, so all are looked at, and few of them kept.
        """
        least: list[bytes] = []
        last_id, bound = b"", b"\xff" * 21
        while ids := await self._in_thread(self._holdings.behind, last_id, _IDS_AT_ONCE):
            last_id = ids[-1]
            least += [key for key in map(_key, ids) if position < key < bound]
            if len(least) > 2 * _KEYS_AHEAD:
                least = sorted(least)[:_KEYS_AHEAD]
                bound = least[-1]
        return sorted(least)[:_KEYS_AHEAD]

    def _seconds_of_rest(self) -> float:
        """Return how long there is surely nothing to do."""
        next_round = self._round.started + ANNOUNCE_AGAIN_SECONDS - self._clock()
        to_changes = self._changes_due - trio.current_time()
        return max(min(next_round, to_changes), 1.0)

    def _begin(self, port: int) -> None:
        """Go on with the round that the file has, or begin one."""
        try:
            self._saved = load_round(self._folder)
        except (FormatError, OSError) as exc:
            _log.warning("All blocks are announced from the first on: %s", exc)
        if self._saved is not None and self._saved.port == port:
            self._round = self._saved
        else:
            self._begin_round(port)
        self._keys = []

    def _begin_round(self, port: int) -> None:
        self._round = SweepRound(self._clock(), port)
        self._keys = []

    async def _save(self) -> None:
        self._saved_at = trio.current_time()
        if self._saved == self._round:
            return
        now = self._round
        try:
            await self._in_thread(save_round, self._folder, now, abandon_on_cancel=True)
        except OSError as exc:
            _log.warning("How far blocks are announced cannot be kept: %s", exc)
        else:
            self._saved = now


def _key(block_id: bytes) -> bytes:
    return routing_key(SHA256_NAMESPACE, block_id)
