"""How much went, and how fast it goes."""

import pytest
import trio
from trio.testing import MockClock

from libernet.net.traffic import Traffic


async def test_all_that_went_is_counted() -> None:
    traffic = Traffic()
    traffic.add(1, 1000)
    traffic.add(3, 50)
    assert (traffic.blocks, traffic.bytes) == (4, 1050)


async def test_nothing_goes_before_the_first_and_long_after_the_last(
    autojump_clock: MockClock,
) -> None:
    traffic = Traffic()
    assert traffic.status() == {"blocks": 0, "bytes": 0, "bytes_per_second": 0}
    traffic.add(1, 1_000_000)
    assert traffic.bytes_per_second() > 0
    await trio.sleep(120)
    assert traffic.status() == {"blocks": 1, "bytes": 1_000_000, "bytes_per_second": 0}


async def test_a_steady_flow_is_told_as_fast_as_it_is(autojump_clock: MockClock) -> None:
    traffic = Traffic()
    for _ in range(600):
        await trio.sleep(0.1)
        traffic.add(1, 100_000)
    assert traffic.bytes_per_second() == pytest.approx(1_000_000, rel=0.02)
