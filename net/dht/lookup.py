"""One look-up: ever nearer nodes are asked about a key, several at a time."""

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from libernet.net.address import PeerAddress
from libernet.net.dht.contact import MAX_NEIGHBOURS, Address, Contact
from libernet.net.dht.table import BUCKET_CONTACTS
from libernet.net.discovery import Provider

ALPHA = 5
"""Requests under way that are not late yet (lbry's value; the paper's 3 is slower)."""

MAX_REQUESTS = 150
"""Settled networks of a thousand nodes need 26; somebody who names ever new nodes that do not
exist gets no further than this."""

LOOKUP_SECONDS = 10.0

ENOUGH_REPETITIONS = 2
"""So many crowds in a row that name only known providers end a look-up: the nodes nearest to a
key hold much the same records (a find took 0.3 s and 25 requests without this, 0.2 s with it)."""

_COUNTED_PROVIDERS = 2
"""How many of those that one crowd names count as found: it may have invented them all."""

_NEVER = float("inf")
_LEAST_WAIT_SECONDS = 0.001
"""Timers may fire a clock tick early; waiting for the rest of it would be a busy loop."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said about a key; *token* lets this node write there, which is seen at *seen*
    there."""

    contacts: list[Contact]
    providers: list[Provider]
    token: bytes
    seen: Address | None = None


@dataclass(slots=True, eq=False)
class _Candidate:
    contact: Contact
    distance: int
    asked_at: float = _NEVER
    failed: bool = False
    answer: Answer | None = None


@dataclass(slots=True)
class Lookup:
    """Ask from *seeds* on until the nearest BUCKET_CONTACTS that live have answered.

    With *want* providers found it ends at once; with fewer when nodes only repeat each other, and
    as soon as it would only wait for nodes that are late. A request is late after *patience*
    seconds: another is asked beside it.
    *ask* returns None for a node that does not answer. At most MAX_NEIGHBOURS of those nearest
    are of one *crowd*, where that is not None; else each is one by itself.

    State
      _candidates  all of them, by id
      _asking      the tasks that ask, which are cancelled when run() is over
      _providers   by address, each with its place in the answer that named it first among others
      _counted     how many new ones each crowd named, _COUNTED_PROVIDERS at most
      _repeating   the crowds that named none since somebody named a new one
    """

    key: bytes
    ask: Callable[[Contact], Coroutine[Any, Any, Answer | None]]
    patience: Callable[[], float]
    want: int = 0
    crowd: Callable[[str], bytes | None] = lambda ip: None
    requests: int = 0
    _candidates: dict[bytes, _Candidate] = field(default_factory=dict)
    _asking: dict[asyncio.Task[Answer | None], _Candidate] = field(default_factory=dict)
    _providers: dict[PeerAddress, tuple[int, Provider]] = field(default_factory=dict)
    _counted: Counter[bytes] = field(default_factory=Counter)
    _repeating: set[bytes] = field(default_factory=set)

    async def run(self, seeds: Iterable[Contact]) -> None:
        """Do it, for LOOKUP_SECONDS at most; what came out is in the attributes."""
        self._add(seeds)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOKUP_SECONDS):
                    await self._run()
        finally:
            for task in self._asking:
                task.cancel()

    def answered(self) -> list[tuple[Contact, Answer]]:
        """Return the nodes that answered, up to BUCKET_CONTACTS, nearest first."""
        nearest = self._nearest(each for each in self._candidates.values() if each.answer)
        return [(each.contact, each.answer) for each in nearest if each.answer]

    def note(self, crowd: bytes, providers: Iterable[Provider]) -> None:
        """Take in whom somebody of a crowd names."""
        is_any = is_new = False
        for place, provider in enumerate(providers):
            is_any = True
            first, known = self._providers.get(provider.address, (place, None))
            if known is None:
                is_new = True
                self._counted[crowd] = min(self._counted[crowd] + 1, _COUNTED_PROVIDERS)
            best = provider if known is None or provider.is_verified else known
            self._providers[provider.address] = (min(first, place), best)
        if is_new:
            self._repeating.clear()
        elif is_any:
            self._repeating.add(crowd)

    def providers(self) -> list[Provider]:
        """Return those found, first the first of each answer: who names many is not preferred."""
        found = sorted(self._providers.values(), key=lambda each: each[0])
        return [provider for _, provider in found]

    async def _run(self) -> None:
        while not self._has_enough():
            self._ask_more()
            nearest = self._nearest(self._candidates.values())
            # One that came late leaves no room to ask those it named, which wait for their turn.
            are_some_left = any(each.asked_at == _NEVER for each in nearest)
            is_turn_due = are_some_left and self.requests < MAX_REQUESTS
            awaited = [t for t, each in self._asking.items() if is_turn_due or each in nearest]
            seconds = self._seconds_to_next_late(awaited)
            if not awaited or (self.want and self._providers and seconds is None):
                return
            done, _ = await asyncio.wait(
                self._asking, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                self._take_in(self._asking.pop(task), task.result())

    def _has_enough(self) -> bool:
        is_repeated = len(self._repeating) >= ENOUGH_REPETITIONS
        return self.want > 0 and (self._counted.total() >= self.want or is_repeated)

    def _nearest(self, candidates: Iterable[_Candidate]) -> list[_Candidate]:
        living = [(each.distance, each) for each in candidates if not each.failed]
        heapq.heapify(living)
        crowds: Counter[bytes] = Counter()
        nearest: list[_Candidate] = []
        while living and len(nearest) < BUCKET_CONTACTS:
            _, candidate = heapq.heappop(living)
            crowd = self.crowd(candidate.contact.ip)
            if crowd is not None:
                crowds[crowd] += 1
            if crowd is None or crowds[crowd] <= MAX_NEIGHBOURS:
                nearest.append(candidate)
        return nearest

    def _ask_more(self) -> None:
        """Ask the nearest not asked yet, as if those that are late were dead."""
        now = asyncio.get_running_loop().time()
        late_before = now - self.patience()
        late = {each for each in self._asking.values() if each.asked_at <= late_before}
        free = ALPHA - (len(self._asking) - len(late))
        for candidate in self._nearest(set(self._candidates.values()) - late):
            if free <= 0 or self.requests >= MAX_REQUESTS:
                return
            if candidate.asked_at == _NEVER:
                candidate.asked_at = now
                self.requests += 1
                self._asking[asyncio.create_task(self.ask(candidate.contact))] = candidate
                free -= 1

    def _seconds_to_next_late(self, awaited: list[asyncio.Task[Answer | None]]) -> float | None:
        """Return when the first of *awaited* becomes late; None when all are."""
        now, patience = asyncio.get_running_loop().time(), self.patience()
        ages = [now - self._asking[task].asked_at for task in awaited]
        left = [max(patience - age, _LEAST_WAIT_SECONDS) for age in ages if age < patience]
        return min(left, default=None)

    def _take_in(self, candidate: _Candidate, answer: Answer | None) -> None:
        candidate.answer = answer
        candidate.failed = answer is None
        if answer is None:
            return
        contact = candidate.contact
        self.note(self.crowd(contact.ip) or contact.id, answer.providers)
        self._add(answer.contacts)

    def _add(self, contacts: Iterable[Contact]) -> None:
        target = int.from_bytes(self.key)
        for contact in contacts:
            known = self._candidates.get(contact.id)
            # Naming a node at a wrong address must not keep its right one out.
            if known is None or (known.failed and known.contact.address != contact.address):
                self._candidates[contact.id] = _Candidate(contact, contact.long_id ^ target)
