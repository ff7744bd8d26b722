"""A task beside the body of a with statement."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

_NOTE_SECONDS = 0.5


@asynccontextmanager
async def beside(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task while the body runs, and cancel it then.

    The body is cancelled when the task fails. What either raises is raised as it is, and not in a
    group: the body's, if both do.
    """
    failures: list[Exception] = []

    async def guarded(scope: trio.CancelScope) -> None:
        try:
            await task()
        except Exception as exc:  # noqa: BLE001 - raised below
            failures.append(exc)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guarded, nursery.cancel_scope)
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - raised below
            failures.insert(0, exc)
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]


@asynccontextmanager
async def telling(
    tell: Callable[[dict[str, Any]], Awaitable[None]], note: Callable[[], dict[str, Any]]
) -> AsyncIterator[None]:
    """Tell what *note* returns each half second while the body runs."""

    async def go_on() -> None:
        while True:
            await trio.sleep(_NOTE_SECONDS)
            await tell(note())

    async with beside(go_on):
        yield
