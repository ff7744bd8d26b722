"""What a view must be told: changes below `backups/` that it did not ask for itself.

The kernel keeps names, attributes and contents for a day, because nobody else changes them. Who
does (a command that reads a folder into a backup) notes it here.
"""

from collections.abc import Callable

import trio

Forget = Callable[[int, bytes | None], None]
"""Lets a view forget a name in a folder, or (None) the attributes and content of an inode."""


class Notices:
    """Changes that a view is still to be told of.

    State
      _waiting   (folder, name) and (inode, None), in the order in which they were first noted
      _noted     set while something waits; _told, while nothing does and nobody is telling
    Tasks: run(), if there is a view. Without one nothing is kept.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, bytes | None], None] = {}
        self._has_view = False
        self._noted = trio.Event()
        self._told = trio.Event()

    def name(self, folder: int, name: bytes) -> None:
        """Note that a name in a folder leads to something else, or to nothing, now."""
        self._note((folder, name))

    def inode(self, ino: int) -> None:
        """Note that an inode has other attributes or another content now."""
        self._note((ino, None))

    async def told(self) -> None:
        """Return when the view knows all that was noted before."""
        while self._has_view and self._waiting:
            await self._told.wait()

    async def run(self, forget: Forget) -> None:
        """Tell a view until cancelled; *forget* is called in a thread, as it may wait for us."""
        self._has_view = True
        try:
            while True:
                await self._noted.wait()
                self._noted = trio.Event()
                telling = list(self._waiting)
                # abandoned when the mount ends: nobody answers then what the kernel may wait for
                await trio.to_thread.run_sync(_tell_all, forget, telling, abandon_on_cancel=True)
                for each in telling:
                    del self._waiting[each]
                if self._waiting:
                    self._noted.set()
                told, self._told = self._told, trio.Event()
                told.set()
        finally:
            self._has_view = False
            self._told.set()

    def _note(self, change: tuple[int, bytes | None]) -> None:
        if self._has_view:
            self._waiting[change] = None
            self._noted.set()


def _tell_all(forget: Forget, telling: list[tuple[int, bytes | None]]) -> None:
    for ino, name in telling:
        forget(ino, name)
