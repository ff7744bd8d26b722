"""Work that must be through, or given up, before somebody may go on."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Underway:
    """Pieces of work that are going on.

    State: _open, an event for each, set at its end.
    """

    def __init__(self) -> None:
        self._open: set[trio.Event] = set()

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the body as work under way."""
        done = trio.Event()
        self._open.add(done)
        try:
            yield
        finally:
            self._open.remove(done)
            done.set()

    async def settled(self) -> None:
        """Return when everything has ended that was under way when this was called."""
        for done in list(self._open):
            await done.wait()
