"""Announcements on a clock that jumps."""

import itertools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.ids import BlockId
from libernet.net.announcer import Announcer
from libernet.net.discovery import RECORD_SECONDS
from tests.support.far import NETWORK_IS_DOWN, ScriptedDiscovery

ROOT = BlockId.of(b"root")
OTHER = BlockId.of(b"other")
HOUR = 3600.0


def numbered(count: int) -> list[BlockId]:
    return [BlockId.of(b"%d" % number) for number in range(count)]


@pytest.fixture
async def discovery() -> ScriptedDiscovery:
    return ScriptedDiscovery()


@pytest.fixture
async def announcer(discovery: ScriptedDiscovery, nursery: trio.Nursery) -> Announcer:
    made = Announcer(discovery)
    nursery.start_soon(made.run)
    return made


async def test_a_root_is_announced_at_once(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    await trio.sleep(100)
    announcer.add(ROOT)
    assert announcer.pending() == [ROOT]
    await trio.sleep(1)
    assert discovery.announced == [(100, ROOT)]
    assert announcer.pending() == []


async def test_what_was_added_before_the_start_is_announced_too(
    discovery: ScriptedDiscovery, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    announcer = Announcer(discovery)
    announcer.add(ROOT)
    nursery.start_soon(announcer.run)
    await trio.sleep(1)
    assert discovery.announced == [(0, ROOT)]


async def test_a_node_that_moved_announces_all_again(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    announcer.add(ROOT)
    announcer.add(OTHER)
    await trio.sleep(100)
    announcer.start_over()
    assert set(announcer.pending()) == {ROOT, OTHER}
    await trio.sleep(1)
    assert sorted(discovery.announced) == sorted([(0, ROOT), (0, OTHER), (100, ROOT), (100, OTHER)])
    assert announcer.pending() == []


async def test_what_is_under_way_while_a_node_moves_is_announced_once_more(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = 10
    announcer.add(ROOT)
    await trio.sleep(5)
    announcer.start_over()
    await trio.sleep(10)
    assert announcer.pending() == [ROOT]
    await trio.sleep(10)
    assert announcer.pending() == []
    assert len(discovery.announced) == 2


async def test_it_is_announced_again_before_its_record_ends(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    announcer.add(ROOT)
    announcer.add(ROOT)
    await trio.sleep(5 * RECORD_SECONDS)
    times = [time for time, _ in discovery.announced]
    assert len(times) in (5, 6)
    assert all(
        RECORD_SECONDS - 3 * HOUR < later - earlier < RECORD_SECONDS - HOUR
        for earlier, later in itertools.pairwise(times)
    )


async def test_a_machine_that_slept_announces_what_ended_meanwhile(
    discovery: ScriptedDiscovery, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    slept = 1000.0
    announcer = Announcer(discovery, slept=lambda: slept)
    nursery.start_soon(announcer.run)
    announcer.add(ROOT)
    await trio.sleep(HOUR)
    slept += RECORD_SECONDS
    assert announcer.pending() == [ROOT]
    await trio.sleep(HOUR / 10)
    assert len(discovery.announced) == 2
    assert announcer.pending() == []


async def test_what_fails_is_tried_again_ever_more_seldom(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.error = NETWORK_IS_DOWN
    announcer.add(ROOT)
    await trio.sleep(1000)
    times = [time for time, _ in discovery.announced]
    assert times[:5] == [0, 2, 6, 14, 30]
    assert times[-1] - times[-2] == 60
    assert announcer.pending() == [ROOT]
    discovery.error = None
    await trio.sleep(60)
    assert announcer.pending() == []


async def test_a_discovery_that_does_not_answer_is_given_up_and_tried_again(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = HOUR
    announcer.add(ROOT)
    await trio.sleep(61)
    discovery.delay_seconds = 0
    await trio.sleep(10)
    assert announcer.pending() == []


async def test_a_root_whose_record_ended_is_pending_again(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    announcer.add(ROOT)
    await trio.sleep(1)
    discovery.error = NETWORK_IS_DOWN
    await trio.sleep(RECORD_SECONDS - HOUR)
    assert announcer.pending() == []
    await trio.sleep(HOUR)
    assert announcer.pending() == [ROOT]


async def test_what_is_removed_is_withdrawn_and_announced_no_more(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    announcer.add(ROOT)
    await trio.sleep(1)
    announcer.remove(ROOT)
    announcer.remove(OTHER)
    await trio.sleep(2 * RECORD_SECONDS)
    assert discovery.withdrawn == [ROOT]
    assert len(discovery.announced) == 1


async def test_what_is_removed_while_it_is_announced_is_withdrawn_afterwards(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = 10
    announcer.add(ROOT)
    await trio.sleep(5)
    announcer.remove(ROOT)
    await trio.sleep(4)
    assert discovery.withdrawn == []
    await trio.sleep(4)
    assert discovery.withdrawn == [ROOT]


async def test_what_comes_back_while_it_is_withdrawn_is_announced_afterwards(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = 10
    announcer.add(ROOT)
    await trio.sleep(11)
    announcer.remove(ROOT)
    await trio.sleep(5)
    announcer.add(ROOT)
    await trio.sleep(20)
    assert [time for time, _ in discovery.announced] == [0, 21]
    assert announcer.pending() == []


async def test_a_failed_withdrawal_is_left_to_time(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    announcer.add(ROOT)
    await trio.sleep(1)
    discovery.error = NETWORK_IS_DOWN
    announcer.remove(ROOT)
    await trio.sleep(1000)
    assert discovery.withdrawn == [ROOT]


async def test_only_a_few_are_announced_at_one_time(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = 1
    for block_id in numbered(100):
        announcer.add(block_id)
    await trio.sleep(26)
    assert discovery.most == 4
    assert announcer.pending() == []


async def test_a_new_root_does_not_wait_for_all_the_old_ones(
    announcer: Announcer, discovery: ScriptedDiscovery, autojump_clock: MockClock
) -> None:
    discovery.delay_seconds = 10
    for block_id in numbered(100):
        announcer.add(block_id)
    await trio.sleep(15)
    announcer.add(ROOT)
    await trio.sleep(16)
    assert ROOT not in announcer.pending()
    assert len(announcer.pending()) > 80


async def test_a_block_that_is_not_here_any_more_is_withdrawn_instead(
    discovery: ScriptedDiscovery, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    here = {ROOT}
    announcer = Announcer(discovery, is_here=here.__contains__)
    nursery.start_soon(announcer.run)
    announcer.add(ROOT)
    await trio.sleep(1)
    here.clear()
    await trio.sleep(RECORD_SECONDS)
    assert len(discovery.announced) == 1
    assert discovery.withdrawn == [ROOT]
    assert announcer.pending() == []


async def test_a_trouble_that_goes_on_is_said_once(
    announcer: Announcer,
    discovery: ScriptedDiscovery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    discovery.error = NETWORK_IS_DOWN
    for root in numbered(20):
        announcer.add(root)
    await trio.sleep(HOUR)
    assert len(caplog.records) == 1
    discovery.error = None
    await trio.sleep(100)
    discovery.error = NETWORK_IS_DOWN
    announcer.add(ROOT)
    await trio.sleep(HOUR)
    assert len(caplog.records) == 2


async def test_an_unforeseen_error_ends_nothing(
    announcer: Announcer,
    discovery: ScriptedDiscovery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    discovery.error = ZeroDivisionError("a bug")
    announcer.add(ROOT)
    await wait_all_tasks_blocked()
    announcer.add(OTHER)
    announcer.remove(OTHER)
    await trio.sleep(1)
    discovery.error = None
    await trio.sleep(10)
    assert announcer.pending() == []
    assert "a bug" in caplog.text


async def test_it_can_be_stopped_and_started_again(
    discovery: ScriptedDiscovery, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    announcer = Announcer(discovery)
    announcer.add(ROOT)
    discovery.delay_seconds = 10
    with trio.move_on_after(5):
        await announcer.run()
    nursery.start_soon(announcer.run)
    await trio.sleep(11)
    assert announcer.pending() == []
