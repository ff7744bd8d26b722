"""A task beside the body of a with statement."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


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
