"""What keeps a node of the DHT in touch with the others."""

import logging
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import DhtError
from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address
from libernet.net.dht.node import DhtNode
from libernet.net.dht.portal import Portal
from libernet.net.dht.remembered import Remembered

RESOLVE_SECONDS = 10.0
SAVE_SECONDS = 5.0
SETTLE_SECONDS = 10.0

MAX_GREETINGS = 64
"""Nodes that are greeted at one time because somebody named them: neighbours cost nothing to make
up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done; all in seconds.

    While a bootstrap node does not answer, or nobody is known, all are greeted again after
    *first_retry*, then after twice as long each time up to *last_retry*; else after *greeting*,
    which joins two networks that lost each other. *testing* is how often is found out whether
    others reach this node.
    """

    first_retry: float = 1.0
    last_retry: float = 60.0
    greeting: float = 300.0
    tidying: float = 60.0
    testing: float = 900.0


@dataclass(eq=False)
class _Round:
    """One time that everybody is greeted; *met* once the first has answered or all is *over*."""

    met: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    was_enough: bool = False


class Upkeep:
    """The work beside one run of a node: greeting, filling its table, saving.

    State: _silent, the bootstrap nodes that did not answer last; _round, the greetings under way;
    _named, who is greeted because somebody named it; _met, set once somebody answered a greeting,
    and _tested, once it was tried whether others reach this node.
    Tasks, all in the nursery of run(): one that greets now and then, one that tidies, one that
    tests, and those of a round of greetings.
    """

    def __init__(
        self,
        portal: Portal,
        node: DhtNode,
        *,
        bootstrap: Sequence[PeerAddress],
        remembered: Remembered,
        pace: Pace,
    ) -> None:
        self._remembered = remembered
        self._portal = portal
        self._node = node
        self._bootstrap = tuple(dict.fromkeys(bootstrap))
        self._pace = pace
        self._silent: set[PeerAddress] = set()
        self._round: _Round | None = None
        self._named: set[PeerAddress] = set()
        self._met = trio.Event()
        self._tested = trio.Event()
        self._greeted_at = float("-inf")
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do it all until cancelled, and save once more then."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                nursery.start_soon(self._keep_in_touch, nursery)
                nursery.start_soon(self._keep_tidy)
                nursery.start_soon(self._keep_testing)
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_SECONDS):
                await self._save()

    async def reach(self) -> None:
        """Greet whoever is known by address when no contact is left, unless just tried."""
        if self._node.contacts or self._nursery is None:
            return
        if self._round or trio.current_time() >= self._greeted_at + self._pace.first_retry:
            await self._greet_all(self._nursery).met.wait()

    async def settle(self) -> None:
        """Return when it is known whether others reach this node, or cannot be told soon."""
        if self._met.is_set():
            with trio.move_on_after(SETTLE_SECONDS):
                await self._tested.wait()

    def greet(self, name: PeerAddress) -> None:
        """Greet a node that somebody named, once; not while so many others are greeted."""
        if self._nursery is None or name in self._named or len(self._named) >= MAX_GREETINGS:
            return
        self._named.add(name)
        self._nursery.start_soon(self._greet_named, name)

    async def _greet_named(self, name: PeerAddress) -> None:
        try:
            await self._greet_by_name(name, _Round(), set())
        finally:
            self._named.discard(name)

    async def _keep_in_touch(self, nursery: trio.Nursery) -> None:
        delay = self._pace.first_retry
        while True:
            greetings = self._greet_all(nursery)
            await greetings.over.wait()
            if greetings.was_enough:
                delay = self._pace.first_retry
                await trio.sleep(self._pace.greeting)
            else:
                # Nodes that lost the same bootstrap node shall not come back in one instant.
                await trio.sleep(delay * random.uniform(0.75, 1.25))
                delay = min(2 * delay, self._pace.last_retry)

    def _greet_all(self, nursery: trio.Nursery) -> _Round:
        """Return the round of greetings that is under way, a new one if there is none."""
        if self._round is None:
            self._round = _Round()
            nursery.start_soon(self._run_round, self._round)
        return self._round

    async def _run_round(self, greetings: _Round) -> None:
        """Greet bootstrap nodes and, when no contact is left, old ones.

        Enough is an answer of each bootstrap node, and of anybody where there is somebody to ask.
        """
        silent: set[PeerAddress] = set()
        try:
            async with trio.open_nursery() as nursery:
                for name in self._bootstrap:
                    nursery.start_soon(self._greet_by_name, name, greetings, silent)
                if not self._node.contacts:
                    nursery.start_soon(self._greet, self._old(), greetings)
            self._note_silent(silent)
            is_lonely = not self._node.contacts and bool(self._bootstrap or self._old())
            greetings.was_enough = not silent and not is_lonely
        finally:
            self._greeted_at = trio.current_time()
            self._round = None
            greetings.met.set()
            greetings.over.set()

    async def _greet_by_name(
        self, name: PeerAddress, greetings: _Round, silent: set[PeerAddress]
    ) -> None:
        addresses = await self._resolve(name)
        if addresses is not None and not await self._greet(addresses, greetings):
            silent.add(name)

    async def _greet(self, addresses: Sequence[Address], greetings: _Round) -> bool:
        """Tell whether anybody answers at *addresses*; with new contacts the table is filled."""
        try:
            there, new = await self._portal.call(self._node.greet, addresses)
        except DhtError as exc:
            _log.debug("Nobody was greeted: %s", exc)
            return False
        if new and self._nursery is not None:
            self._nursery.start_soon(self._fill)
        if there:
            greetings.met.set()
            self._met.set()
        return bool(there)

    async def _resolve(self, name: PeerAddress) -> list[Address] | None:
        """Return the addresses of *name*, none if there are none to be had; None if all are of
        another family, whose node greets them.

        A person named it, so they are dialled wherever they lie.
        """
        policy = self._node.policy
        infos = []
        with trio.move_on_after(RESOLVE_SECONDS):
            try:
                infos = await trio.socket.getaddrinfo(name.host, name.port, type=socket.SOCK_DGRAM)
            except OSError as exc:
                _log.debug("No address for %s: %s", name, exc)
        ips = [str(info[4][0]) for info in infos if info[0] == policy.family]
        if infos and not ips:
            return None
        for ip in ips:
            policy.trust(ip)
        return [Address(ip, name.port) for ip in ips if policy.allows(ip)]

    def _note_silent(self, silent: set[PeerAddress]) -> None:
        over = self._node.policy.family_name
        for name in silent - self._silent:
            _log.info("Bootstrap node %s does not answer over %s; it is tried again", name, over)
        for name in self._silent - silent:
            _log.info("Bootstrap node %s answers again over %s", name, over)
        self._silent = silent

    async def _fill(self) -> None:
        try:
            await self._portal.call(self._node.fill)
        except DhtError as exc:
            _log.debug("The table was not filled: %s", exc)

    async def _keep_testing(self) -> None:
        await self._met.wait()
        while True:
            try:
                await self._portal.call(self._node.test_reachability)
            except DhtError as exc:
                _log.debug("Whether others reach this node was not tested: %s", exc)
            self._tested.set()
            await trio.sleep(self._pace.testing)

    async def _keep_tidy(self) -> None:
        while True:
            await trio.sleep(self._pace.tidying)
            try:
                await self._portal.call(self._node.tidy)
            except DhtError as exc:
                _log.debug("The table was not refreshed: %s", exc)
            await self._save()

    async def _save(self) -> None:
        contacts = sorted(self._node.contacts, key=lambda each: -each.seen)
        if contacts:
            addresses = tuple(each.address for each in contacts)
            await self._remembered.keep(self._node.policy.family, addresses)

    def _old(self) -> tuple[Address, ...]:
        """Return where contacts were."""
        return self._remembered.of(self._node.policy.family)
