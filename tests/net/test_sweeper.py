"""Sweeps through all blocks, on a clock that jumps."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store
from libernet.net import sweeper as sweeper_module
from libernet.net.dht.keys import SHA256_NAMESPACE, routing_key
from libernet.net.dht.neighbourhood import Swept
from libernet.net.discovery import ANNOUNCE_AGAIN_SECONDS, RECORD_SECONDS
from libernet.net.sweep_state import SWEEP_FILE, SweepRound, load_round, save_round
from libernet.net.sweeper import CHANGES_SECONDS, Sweeper

PORT = 4848
BYTES_PER_KEY = 250
HOUR = 3600.0
EPOCH = 1_000_000.0


class TenAtATime:
    """Neighbourhoods of up to ten keys; nobody answers while *is_dead*.

    State: known, the keys that others know of, and when each was announced last.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, list[float]] = {}
        self.calls: list[float] = []
        self.is_dead = False
        self.error: Exception = DhtError("nobody answers")

    async def sweep(self, keys: Sequence[bytes]) -> Swept:
        some = await self._some(keys)
        for key in some:
            self.known.setdefault(key, []).append(trio.current_time())
        return Swept(len(some), len(some), len(some), BYTES_PER_KEY * len(some))

    async def sweep_away(self, keys: Sequence[bytes]) -> Swept:
        some = await self._some(keys)
        for key in some:
            self.known.pop(key, None)
        return Swept(len(some), len(some), len(some), BYTES_PER_KEY * len(some))

    async def _some(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        self.calls.append(trio.current_time())
        assert keys
        assert list(keys) == sorted(keys)
        if self.is_dead:
            raise self.error
        return keys[:10]


def key(number: int) -> bytes:
    return routing_key(SHA256_NAMESPACE, BlockId.of(b"%d" % number))


def keys(numbers: Iterable[int]) -> set[bytes]:
    return set(map(key, numbers))


async def at_once(function: Callable[..., Any], *arguments: Any, **options: object) -> Any:
    """Do in this thread what goes to another one: the clock would jump meanwhile."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@dataclass
class Node:
    """A store, whom it tells of its blocks, and what makes it do so."""

    store: Store
    folder: Path
    network: TenAtATime = field(default_factory=TenAtATime)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.store.put(BlockId.of(b"%d" % number), b"%d" % number)
        self.store.flush()

    def keep_only(self, *numbers: int) -> None:
        with self.store.collecting() as collection:
            collection.keep(BlockId.of(b"%d" % number) for number in numbers)
            collection.sweep()

    def sweeper(self, **options: Any) -> Sweeper:
        return Sweeper(
            self.store.holdings,
            self.store.__contains__,
            self.folder,
            clock=lambda: EPOCH + trio.current_time(),
            in_thread=at_once,
            **options,
        )

    async def run_for(self, seconds: float, *, port: int = PORT, **options: Any) -> Sweeper:
        """Sweep for so long; return the sweeper, which has stopped."""
        sweeper = self.sweeper(**options)
        with trio.move_on_after(seconds):
            await sweeper.run(self.network, port)
        return sweeper


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Store(tmp_path / "store", reserve_bytes=0) as store:
        yield Node(store, tmp_path)


async def test_every_block_is_announced_in_the_order_of_the_keys(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(100))
    sweeper = await node.run_for(60)
    assert list(node.network.known) == sorted(keys(range(100)))
    assert len(node.network.calls) == 10
    assert sweeper.status()["blocks"] == 100
    assert sweeper.status()["share"] == 1.0


async def test_more_keys_than_are_listed_at_one_time_are_all_announced(
    node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "_KEYS_AHEAD", 16)
    monkeypatch.setattr(sweeper_module, "_IDS_AT_ONCE", 7)
    node.put(*range(200))
    await node.run_for(60)
    assert list(node.network.known) == sorted(keys(range(200)))
    assert all(len(times) == 1 for times in node.network.known.values())


async def test_no_more_bytes_are_sent_than_allowed(node: Node, autojump_clock: MockClock) -> None:
    node.put(*range(100))
    await node.run_for(50, bytes_per_second=BYTES_PER_KEY)
    assert 40 <= len(node.network.known) <= 60


async def test_all_is_announced_again_before_the_records_end(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(30))
    await node.run_for(3 * RECORD_SECONDS)
    for times in node.network.known.values():
        assert len(times) == 4
        assert all(
            later - earlier < RECORD_SECONDS - HOUR for earlier, later in itertools.pairwise(times)
        )


async def test_a_round_goes_on_after_a_restart_where_it_was(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(100))
    await node.run_for(20, bytes_per_second=BYTES_PER_KEY)
    before = len(node.network.known)
    assert 0 < before < 100
    await node.run_for(200)
    assert len(node.network.known) == 100
    assert sum(len(times) == 1 for times in node.network.known.values()) >= 90
    await node.run_for(HOUR)
    assert len(node.network.calls) <= 12


async def test_at_another_port_all_is_announced_anew(node: Node, autojump_clock: MockClock) -> None:
    node.put(*range(20))
    await node.run_for(60)
    await node.run_for(60, port=PORT + 1)
    assert all(len(times) == 2 for times in node.network.known.values())


async def test_a_node_that_moved_announces_all_anew(node: Node, autojump_clock: MockClock) -> None:
    node.put(*range(20))
    async with trio.open_nursery() as nursery:
        sweeper = node.sweeper()
        nursery.start_soon(sweeper.run, node.network, PORT)
        await trio.sleep(60)
        sweeper.start_over()
        await trio.sleep(CHANGES_SECONDS)
        nursery.cancel_scope.cancel()
    assert all(len(times) == 2 for times in node.network.known.values())


async def test_a_clock_that_was_wrong_delays_nothing(node: Node, autojump_clock: MockClock) -> None:
    node.put(1)
    save_round(node.folder, SweepRound(EPOCH * 2, PORT, is_over=True))
    await node.run_for(60)
    assert set(node.network.known) == keys([1])


async def test_a_damaged_file_only_costs_another_round(
    node: Node, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node.put(1)
    for content in ("", "{", '{"version": 9}', '{"version": 1, "position": "xy"}'):
        (node.folder / SWEEP_FILE).write_text(content)
        node.network.known.clear()
        await node.run_for(60)
        assert set(node.network.known) == keys([1])
    assert "sweep.json" in caplog.text
    assert load_round(node.folder).blocks == 1


async def test_what_comes_is_announced_and_what_goes_is_taken_back(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.sweeper().run, node.network, PORT)
        await trio.sleep(60)
        node.put(*range(20, 50))
        node.keep_only(*range(10, 30))
        assert set(node.network.known) == keys(range(20))
        await trio.sleep(CHANGES_SECONDS)
        assert set(node.network.known) == keys(range(10, 30))
        node.keep_only(*range(20, 30))
        node.put(12)
        await trio.sleep(2 * CHANGES_SECONDS)
        assert set(node.network.known) == keys([12, *range(20, 30)])
        nursery.cancel_scope.cancel()


async def test_what_goes_before_its_turn_in_the_round_is_not_announced(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(100))
    last = sorted(range(100), key=key)[-20:]
    async with trio.open_nursery() as nursery:
        slow = node.sweeper(bytes_per_second=BYTES_PER_KEY // 10)
        nursery.start_soon(slow.run, node.network, PORT)
        await trio.sleep(60)
        node.keep_only(*set(range(100)).difference(last))
        await trio.sleep(2000)
        nursery.cancel_scope.cancel()
    assert set(node.network.known) == keys(set(range(100)).difference(last))


async def test_a_whole_list_of_keys_may_go_before_its_turn(
    node: Node, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "_KEYS_AHEAD", 20)
    node.put(*range(100))
    first, rest = sorted(range(100), key=key)[:20], sorted(range(100), key=key)[20:]
    async with trio.open_nursery() as nursery:
        slow = node.sweeper(bytes_per_second=BYTES_PER_KEY * 10 / CHANGES_SECONDS)
        nursery.start_soon(slow.run, node.network, PORT)
        await trio.sleep(1)
        node.keep_only(*rest)
        await trio.sleep(20 * CHANGES_SECONDS)
        nursery.cancel_scope.cancel()
    assert set(node.network.known) == keys(rest)
    assert keys(first).isdisjoint(node.network.known)


async def test_what_goes_between_two_rounds_is_not_remembered(
    node: Node, autojump_clock: MockClock
) -> None:
    """A cache may lose a million blocks in a day."""
    async with trio.open_nursery() as nursery:
        sweeper = node.sweeper()
        nursery.start_soon(sweeper.run, node.network, PORT)
        for number in range(0, 100, 10):
            node.put(*range(number, number + 10))
            await trio.sleep(2 * CHANGES_SECONDS)
            assert node.network.known
            node.keep_only()
            await trio.sleep(2 * CHANGES_SECONDS)
            assert not node.network.known
        assert not sweeper._withdrawn
        nursery.cancel_scope.cancel()


async def test_an_idle_node_says_nothing(node: Node, autojump_clock: MockClock) -> None:
    await node.run_for(ANNOUNCE_AGAIN_SECONDS * 3)
    assert node.network.calls == []
    node.put(1)
    await node.run_for(ANNOUNCE_AGAIN_SECONDS - 1)
    assert 1 <= len(node.network.calls) <= 2  # in the round, and as a change


async def test_a_dead_network_is_tried_ever_more_seldom_and_then_told_of_all(
    node: Node, autojump_clock: MockClock
) -> None:
    node.put(*range(20))
    node.network.is_dead = True
    async with trio.open_nursery() as nursery:
        sweeper = node.sweeper()
        nursery.start_soon(sweeper.run, node.network, PORT)
        await trio.sleep(10 * HOUR)
        gaps = [later - earlier for earlier, later in itertools.pairwise(node.network.calls)]
        assert gaps == sorted(gaps)
        assert gaps[0] == 10
        assert gaps[-1] == HOUR
        assert sweeper.status()["failure"] == "nobody answers"
        node.network.is_dead = False
        await trio.sleep(2 * HOUR)
        assert set(node.network.known) == keys(range(20))
        assert sweeper.status()["failure"] is None
        nursery.cancel_scope.cancel()


async def test_an_unforeseen_error_ends_nothing(
    node: Node, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node.put(1)
    node.network.is_dead = True
    node.network.error = ZeroDivisionError("a bug")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.sweeper().run, node.network, PORT)
        await trio.sleep(1)
        node.network.is_dead = False
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert set(node.network.known) == keys([1])
    assert "a bug" in caplog.text
