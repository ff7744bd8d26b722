"""How two trees differ, told as `restic diff` does."""

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from libernet.blocks.documents import FileEntry, FolderEntry, Part, parse_contents_list
from libernet.blocks.errors import LibernetError
from libernet.blocks.source import Origin
from libernet.fs.bundle_view import BundleFolder, Bundles
from libernet.fs.side_by_side import Entry, Found, Levels, SideBySide, Variant, below

OLD, NEW = 1, 2
"""The bits of the two versions."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something at a *path* that differs. A folder's path ends with a slash.

    *kind* is + or - for what only the new or the old tree has, T for another type, M for other
    content, U for other attributes only (of folders: apart from their time). For what could not be
    looked at *error* says why, and *kind* is !.
    """

    kind: str
    path: bytes
    error: str = ""


@dataclass(slots=True)
class Totals:
    """What a whole comparison found. Bytes are those of the chunks of files that only one has."""

    files_new: int = 0
    files_removed: int = 0
    files_changed: int = 0
    folders_new: int = 0
    folders_removed: int = 0
    others_new: int = 0
    others_removed: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0
    errors: int = 0


class Difference:
    """Compare two trees; only what differs is opened.

    State: totals, of what was yielded so far.
    """

    def __init__(self, bundles: Bundles, old: BundleFolder, new: BundleFolder) -> None:
        self._chunks = bundles.chunks
        self._walk = SideBySide(bundles, skipped=OLD | NEW)
        self._top = [Variant(OLD, old.tree, old.origin), Variant(NEW, new.tree, new.origin)]
        self.totals = Totals()

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Yield what differs, folder by folder and by name.

        What cannot be read is told, and the rest is compared all the same.
        """
        async with aclosing(Levels(self._walk, self._top)) as levels:
            while not levels.is_over:
                path = levels.path
                try:
                    step = await levels.next()
                    if step is None:
                        continue
                    changed, folders = await self._compare(path + step[0], step[1])
                    for change in changed:
                        yield change
                    if folders:
                        levels.enter(step[0], folders)
                except LibernetError as exc:
                    self.totals.errors += 1
                    yield Change("!", path, str(exc))

    async def _compare(self, path: bytes, found: Found) -> tuple[list[Change], list[Variant]]:
        """Return what changed of one name, and what is to be compared below it."""
        old = next((entry for of, entry in found if of & OLD), None)
        new = next((entry for of, entry in found if of & NEW), None)
        folders = [(of, entry) for of, entry in found if isinstance(entry, FolderEntry)]
        if old is new or (old == new):
            return [], []
        origin = Origin(self._top[-1].origin.root, os.fsdecode(path))
        inside = below(folders, origin)
        if len(inside) == 1 and inside[0].of == OLD | NEW:
            inside = []  # one document, whatever its entries say
        kind = await self._kind(old, new)
        self._count(kind, old, new)
        is_folder = isinstance(new if new is not None else old, FolderEntry)
        changed = [Change(kind, path + (b"/" if is_folder else b""))] if kind else []
        return changed, inside

    async def _kind(self, old: Entry | None, new: Entry | None) -> str:
        if old is None:
            return "+"
        if new is None:
            return "-"
        if isinstance(old, FolderEntry) and isinstance(new, FolderEntry):
            is_same = replace(old.attributes, mtime_ns=0) == replace(new.attributes, mtime_ns=0)
            return "" if is_same else "U"
        if not (isinstance(old, FileEntry) and isinstance(new, FileEntry)) or (
            stat.S_IFMT(old.unix.mode) != stat.S_IFMT(new.unix.mode)
        ):
            return "T"
        if await self._has_other_content(old, new):
            return "M"
        # Which number a file's other names are known by says nothing about it.
        was, is_now = (msgspec.structs.replace(each.unix, link_group=0) for each in (old, new))
        return "" if was == is_now else "U"

    async def _has_other_content(self, old: FileEntry, new: FileEntry) -> bool:
        if old.size != new.size or old.target() != new.target():
            return True
        if old.spilled != new.spilled:  # how long the list is depends on more than the content
            return await self._all_parts(old) != await self._all_parts(new)
        return (old.contents, old.contents_lists) != (new.contents, new.contents_lists)

    async def _all_parts(self, entry: FileEntry) -> list[Part]:
        if not entry.spilled:
            return entry.parts()
        parts: list[Part] = []
        for each in entry.part_lists():
            assert each.reference is not None
            plaintext = await self._chunks.get(each.reference, self._top[-1].origin)
            parts += parse_contents_list(plaintext, size=each.size)
        return parts

    def _count(self, kind: str, old: Entry | None, new: Entry | None) -> None:
        totals = self.totals
        match kind, _what(new if old is None else old):
            case "+", what:
                setattr(totals, f"{what}_new", getattr(totals, f"{what}_new") + 1)
            case "-", what:
                setattr(totals, f"{what}_removed", getattr(totals, f"{what}_removed") + 1)
            case "M", "files":
                totals.files_changed += 1
            case "T", what:
                setattr(totals, f"{what}_removed", getattr(totals, f"{what}_removed") + 1)
                what = _what(new)
                setattr(totals, f"{what}_new", getattr(totals, f"{what}_new") + 1)
        was, is_now = _chunks_of(old), _chunks_of(new)
        totals.bytes_added += sum(is_now[url] for url in is_now.keys() - was.keys())
        totals.bytes_removed += sum(was[url] for url in was.keys() - is_now.keys())


def _what(entry: Entry | None) -> str:
    if isinstance(entry, FolderEntry):
        return "folders"
    is_file = entry is not None and stat.S_ISREG(entry.unix.mode)
    return "files" if is_file else "others"


def _chunks_of(entry: Entry | None) -> dict[str, int]:
    """Return the chunks of a file, or the lists of them, with how many of its bytes they have."""
    if not isinstance(entry, FileEntry):
        return {}
    inlined = {each.url: each.size for each in entry.contents or () if each.url is not None}
    return inlined | {each.url: each.size for each in entry.contents_lists or ()}
