"""A node that is to be found elsewhere notices it."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from libernet.net import whereabouts as module
from libernet.net.address import PeerAddress
from libernet.net.whereabouts import Whereabouts, sources_towards

HOME, OFFICE = "192.168.1.5", "10.1.1.5"


class Machine:
    """Where a machine is, and how often it was said to have moved."""

    def __init__(self) -> None:
        self.sources: frozenset[str] = frozenset()
        self.seen: list[str] = []
        self.moves = 0

    def move(self) -> None:
        self.moves += 1

    async def settle(self) -> None:
        await trio.sleep(60)


@pytest.fixture
async def machine(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    towards: Callable[..., frozenset[str]] = lambda others: made.sources  # noqa: E731
    monkeypatch.setattr(module, "sources_towards", towards)
    nursery.start_soon(Whereabouts(list, lambda: made.seen, made.move).run)
    return made


async def test_the_first_address_is_no_move(machine: Machine, autojump_clock: MockClock) -> None:
    await machine.settle()
    machine.sources, machine.seen = frozenset({HOME}), ["8.8.4.4"]
    await machine.settle()
    assert machine.moves == 0


async def test_a_new_address_is_a_move_and_so_is_the_way_back(
    machine: Machine, autojump_clock: MockClock
) -> None:
    for number, place in enumerate((HOME, OFFICE, HOME)):
        machine.sources = frozenset({place})
        await machine.settle()
        assert machine.moves == number


async def test_an_hour_off_the_network_is_no_move(
    machine: Machine, autojump_clock: MockClock
) -> None:
    machine.sources, machine.seen = frozenset({HOME}), ["8.8.4.4"]
    await machine.settle()
    machine.sources, machine.seen = frozenset(), []
    await trio.sleep(3600)
    machine.sources, machine.seen = frozenset({HOME}), ["8.8.4.4"]
    await machine.settle()
    assert machine.moves == 0


async def test_to_be_seen_elsewhere_is_a_move(machine: Machine, autojump_clock: MockClock) -> None:
    steps = [["8.8.4.4"], ["8.8.4.4", "2001:4860::1"], [], ["9.9.9.9"], ["9.9.9.9"]]
    for machine.seen in steps:
        await machine.settle()
    assert machine.moves == 1


def test_a_source_is_that_of_the_way_to_others() -> None:
    named = [PeerAddress("127.0.0.1", 4848), PeerAddress("no.address.example", 1)]
    assert sources_towards(named) == {"127.0.0.1"}
    assert sources_towards([]) == frozenset()
