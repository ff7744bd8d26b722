"""What of a folder is not backed up: patterns, caches, large files, other file systems."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

import pathspec

from libernet.blocks.errors import FormatError

_CACHE_TAG = b"CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/


@dataclass(frozen=True, slots=True)
class Rules:
    """Hold what a person asked to leave out.

    *patterns* are lines as in a .gitignore, relative to the folder that is backed up. *caches*
    stands for what is in folders with a CACHEDIR.TAG; *larger_than* is in bytes.
    """

    patterns: Sequence[str] = ()
    caches: bool = False
    larger_than: int | None = None
    one_file_system: bool = False


class Selection:
    """Say of each entry of a folder whether it is backed up; any thread may ask."""

    def __init__(
        self,
        rules: Rules,
        untouchable: frozenset[bytes],
        own: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        """Leave out what *rules* say, and never look at the paths that are *untouchable*.

        Nor into what is *own*, by device and inode. Raises FormatError for a malformed pattern.
        """
        self._own = own
        self._rules = rules
        self._untouchable = untouchable
        try:
            self._spec = pathspec.GitIgnoreSpec.from_lines(rules.patterns)
        except ValueError as exc:
            raise FormatError(f"a pattern is malformed: {exc}") from exc

    def is_untouchable(self, path: bytes) -> bool:
        """Return whether not even stat may be asked about an absolute path."""
        return path in self._untouchable

    def is_own(self, status: os.stat_result) -> bool:
        """Return whether something is the node's own, whatever path leads to it."""
        return (status.st_dev, status.st_ino) in self._own

    def takes(self, below: bytes, status: os.stat_result, device: int) -> bool:
        """Return whether an entry is backed up, whose path is *below* the top folder's.

        *device* is the st_dev of the top folder.
        """
        rules = self._rules
        is_folder = stat.S_ISDIR(status.st_mode)
        if rules.one_file_system and is_folder and status.st_dev != device:
            return False
        most = rules.larger_than
        if most is not None and stat.S_ISREG(status.st_mode) and status.st_size > most:
            return False
        if not rules.patterns:
            return True
        return not self._spec.match_file(os.fsdecode(below) + ("/" if is_folder else ""))

    def shows_only(self, folder: bytes, names: Sequence[bytes]) -> bytes | None:
        """Return the one name that is backed up of a cache's folder; None if it is no cache."""
        if not self._rules.caches or _CACHE_TAG not in names:
            return None
        try:
            with open(os.path.join(folder, _CACHE_TAG), "rb", opener=_open_safely) as tag:
                begin = tag.read(len(_CACHE_SIGNATURE))
        except OSError:
            return None
        return _CACHE_TAG if begin == _CACHE_SIGNATURE else None


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
