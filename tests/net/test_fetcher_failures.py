"""What could not be had, for people to see."""

import trio
from trio.testing import MockClock

from libernet.blocks.ids import BlockId
from tests.support.fetching import BLOCK, ID, World


async def test_what_fails_is_listed_until_it_came(world: World, clock: MockClock) -> None:
    world.hinted("peer").delay_seconds = 1
    await world.outcome()
    await trio.sleep(10)
    await world.outcome()
    (failure,) = world.fetcher.failures()
    assert failure["block"] == str(ID)
    assert failure["path"] == "/folder/file"
    assert failure["asked"] == ["peer:4848"]
    assert 10 <= float(str(failure["since_seconds"])) < 15
    assert str(ID) in str(failure["error"])
    world.hinted("other", BLOCK)
    await world.get()
    assert world.fetcher.failures() == []


async def test_what_came_by_another_way_is_no_failure_any_more(
    world: World, clock: MockClock
) -> None:
    await world.outcome()
    world.store.put(ID, BLOCK)
    assert world.fetcher.failures() == []


async def test_not_all_failures_are_kept(world: World, clock: MockClock) -> None:
    for number in range(100):
        await world.outcome(BlockId.of(b"%d" % number))
    failures = world.fetcher.failures()
    assert len(failures) == 64
    assert failures[-1]["block"] == str(BlockId.of(b"99"))
