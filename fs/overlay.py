"""The tree as it is now: what was committed, and the generations not committed yet on top.

Changes go into the *current* generation, in memory. A checkpoint freezes it and starts the next;
until its commit is through, look-ups see current, then frozen, then the journal.
"""

import errno
from bisect import bisect_right
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import chain

import msgspec

from libernet.fs.inode import FIRST_INO, Inode
from libernet.fs.journal import Batch
from libernet.fs.journal_reader import JournalReader

_CLEAN_INODES = 20_000
"""Committed inodes kept at hand: about 8 MB."""

_CLEAN_XATTRS = 64
"""Inodes whose committed extended attributes are kept at hand: at most 16 MiB, mostly 100 KB."""

_PAGE_ENTRIES = 256

_NONE: Mapping[bytes, bytes] = {}


class _Generation:
    """Changes since the last freeze.

    State
      inodes   the newest value of each changed inode, None for a removed one
      entries  by folder: the inode behind each changed name, None for a removed one
      names    by inode: each (folder, name) it was given, though it may have lost that again
      xattrs   all extended attributes of each inode whose attributes changed; xattr_bytes of them
      touched  inodes whose folders must be published again
      fresh    folders made in this generation: the journal knows nothing below them
      _order   by folder: its changed names in order, forgotten when one is added
    """

    __slots__ = (
        "_order",
        "entries",
        "fresh",
        "inodes",
        "names",
        "number",
        "touched",
        "xattr_bytes",
        "xattrs",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.inodes: dict[int, Inode | None] = {}
        self.entries: dict[int, dict[bytes, int | None]] = {}
        self.names: dict[int, list[tuple[int, bytes]]] = {}
        self.xattrs: dict[int, Mapping[bytes, bytes]] = {}
        self.xattr_bytes = 0
        self.touched: set[int] = set()
        self.fresh: set[int] = set()
        self._order: dict[int, list[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self.inodes or self.entries or self.touched)

    def set_entry(self, parent: int, name: bytes, ino: int | None) -> None:
        """Let *name* in a folder lead to *ino*, or to nothing."""
        entries = self.entries.setdefault(parent, {})
        if name not in entries:
            self._order.pop(parent, None)
        entries[name] = ino
        if ino is not None:
            self.names.setdefault(ino, []).append((parent, name))
        self.touched.add(parent)

    def set_xattrs(self, ino: int, xattrs: Mapping[bytes, bytes] | None) -> None:
        """Let an inode have *xattrs* and no others; None: it is no more."""
        self.xattr_bytes -= _xattr_bytes(self.xattrs.pop(ino, _NONE))
        if xattrs is not None:
            self.xattrs[ino] = xattrs
            self.xattr_bytes += _xattr_bytes(xattrs)

    def ordered_names(self, parent: int, after: bytes, count: int) -> list[bytes]:
        """Return up to *count* changed names of a folder behind *after*, in order."""
        if parent not in self.entries:
            return []
        order = self._order.get(parent)
        if order is None:
            order = self._order[parent] = sorted(self.entries[parent])
        start = bisect_right(order, after)
        return order[start : start + count]


class Overlay:
    """Read and change inodes and names, in memory.

    State
      _layers   the current generation and, while a checkpoint runs, the frozen one behind it
      _clean    committed inodes, bounded, oldest dropped first; _clean_xattrs likewise
      next_ino  never given out yet; _unknown_ino, from which on the journal has none
    Everything here runs in the event loop's thread, and nothing waits.
    """

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._layers = [_Generation(reader.meta("generation") + 1)]
        self._clean: dict[int, Inode] = {}
        self._clean_xattrs: dict[int, Mapping[bytes, bytes]] = {}
        self._next_ino = self._unknown_ino = max(reader.meta("next_ino"), FIRST_INO)

    @property
    def generation(self) -> int:
        """The number of the generation that changes go into."""
        return self._layers[0].number

    @property
    def is_dirty(self) -> bool:
        """Whether anything is not committed yet."""
        return any(self._layers)

    @property
    def is_current_dirty(self) -> bool:
        """Whether the current generation has anything in it."""
        return bool(self._layers[0])

    def new_ino(self) -> int:
        """Return an inode number that was never used."""
        self._next_ino += 1
        return self._next_ino - 1

    def is_new(self, ino: int) -> bool:
        """Return whether the journal was never told of the inode, nor is it being told."""
        return ino >= self._unknown_ino

    def is_committed(self, ino: int) -> bool:
        """Return whether the inode and its extended attributes are as the journal has them."""
        return not any(ino in layer.inodes for layer in self._layers)

    def find(self, ino: int) -> Inode | None:
        """Return the inode, or None if there is none."""
        for layer in self._layers:
            if ino in layer.inodes:
                return layer.inodes[ino]
        inode = self._clean.get(ino)
        if inode is None:
            inode = self._reader.inode(ino)
            if inode is not None:
                self._remember(inode)
        return inode

    def inode(self, ino: int) -> Inode:
        """Return the inode; FileNotFoundError if there is none."""
        inode = self.find(ino)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, f"there is no inode {ino}")
        return inode

    def child(self, parent: int, name: bytes) -> int | None:
        """Return the inode behind *name* in a folder, or None."""
        for layer in self._layers:
            names = layer.entries.get(parent)
            if names is not None and name in names:
                return names[name]
            if parent in layer.fresh:
                return None
        return self._reader.child(parent, name)

    def children(self, parent: int, after: bytes, limit: int) -> list[tuple[bytes, Inode]]:
        """Return up to *limit* of a folder's entries behind the name *after*, by name.

        Fewer only at the end.
        """
        found: list[tuple[bytes, Inode]] = []
        while len(found) < limit:
            names, committed, end = self._next_names(parent, after, max(limit, _PAGE_ENTRIES))
            for name in names:
                inode = self._now(parent, name, committed.get(name))
                if inode is not None:
                    found.append((name, inode))
            if end is None:
                break
            after = end
        return found[:limit]

    def is_empty(self, parent: int) -> bool:
        """Return whether a folder has no entries."""
        return not self.children(parent, b"", 1)

    def parents(self, ino: int) -> Generator[int, None, None]:
        """Yield the folders in which *ino* has a name, which nothing may change meanwhile.

        Whoever needs only some of them reads only some of its names, which can be 65,000.
        """
        added = [layer.names.get(ino, ()) for layer in self._layers]
        with closing(self._reader.each_name(ino)) as committed:
            for parent, name in chain(*added, committed):
                if self.child(parent, name) == ino:
                    yield parent

    def xattrs(self, inode: Inode) -> Mapping[bytes, bytes]:
        """Return all extended attributes of an inode, which is as it is now, by name."""
        if not inode.has_xattrs:
            return _NONE
        for layer in self._layers:
            if inode.ino in layer.xattrs:
                return layer.xattrs[inode.ino]
        xattrs = self._clean_xattrs.get(inode.ino)
        if xattrs is None:
            xattrs = self._clean_xattrs[inode.ino] = self._reader.xattrs(inode.ino)
            if len(self._clean_xattrs) > _CLEAN_XATTRS:
                del self._clean_xattrs[next(iter(self._clean_xattrs))]
        return xattrs

    @property
    def xattr_bytes(self) -> int:
        """How many bytes of extended attributes are not committed yet."""
        return sum(layer.xattr_bytes for layer in self._layers)

    def put_xattrs(self, inode: Inode, xattrs: Mapping[bytes, bytes]) -> Inode:
        """Let *inode* be the value of its number, with *xattrs* and no others; return it so."""
        self._layers[0].set_xattrs(inode.ino, xattrs)
        self._clean_xattrs.pop(inode.ino, None)
        changed = msgspec.structs.replace(inode, has_xattrs=bool(xattrs))
        self.put(changed, touch=inode.nlink > 0)
        return changed

    def put(self, inode: Inode, *, touch: bool = True) -> None:
        """Let *inode* be the value of its number from now on."""
        layer = self._layers[0]
        layer.inodes[inode.ino] = inode
        if touch:
            layer.touched.add(inode.ino)

    def make(self, inode: Inode) -> None:
        """Add a new inode, which no name leads to yet."""
        self._layers[0].inodes[inode.ino] = inode
        if inode.is_folder:
            self._layers[0].fresh.add(inode.ino)

    def drop(self, ino: int) -> None:
        """Remove an inode to which no name leads."""
        self._layers[0].inodes[ino] = None
        self._layers[0].set_xattrs(ino, None)
        self._clean_xattrs.pop(ino, None)
        self._layers[0].touched.discard(ino)

    def touch(self, ino: int) -> None:
        """Note that what is at or below *ino* must be published again."""
        self._layers[0].touched.add(ino)

    def set_child(self, parent: int, name: bytes, ino: int | None) -> None:
        """Let *name* in a folder lead to *ino*, or to nothing."""
        self._layers[0].set_entry(parent, name, ino)

    def freeze(self) -> Batch:
        """Close the current generation and return what it changes; the next begins.

        Only one generation is frozen at a time: committed() must have been called for the last.
        """
        assert len(self._layers) == 1, "a frozen generation is still to be committed"
        frozen = self._layers[0]
        self._layers.insert(0, _Generation(frozen.number + 1))
        self._unknown_ino = self._next_ino
        return Batch(
            generation=frozen.number,
            next_ino=self._next_ino,
            inodes=[inode for inode in frozen.inodes.values() if inode is not None],
            dropped=[ino for ino, inode in frozen.inodes.items() if inode is None],
            entries=[
                (parent, name, ino)
                for parent, names in frozen.entries.items()
                for name, ino in names.items()
            ],
            touched=frozen.touched,
            xattrs=frozen.xattrs,
        )

    def committed(self) -> None:
        """Let go of the frozen generation: the journal has it now."""
        frozen = self._layers.pop()
        for ino, inode in frozen.inodes.items():
            if inode is None:
                self._clean.pop(ino, None)
            else:
                self._remember(inode)

    def _remember(self, inode: Inode) -> None:
        self._clean.pop(inode.ino, None)
        self._clean[inode.ino] = inode
        if len(self._clean) > _CLEAN_INODES:
            del self._clean[next(iter(self._clean))]

    def _next_names(
        self, parent: int, after: bytes, count: int
    ) -> tuple[list[bytes], dict[bytes, Inode], bytes | None]:
        """Return names behind *after* in order, in whatever layer they are or were.

        With them the committed inodes among them, and the name up to which they are complete,
        None when there are no more.
        """
        is_fresh = any(parent in layer.fresh for layer in self._layers)
        page = [] if is_fresh else self._reader.children(parent, after, count)
        committed = dict(page)
        parts = [list(committed)]
        parts += [layer.ordered_names(parent, after, count) for layer in self._layers]
        end = min((part[-1] for part in parts if len(part) == count), default=None)
        names = {name for part in parts for name in part if end is None or name <= end}
        return sorted(names), committed, end

    def _now(self, parent: int, name: bytes, committed: Inode | None) -> Inode | None:
        """Return what a name leads to now, *committed* being what the journal says."""
        for layer in self._layers:
            names = layer.entries.get(parent)
            if names is not None and name in names:
                ino = names[name]
                return None if ino is None else self.find(ino)
        if committed is None:
            return None
        for layer in self._layers:
            if committed.ino in layer.inodes:
                return layer.inodes[committed.ino]
        return committed


def _xattr_bytes(xattrs: Mapping[bytes, bytes]) -> int:
    return sum(len(name) + len(value) for name, value in xattrs.items())
