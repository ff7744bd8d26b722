"""Long work that somebody watches: how much there is of it, and how far it is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from libernet.fs.beside import beside, telling
from libernet.fs.control import Tell


class Progress(Protocol):
    """Counts of what was done so far."""

    current: bytes
    total_bytes: int

    @property
    def things(self) -> int:
        """How many things are through."""
        ...


@dataclass(slots=True)
class Totals:
    """How much there is to do, as far as it was counted."""

    files: int = 0
    bytes: int = 0
    is_known: bool = False


@asynccontextmanager
async def watched(
    arguments: dict[str, Any],
    tell: Tell,
    progress: Progress,
    count: Callable[[Totals], Awaitable[None]],
) -> AsyncIterator[None]:
    """Tell each half second how far the body is.

    How much there is to do is counted only when a person watches: that looks at all of it twice.
    """
    totals = Totals()
    is_watched = arguments.get("is_watched") is True
    async with (
        beside(partial(count, totals)) if is_watched else nullcontext(),
        telling(tell, partial(_note, progress, totals)),
    ):
        yield


def _note(progress: Progress, totals: Totals) -> dict[str, Any]:
    return {
        "done": progress.things,
        "bytes": progress.total_bytes,
        "of": totals.files if totals.is_known else None,
        "of_bytes": totals.bytes if totals.is_known else None,
        "current": progress.current.decode("utf-8", "surrogateescape"),
    }
