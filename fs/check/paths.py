"""What a person calls the inodes that a finding is about."""

import os
from collections.abc import Callable
from typing import Any

from libernet.fs.inode import ROOT_INO

_MAX_DEPTH = 4096
"""Deeper than any path can be used: whoever has more folders above is in a circle."""

Rows = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement on the journal and returns the rows that it finds."""


class Paths:
    """Paths of inodes, as the journal's names have them; *rows* runs a query on it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def of(self, ino: object) -> str:
        """Return the path of an inode below the mount; `#INO` for one that no path leads to."""
        if not isinstance(ino, int):
            return f"#{ino!r}"
        parts: list[bytes] = []
        at = ino
        while at != ROOT_INO:
            names = self._rows("SELECT parent, name FROM entry WHERE ino = ? LIMIT 1", at)
            if not names or len(parts) > _MAX_DEPTH:
                return f"#{ino}"
            at, name = names[0]
            parts.append(name if isinstance(name, bytes) else str(name).encode())
        return os.fsdecode(b"/".join([b"backups", *reversed(parts)]))

    def of_name(self, folder: object, name: object) -> str:
        """Return the path of a name in a folder."""
        text = os.fsdecode(name) if isinstance(name, bytes) else repr(name)
        return f"{self.of(folder)}/{text}"
