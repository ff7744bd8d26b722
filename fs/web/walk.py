"""Going from the top of an address to what its path names, and never out of it."""

import errno
import stat
from collections import deque
from collections.abc import Sequence

import trio

from libernet.blocks.limits import MAX_PATH_PARTS
from libernet.fs.namespace import MOUNT_INO, Entry, Namespace
from libernet.fs.tree import os_error
from libernet.fs.web.requests import Refusal

MAX_LINKS = 40
"""Most symbolic links on one way, as in Linux."""

_MAX_STEPS = 2 * MAX_PATH_PARTS


class Walk:
    """Ways through a namespace, which gets back at end() every number that it gave for them.

    Symbolic links are followed as the kernel would in the mount, but only inside of what the
    address opens: it is the node that goes, and a link must not lead it to anything else.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._given: list[int] = []

    def end(self) -> None:
        """Give back all numbers."""
        for ino in self._given:
            self._namespace.forget(ino, 1)
        self._given.clear()

    async def go(self, top: Sequence[bytes], path: Sequence[bytes]) -> Entry:
        """Return what *path* leads to in the folder *top*, which is named from the mount's root.

        It is no symbolic link. Raises Refusal where one leads out, else what look-ups raise.
        """
        found = await self._namespace.stat(MOUNT_INO)
        for name in top:
            found = await self._lookup(found.ino, name)
        return await self._below(found, path)

    async def _below(self, top: Entry, path: Sequence[bytes]) -> Entry:
        found, folders = top, [top]
        names = deque(path)
        links = steps = 0
        while names:
            name = names.popleft()
            steps += 1
            if not stat.S_ISDIR(found.look.mode):
                raise os_error(errno.ENOTDIR)
            if name == b"..":
                if len(folders) == 1:
                    raise _leads_out()
                folders.pop()
                found = folders[-1]
            elif name not in {b"", b"."}:
                found = await self._lookup(folders[-1].ino, name)
            if stat.S_ISLNK(found.look.mode):
                links += 1
                if links > MAX_LINKS or steps > _MAX_STEPS:
                    raise os_error(errno.ELOOP)
                target = await self._namespace.target(found.ino)
                if target.startswith(b"/"):
                    raise _leads_out()
                names.extendleft(reversed(target.split(b"/")))
                found = folders[-1]
                await trio.lowlevel.checkpoint()
            elif stat.S_ISDIR(found.look.mode) and found is not folders[-1]:
                folders.append(found)
        return found

    async def _lookup(self, parent: int, name: bytes) -> Entry:
        found = await self._namespace.lookup(parent, name)
        self._given.append(found.ino)
        return found


def _leads_out() -> Refusal:
    return Refusal(404, "a symbolic link leads out of what this address opens")
