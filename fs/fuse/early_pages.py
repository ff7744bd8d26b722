"""Small files given to the kernel's page cache when they are opened, so that it need not ask.

Reading a small file is two round trips to this process, open and read, of which each waits for a
switch of tasks there and back. Content that is at hand goes along with the first.
"""

import errno
import os

import pyfuse3

from libernet.blocks.errors import LibernetError
from libernet.fs.namespace import Namespace, OpenFile

_MOST_BYTES = 128 * 1024
"""What the kernel asks for in one piece when a program starts to read."""

_REMEMBERED = 100_000


class EarlyPages:
    """Give files to the kernel.

    A page is stored only while nobody has the file open: the kernel locks a page as long as it
    waits for us to read or write it, and storing it then would wait for that lock, for ever. Until
    all that was asked through a handle is answered, the kernel does not release that handle.
    State
      _handles   how many handles there are, by inode
      _given     inodes whose content the kernel was given, until it forgets them, at most 100,000
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._handles: dict[int, int] = {}
        self._given: set[int] = set()
        self._is_supported = True

    def opened(self, ino: int) -> None:
        """Note one more handle."""
        self._handles[ino] = self._handles.get(ino, 0) + 1

    def released(self, ino: int) -> None:
        """Note that a handle is gone."""
        left = self._handles.pop(ino) - 1
        if left:
            self._handles[ino] = left

    def forgotten(self, ino: int) -> None:
        """Note that the kernel has forgotten an inode, and its pages."""
        self._given.discard(ino)

    async def give(self, ino: int, file: OpenFile, flags: int) -> None:
        """Store the content of a file about to be opened, if that is worth it."""
        is_plain = flags & (os.O_ACCMODE | os.O_DIRECT) == os.O_RDONLY
        if not is_plain or ino in self._given or ino in self._handles or not self._is_supported:
            return
        look = (await self._namespace.stat(ino)).look
        if not 0 < look.size <= _MOST_BYTES:
            return
        try:
            content = await self._namespace.near(file)
        except (LibernetError, OSError):
            return  # who reads it is told
        is_same = (
            self._namespace.is_read_only(ino) or (await self._namespace.stat(ino)).look is look
        )
        if content is None or len(content) != look.size or not is_same or ino in self._handles:
            return
        try:
            pyfuse3.notify_store(pyfuse3.InodeT(ino), 0, bytes(content))
        except OSError as exc:
            self._is_supported = exc.errno != errno.ENOSYS
        else:
            if len(self._given) >= _REMEMBERED:
                self._given.clear()  # giving one twice costs little
            self._given.add(ino)
