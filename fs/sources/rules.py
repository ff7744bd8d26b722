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

    *patterns* are lines as in a .gitignore, relative to the folder that is backed up; those that
    begin with its absolute path say what is below it. *caches* stands for what is in folders with
    a CACHEDIR.TAG; *larger_than* is in bytes.
    """

    patterns: Sequence[str] = ()
    caches: bool = False
    larger_than: int | None = None
    one_file_system: bool = False


class Selection:
    """Say of each entry of a folder whether it is backed up; any thread may ask.

    State
      unmatched   which patterns, by their places among the rules', decided nothing so far
    """

    def __init__(self, rules: Rules, top: bytes) -> None:
        """Leave out what *rules* say of a folder whose absolute path is *top*.

        Raises FormatError for a malformed pattern.
        """
        self._rules = rules
        lines = [_anchored(line, os.fsdecode(top)) for line in rules.patterns]
        try:
            self._spec = pathspec.GitIgnoreSpec.from_lines(lines)
        except ValueError as exc:
            raise FormatError(f"a pattern is malformed: {exc}") from exc
        patterns = enumerate(self._spec.patterns)
        self.unmatched = {each for each, pattern in patterns if pattern.include is not None}

    def takes(self, below: bytes, status: os.stat_result) -> bool:
        """Return whether an entry is backed up, whose path is *below* the top folder's."""
        rules = self._rules
        most = rules.larger_than
        if most is not None and stat.S_ISREG(status.st_mode) and status.st_size > most:
            return False
        if not rules.patterns:
            return True
        is_folder = stat.S_ISDIR(status.st_mode)
        found = self._spec.check_file(os.fsdecode(below) + ("/" if is_folder else ""))
        if found.index is not None:
            self.unmatched.discard(found.index)
        return not found.include

    def enters(self, status: os.stat_result, device: int) -> bool:
        """Return whether what is in a folder is backed up; *device* is the top folder's st_dev."""
        return not self._rules.one_file_system or status.st_dev == device

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


def _anchored(pattern: str, top: str) -> str:
    """Return a pattern of which the absolute path of the top folder is no longer a part."""
    negation = "!" if pattern.startswith("!") else ""
    path, within = pattern.removeprefix("!"), top.rstrip("/")
    return negation + path[len(within) :] if path.startswith(within + "/") else pattern


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
