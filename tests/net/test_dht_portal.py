"""Calls from trio into the thread that runs asyncio."""

import asyncio
import contextlib
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from libernet.blocks.errors import DhtError, FormatError
from libernet.net.dht.portal import Portal
from tests.support.dht import until


async def idle(ready: Callable[[], None]) -> None:
    ready()
    await asyncio.Event().wait()


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with Portal(idle, name="test") as opened:
        yield opened


async def tasks() -> int:
    """Return how many tasks the loop has beside its own three."""
    return len(asyncio.all_tasks()) - 3


async def die() -> None:
    raise SystemExit("a test wants it so")


async def test_a_call_gives_what_the_coroutine_returns(portal: Portal) -> None:
    async def add(one: int, other: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return one + other, threading.current_thread().name

    assert await portal.call(add, 1, 2) == (3, "test")


async def test_errors_of_the_project_come_through_as_they_are(portal: Portal) -> None:
    async def fail() -> None:
        raise FormatError("odd")

    with pytest.raises(FormatError, match="odd"):
        await portal.call(fail)


async def test_other_errors_are_logged_and_become_dht_errors(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(DhtError) as caught:
        await portal.call(fail)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    assert await portal.call(tasks) == 0


async def test_a_cancelled_call_ends_at_once_and_its_coroutine_too(portal: Portal) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with trio.move_on_after(0.02) as scope:
        await portal.call(wait)
    assert scope.cancelled_caught
    await until(cancelled.is_set)
    assert await portal.call(tasks) == 0


async def test_a_thousand_cancelled_calls_leave_nothing(portal: Portal) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(portal.call, functools.partial(asyncio.sleep, 30))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await portal.call(tasks) == 0
    assert portal._calls == set()


async def test_a_call_is_cancelled_even_while_the_loop_is_stuck(portal: Portal) -> None:
    stuck, go_on = threading.Event(), threading.Event()

    async def block() -> None:
        stuck.set()
        go_on.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(portal.call, block)
        await until(stuck.is_set)
        with trio.move_on_after(0.02) as scope:
            await portal.call(tasks)
        assert scope.cancelled_caught
        assert not go_on.is_set()
        go_on.set()
    assert await portal.call(tasks) == 0


async def test_a_call_that_was_cancelled_before_it_began_does_nothing(portal: Portal) -> None:
    called = []

    async def call() -> None:
        called.append(True)

    with trio.move_on_after(0):
        await portal.call(call)
    assert await portal.call(tasks) == 0
    assert called == []


async def test_when_the_thread_dies_all_calls_end_with_an_error() -> None:
    outcomes: list[str] = []

    async def wait() -> None:
        with pytest.raises(DhtError):
            await portal.call(asyncio.sleep, 30)
        outcomes.append("error")

    with trio.fail_after(5):
        async with Portal(idle, name="test") as portal:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(DhtError):
                    await portal.call(die)
            await portal.ended.wait()
            assert isinstance(portal.failure, SystemExit)
            with pytest.raises(DhtError):
                await portal.call(tasks)
    assert outcomes == ["error"] * 3


async def test_a_call_that_the_dying_loop_never_began_ends_with_an_error() -> None:
    async with Portal(idle, name="test") as portal, trio.open_nursery() as nursery:
        stuck, go_on = threading.Event(), threading.Event()

        async def block() -> None:
            stuck.set()
            go_on.wait(10)

        async def wait() -> None:
            with pytest.raises(DhtError):
                await portal.call(asyncio.sleep, 30)

        nursery.start_soon(portal.call, block)
        await until(stuck.is_set)
        portal._loop.call_soon_threadsafe(sys.exit)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        with trio.fail_after(5):
            await portal.ended.wait()


async def test_what_runs_in_the_loop_may_fail_and_says_why() -> None:
    is_time = asyncio.Event()

    async def fail_later(ready: Callable[[], None]) -> None:
        ready()
        await is_time.wait()
        raise DhtError("broken")

    async def fail() -> None:
        is_time.set()

    async with Portal(fail_later, name="test") as portal:
        with contextlib.suppress(DhtError):  # its end and that of the call come together
            await portal.call(fail)
        await portal.ended.wait()
    assert str(portal.failure) == "broken"


async def test_what_cannot_start_is_an_error() -> None:
    async def fail(ready: Callable[[], None]) -> None:
        raise OSError("no socket")

    with pytest.raises(DhtError, match="no socket"):
        async with Portal(fail, name="test"):
            pytest.fail("it was not ready")


async def test_closing_ends_calls_under_way_and_the_thread_soon() -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(1):
            async with Portal(idle, name="test-closing") as portal:

                async def wait() -> None:
                    with pytest.raises(DhtError):
                        await portal.call(asyncio.sleep, 30)

                for _ in range(100):
                    nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
    assert "test-closing" not in {thread.name for thread in threading.enumerate()}


async def test_opening_can_be_cancelled() -> None:
    async def never_ready(ready: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    for seconds in (0, 0.02):
        with trio.move_on_after(seconds) as scope:
            async with Portal(never_ready, name="test-opening"):
                pytest.fail("it was not ready")
        assert scope.cancelled_caught
    assert "test-opening" not in {thread.name for thread in threading.enumerate()}
