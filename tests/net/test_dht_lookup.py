"""Look-ups against scripted nodes, on a clock that jumps."""

import asyncio
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, Contact
from libernet.net.dht.lookup import ALPHA, LOOKUP_SECONDS, MAX_REQUESTS, Answer, Lookup
from libernet.net.discovery import Provider
from tests.support.dht import run_jumping

KEY = bytes(20)
ROUND_TRIP = 0.05
PATIENCE = 0.2
TIMEOUT = 1.0


def provider(number: int) -> Provider:
    return Provider(PeerAddress("8.8.8.8", number))


@dataclass
class Nodes:
    """A thousand nodes of which each knows some; *dead* ones stay silent for TIMEOUT."""

    count: int = 1000
    dead_share: float = 0.0
    holders: dict[int, list[Provider]] = field(default_factory=dict)
    asked: list[Contact] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        source = random.Random(7)
        self.contacts = sorted(
            (
                Contact(source.randbytes(20), Address("10.0.0.1", number + 1))
                for number in range(self.count)
            ),
            key=lambda each: each.long_id,
        )
        self.dead = set(source.sample(range(self.count), int(self.count * self.dead_share)))
        self._rank = {each.id: rank for rank, each in enumerate(self.contacts)}
        # Each knows those at distances of powers of two in rank, as tables do about.
        self._known = {
            rank: [
                self.contacts[rank // 2**step + spread] for step in range(10) for spread in (0, 1)
            ]
            for rank in range(self.count - 1)
        }
        self._known[self.count - 1] = self.contacts[:20]

    async def ask(self, contact: Contact) -> Answer | None:
        self.asked.append(contact)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            rank = self._rank[contact.id]
            if rank in self.dead:
                await asyncio.sleep(TIMEOUT)
                return None
            await asyncio.sleep(ROUND_TRIP)
            near = self.contacts[:20] if rank < 40 else self._known[rank]
            return Answer(near, self.holders.get(rank, []), b"token")
        finally:
            self.under_way -= 1

    def far(self) -> list[Contact]:
        return self.contacts[-20:]


def run(ask: object, seeds: Iterable[Contact], *, want: int = 0) -> tuple[Lookup, float]:
    """Return the look-up when it is over, and how long it took."""

    async def timed() -> tuple[Lookup, float]:
        lookup = Lookup(KEY, ask, lambda: PATIENCE, want)
        await lookup.run(seeds)
        return lookup, asyncio.get_running_loop().time()

    return run_jumping(timed())


def test_the_nearest_nodes_of_all_answer_in_the_end() -> None:
    nodes = Nodes()
    lookup, seconds = run(nodes.ask, nodes.far())
    nearest = [contact.id for contact, _ in lookup.answered()[:20]]
    assert nearest == [each.id for each in nodes.contacts[:20]]
    assert len(nodes.asked) <= 60
    assert seconds < 12 * ROUND_TRIP


def test_so_many_nodes_are_asked_at_a_time_and_each_once() -> None:
    nodes = Nodes()
    run(nodes.ask, nodes.far())
    assert nodes.most_under_way == ALPHA
    assert len({each.id for each in nodes.asked}) == len(nodes.asked)


def test_enough_providers_end_the_lookup_at_once() -> None:
    nodes = Nodes(holders={rank: [provider(1), provider(2)] for rank in range(1000)})
    lookup, seconds = run(nodes.ask, nodes.far(), want=2)
    assert set(lookup.providers()) == {provider(1), provider(2)}
    assert seconds == ROUND_TRIP


def test_the_providers_that_different_nodes_name_are_put_together() -> None:
    nodes = Nodes(holders={rank: [provider(rank + 1)] for rank in range(20)})
    lookup, _ = run(nodes.ask, nodes.far(), want=20)
    assert len(lookup.providers()) == 20


def test_nodes_that_only_repeat_each_other_end_the_lookup() -> None:
    nodes = Nodes(holders={rank: [provider(1)] for rank in range(20)})
    lookup, seconds = run(nodes.ask, nodes.far(), want=8)
    assert lookup.providers() == [provider(1)]
    _, seconds_to_the_end = run(nodes.ask, nodes.far())
    assert seconds < seconds_to_the_end


@pytest.mark.parametrize("dead_share", [0.25, 0.5])
def test_dead_nodes_cost_their_time_together_and_not_one_after_the_other(
    dead_share: float,
) -> None:
    nodes = Nodes(dead_share=dead_share)
    lookup, seconds = run(nodes.ask, nodes.far(), want=8)
    assert lookup.providers() == []
    assert seconds < 3.5 * TIMEOUT
    answered = {contact.id for contact, _ in lookup.answered()}
    living = [each for rank, each in enumerate(nodes.contacts[:20]) if rank not in nodes.dead]
    assert {each.id for each in living} <= answered


def test_with_a_provider_in_hand_nobody_waits_for_the_silent() -> None:
    nodes = Nodes(dead_share=0.5, holders={rank: [provider(1)] for rank in range(20)})
    lookup, seconds = run(nodes.ask, nodes.far(), want=8)
    assert lookup.providers() == [provider(1)]
    assert seconds < 1.5


def test_a_late_answer_that_names_nearer_nodes_is_followed() -> None:
    """Those it names wait for a turn while farther ones are asked beside those that are late."""
    nodes = Nodes(count=200, holders={rank: [provider(1)] for rank in range(20)})

    async def ask(contact: Contact) -> Answer | None:
        await asyncio.sleep(1.5 * PATIENCE)
        answer = await nodes.ask(contact)
        return answer and Answer(nodes.contacts[:20], answer.providers, answer.token)

    lookup, _ = run(ask, nodes.far(), want=8)
    assert lookup.providers() == [provider(1)]
    to_the_end, _ = run(ask, nodes.far())
    assert [contact for contact, _ in to_the_end.answered()] == nodes.contacts[:20]


def test_nobody_to_ask_is_the_end() -> None:
    lookup, seconds = run(Nodes().ask, [])
    assert (lookup.answered(), seconds) == ([], 0.0)


def test_somebody_who_names_ever_nearer_nodes_is_followed_only_so_far() -> None:
    numbers = itertools.count(2**159, -(2**140))

    async def ask(contact: Contact) -> Answer | None:
        calls.append(contact)
        await asyncio.sleep(ROUND_TRIP)
        return Answer([fake(next(numbers)) for _ in range(40)], [], b"")

    def fake(number: int) -> Contact:
        return Contact(number.to_bytes(20), Address("8.8.8.8", 1))

    calls: list[Contact] = []
    _, seconds = run(ask, [fake(2**159)], want=8)
    assert len(calls) <= MAX_REQUESTS
    assert seconds <= LOOKUP_SECONDS


def test_five_hundred_nodes_that_do_not_exist_cost_limited_time() -> None:
    nodes = Nodes()
    fakes = [Contact(number.to_bytes(20), Address("8.8.4.4", 1)) for number in range(1, 500)]

    async def ask(contact: Contact) -> Answer | None:
        if contact.ip == "8.8.4.4":
            await asyncio.sleep(TIMEOUT)
            return None
        answer = await nodes.ask(contact)
        return answer and Answer(answer.contacts + fakes, answer.providers, answer.token)

    _, seconds = run(ask, nodes.far(), want=8)
    assert seconds <= LOOKUP_SECONDS


def test_a_wrong_address_for_a_node_does_not_keep_its_right_one_out() -> None:
    real = Contact(b"\x01" * 20, Address("8.8.8.8", 1))
    bogus = Contact(real.id, Address("8.8.4.4", 1))
    honest = Contact(b"\x02" * 20, Address("8.8.8.8", 2))

    async def ask(contact: Contact) -> Answer | None:
        if contact is bogus:
            await asyncio.sleep(TIMEOUT)
            return None
        await asyncio.sleep(2 * TIMEOUT)
        return Answer([real], [], b"")

    lookup, _ = run(ask, [bogus, honest])
    assert real in [contact for contact, _ in lookup.answered()]


def test_a_cancelled_lookup_leaves_no_request_behind() -> None:
    nodes = Nodes()

    async def cancelled() -> None:
        task = asyncio.create_task(Lookup(KEY, nodes.ask, lambda: PATIENCE).run(nodes.far()))
        await asyncio.sleep(1.5 * ROUND_TRIP)
        assert nodes.under_way == ALPHA
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_jumping(cancelled())
    assert nodes.under_way == 0


def test_two_nodes_of_an_address_block_are_relied_on_and_no_more() -> None:
    """Who has a whole block of addresses cannot be all that is nearest to a key."""
    nodes = Nodes(count=60)
    fakes = [Contact(number.to_bytes(20), Address("8.8.4.4", 1)) for number in range(1, 100)]

    async def ask(contact: Contact) -> Answer | None:
        await asyncio.sleep(ROUND_TRIP)
        return Answer(nodes.contacts[:20] + fakes, [], b"")

    def crowd(ip: str) -> bytes | None:
        return b"one block" if ip == "8.8.4.4" else None

    async def relied_on() -> list[str]:
        lookup = Lookup(KEY, ask, lambda: PATIENCE, crowd=crowd)
        await lookup.run(nodes.far())
        return [contact.ip for contact, _ in lookup.answered()]

    ips = run_jumping(relied_on())
    assert (ips.count("8.8.4.4"), len(ips)) == (2, 20)


def test_who_names_many_providers_neither_ends_a_lookup_nor_is_preferred() -> None:
    honest = {rank: [provider(1), provider(2)] for rank in range(5, 20)}
    invented = {0: [provider(number) for number in range(100, 108)]}
    nodes = Nodes(holders=honest | invented)
    lookup, _ = run(nodes.ask, nodes.contacts[:1], want=8)
    assert {provider(1), provider(2)} < set(lookup.providers())
    assert lookup.providers().index(provider(1)) <= 1
    assert len(nodes.asked) < 30
