"""What a peer is expected to take, by what it took."""

import pytest
import trio
from trio.testing import MockClock

from libernet.net.standing import Standing

KIB = 1024


async def answer(standing: Standing, seconds: float, size_bytes: int | None) -> None:
    errand = standing.asked()
    await trio.sleep(seconds)
    standing.over(errand, size_bytes)


async def answers(standing: Standing, count: int, seconds: float, size_bytes: int) -> None:
    """Let so many questions be under way at one time and be answered together."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(answer, standing, seconds, size_bytes)


async def test_the_round_trip_is_that_of_the_smallest_answers(autojump_clock: MockClock) -> None:
    standing = Standing()
    await answer(standing, 0.02, 0)
    assert standing.round_trip_seconds == pytest.approx(0.02)
    await answer(standing, 1.0, 512 * KIB)
    assert standing.round_trip_seconds == pytest.approx(0.02)


async def test_what_was_only_guessed_of_a_round_trip_makes_no_rate(
    autojump_clock: MockClock,
) -> None:
    standing = Standing()
    for _ in range(10):
        await answer(standing, 0.06, 600_000)
    assert standing.rate == pytest.approx(10e6, rel=0.1)


async def test_answers_that_share_a_line_tell_of_all_of_it(autojump_clock: MockClock) -> None:
    standing = Standing()
    await answer(standing, 0.05, 0)
    for _ in range(10):
        await answers(standing, 8, 0.05 + 8 * 0.5 / 10, 500_000)
    assert 7e6 < standing.rate < 13e6


async def test_who_has_much_to_do_is_expected_later(autojump_clock: MockClock) -> None:
    standing = Standing()
    idle_seconds = standing.expected_seconds()
    standing.asked()
    standing.asked()
    assert standing.expected_seconds() > 2 * idle_seconds


async def test_failures_make_it_later_and_fade(autojump_clock: MockClock) -> None:
    standing = Standing()
    sound_seconds = standing.expected_seconds()
    standing.failed()
    standing.failed()
    assert standing.expected_seconds() > 1.5 * sound_seconds
    await trio.sleep(600)
    assert standing.expected_seconds() == pytest.approx(sound_seconds, rel=0.01)


async def test_a_rate_of_long_ago_is_not_trusted(autojump_clock: MockClock) -> None:
    standing, stranger = Standing(), Standing()
    for _ in range(10):
        await answer(standing, 5.0, 512 * KIB)
    assert standing.rate < stranger.rate / 10
    await trio.sleep(600)
    assert standing.rate == pytest.approx(stranger.rate, rel=0.01)


async def test_errors_and_questions_given_up_tell_of_no_rate(autojump_clock: MockClock) -> None:
    standing, stranger = Standing(), Standing()
    await answer(standing, 30.0, None)
    assert standing.rate == stranger.rate
    assert standing.under_way == 0


async def test_one_small_answer_behind_large_ones_tells_of_no_round_trip(
    autojump_clock: MockClock,
) -> None:
    standing = Standing()
    await answer(standing, 0.02, 0)
    for _ in range(5):
        standing.asked()
    await answer(standing, 2.0, 100)
    assert standing.round_trip_seconds == pytest.approx(0.02)
