"""Names searched for in many snapshots at once."""

import os
import stat
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase

from libernet.blocks.documents import FolderEntry
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.bundle_view import Bundles
from libernet.fs.side_by_side import Entry, Found, Levels, SideBySide, Variant, below

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chardev",
    stat.S_IFBLK: "dev",
}


class Patterns:
    """Shell patterns for names, or, where they have a slash, for the last parts of paths.

    One that begins with a slash is for whole paths; `**` stands for any number of folders.
    """

    def __init__(self, patterns: Iterable[str], *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case
        self._patterns = []
        for pattern in patterns:
            parts = self._folded(pattern).strip("/").split("/")
            if not all(parts):
                raise FormatError(f"{pattern!r} is no pattern: a part of it is empty")
            self._patterns.append(parts if pattern.startswith("/") else ["**", *parts])

    def may_match(self, name: bytes) -> bool:
        """Say whether something with a name can match, wherever it is."""
        text = self._folded(os.fsdecode(name))
        return any(fnmatchcase(text, parts[-1]) for parts in self._patterns)

    def match(self, path: bytes) -> bool:
        """Say whether a pattern matches what is at a path."""
        parts = self._folded(os.fsdecode(path)).split("/")
        return any(_match(pattern, parts) for pattern in self._patterns)

    def _folded(self, text: str) -> str:
        return text.casefold() if self._ignore_case else text


@dataclass(frozen=True, slots=True)
class Match:
    """Something that was found at a *path* in the versions with the bits *of*.

    *versions* is how many different ones there are, *size* and *mtime_ns* are of the newest.
    """

    path: bytes
    of: int
    type: str
    versions: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Unread:
    """A folder at a *path* that could not be searched, in none of the versions."""

    path: bytes
    error: str


class Search:
    """Search the versions of a tree, the oldest first: each folder once, however many have it."""

    def __init__(self, bundles: Bundles, versions: Sequence[Reference], patterns: Patterns) -> None:
        by_reference: dict[Reference, int] = {}
        for number, reference in enumerate(versions):
            by_reference[reference] = by_reference.get(reference, 0) | 1 << number
        self._top = [
            Variant(of, reference, Origin(reference.id)) for reference, of in by_reference.items()
        ]
        self._patterns = patterns
        self._walk = SideBySide(bundles, wanted=patterns.may_match)

    async def matches(self) -> AsyncGenerator[Match | Unread, None]:
        """Yield what is found, folder by folder and by name, and what could not be searched."""
        root = self._top[-1].origin.root
        async with aclosing(Levels(self._walk, self._top)) as levels:
            while not levels.is_over:
                path = levels.path
                try:
                    step = await levels.next()
                    if step is None:
                        continue
                    name, found = step
                    if self._patterns.match(path + name):
                        yield _match_of(path + name, found)
                    folders = [(of, each) for of, each in found if isinstance(each, FolderEntry)]
                    if folders:
                        origin = Origin(root, os.fsdecode(path + name))
                        levels.enter(name, below(folders, origin))
                except LibernetError as exc:
                    yield Unread(path, str(exc))


def _match_of(path: bytes, found: Found) -> Match:
    newest: Entry = max(found, key=lambda each: each[0])[1]
    attributes = newest.attributes if isinstance(newest, FolderEntry) else newest.attributes()
    of = 0
    for bits, _ in found:
        of |= bits
    return Match(
        path,
        of,
        _TYPES.get(stat.S_IFMT(attributes.mode), "irregular"),
        versions=len(found),
        size=0 if isinstance(newest, FolderEntry) else newest.size,
        mtime_ns=attributes.mtime_ns,
    )


def _match(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Say whether a pattern, by parts, matches all parts of a path."""
    # Which rests of the path the pattern so far may leave; `**` leaves any.
    rests = {0}
    for each in pattern:
        if each == "**":
            rests = set(range(min(rests), len(parts) + 1)) if rests else rests
        else:
            rests = {at + 1 for at in rests if at < len(parts) and fnmatchcase(parts[at], each)}
    return len(parts) in rests
