"""What others do is said, however often they do it, in few lines."""

import logging

import pytest
import trio
from trio.testing import MockClock

from libernet.net.sparing_log import LINE_SECONDS, MAX_NAMED, SparingLog


@pytest.fixture
async def sparing(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> SparingLog:
    caplog.set_level(logging.INFO)
    log = SparingLog(logging.getLogger("a test"))
    nursery.start_soon(log.run)
    return log


async def test_the_first_of_each_kind_is_said_at_once(
    sparing: SparingLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sparing.say("late", "ada", "ada is late")
    sparing.say("rude", "bob", "bob is rude")
    assert caplog.messages == ["ada is late", "bob is rude"]


async def test_what_follows_is_said_when_the_minute_is_over_with_who_it_was(
    sparing: SparingLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for who in ("ada", "bob", "eve", "bob"):
        sparing.say("late", who, f"{who} is late")
    assert len(caplog.messages) == 1
    await trio.sleep(2 * LINE_SECONDS)
    assert caplog.messages[1:] == ["3 times more of this kind (bob, eve): bob is late"]


async def test_long_after_the_last_line_there_is_one_at_once_again(
    sparing: SparingLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sparing.say("late", "ada", "ada is late")
    await trio.sleep(3 * LINE_SECONDS)
    sparing.say("late", "ada", "ada is late again")
    assert caplog.messages == ["ada is late", "ada is late again"]


async def test_a_flood_costs_a_line_a_minute(
    sparing: SparingLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6000):  # ten minutes long, ten a second
        sparing.say("late", f"stranger {number}", f"stranger {number} is late")
        await trio.sleep(0.1)
    assert 9 <= len(caplog.messages) <= 11
    longest = max(caplog.messages, key=len)
    assert longest.count("stranger") == MAX_NAMED + 1
    assert " and others" in longest


async def test_at_the_end_nothing_is_left_unsaid(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sparing = SparingLog(logging.getLogger("a test"))
    with trio.move_on_after(1):
        sparing.say("late", "ada", "ada is late")
        sparing.say("late", "bob", "bob is late")
        await sparing.run()
    assert caplog.messages[1:] == ["once more of this kind (bob): bob is late"]


async def test_an_error_comes_with_its_traceback(
    sparing: SparingLog, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sparing.say("bug", "ada", "it broke", level=logging.WARNING, error=ZeroDivisionError("a bug"))
    assert "ZeroDivisionError: a bug" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
