"""The inode numbers of the read-only part, and what each stands for."""

import errno
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable

from libernet.fs.nodes import FolderNode, Node, Spot
from libernet.fs.tree import os_error
from libernet.fs.use_counts import UseCounts

FIRST_VIEW_INO = 1 << 62
"""Read-only nodes have numbers from here on; all below are of the backups, but for the root."""

_FOLDERS = 64
_FOLDER_BYTES = 8 * 1024 * 1024
"""Folders at hand that were looked into last, and what documents that they keep may have of JSON:
parsed, that takes some eight times as much memory, mostly 0.4 MB for each."""

_FEW_LISTS = 1000  # not worth tidying up

_Name = tuple[int, bytes, Hashable]


class NodeNumbers:
    """Give nodes inode numbers, for as long as the view knows them.

    What stands in a list that never changes has a number by its place there, so that the number
    says what it is: such nodes are let go, and made anew by their folder when they are asked for. A
    million of them take the memory of their use counts, 11 bytes each.
    State
      _known     how often the view was given each number, less what it forgot again, and one for
                 each list of the folder that has numbers in use
      _lists     which numbers the lists have whose entries are known
      _nodes     all other nodes, by number
      _names     (parent's number, name, identity) of these, and _numbers the other way round
      _folders   folders in lists that were looked into last, the least recently used first
      _next      the first number that was never given; none is given twice
    """

    def __init__(self, root: FolderNode, root_ino: int) -> None:
        self._root_ino = root_ino
        self._known = UseCounts()
        self._lists = _Lists()
        self._nodes: dict[int, Node] = {root_ino: root}
        self._names: dict[int, _Name] = {}
        self._numbers: dict[_Name, int] = {}
        self._folders: OrderedDict[int, FolderNode] = OrderedDict()
        self._next = FIRST_VIEW_INO

    async def node(self, ino: int) -> Node:
        """Return the node with a number; ESTALE if it was forgotten.

        LibernetError where a document that lists it was here once and cannot be had now.
        """
        way, at = [], ino
        while (node := self._at_hand(at)) is None:
            if at not in self._known:
                raise os_error(errno.ESTALE)
            way.append(at)
            at = self._lists.folder(at)
        # Not recursive: folders may be nested as deep as there are documents.
        for number in reversed(way):
            assert isinstance(node, FolderNode), "only what is in a folder has a place in a list"
            node = await node.at(*self._lists.place(number))
            if isinstance(node, FolderNode):
                self._keep(number, node)
        return node

    def parent(self, ino: int) -> int:
        """Return the number of the folder that a node stands in; the root's is its own."""
        if ino == self._root_ino:
            return ino
        name = self._names.get(ino)
        return self._lists.folder(ino) if name is None else name[0]

    def number(self, parent: int, name: bytes, node: Node) -> int:
        """Return the number of the node that *name* in a folder leads to, and count it given."""
        if node.spot is None:
            ino = self._number_of_name((parent, name, node.identity))
            self._nodes[ino] = node
        else:
            ino = self._number_in_list(parent, node.spot)
        self._known.add(ino)
        return ino

    def forget(self, ino: int, times: int) -> None:
        """Note that the view forgot a number that it was given so many *times*."""
        if ino != self._root_ino and ino not in self._known:
            raise os_error(errno.ESTALE)
        while ino != self._root_ino and not self._known.take(ino, times):
            name = self._names.pop(ino, None)
            if name is not None:
                del self._nodes[ino], self._numbers[name]
                return
            self._folders.pop(ino, None)
            folder = self._lists.leave(ino)
            if folder is None:
                return
            ino, times = folder, 1

    def _at_hand(self, ino: int) -> Node | None:
        if ino in self._folders:
            self._folders.move_to_end(ino)
            return self._folders[ino]
        return self._nodes.get(ino)

    def _keep(self, ino: int, folder: FolderNode) -> None:
        self._folders[ino] = folder
        while len(self._folders) > 1 and (
            len(self._folders) > _FOLDERS
            or sum([each.document_bytes for each in self._folders.values()]) > _FOLDER_BYTES
        ):
            self._folders.popitem(last=False)

    def _number_of_name(self, name: _Name) -> int:
        ino = self._numbers.get(name)
        if ino is None:
            ino = self._next
            self._next += 1
            self._numbers[name] = ino
            self._names[ino] = name
        return ino

    def _number_in_list(self, folder: int, spot: Spot) -> int:
        row = self._lists.find(folder, spot.first)
        if row is None:
            row = self._lists.add(folder, spot.first, self._next)
            self._next += spot.length
            self._known.add(folder)
        ino = self._lists.base(row) + spot.place
        if ino not in self._known:
            self._lists.enter(row)
        return ino


class _Lists:
    """Which numbers the entries of lists have: each list some in a row, without an object for it.

    State
      _bases     the first number of each list, ascending; a place in it is a row
      _folders   the number of the folder that each is of
      _used      how many of its numbers are in use
      _firsts    what tells it from other lists of that folder
      _rows      rows of lists with numbers in use, by folder and first
    """

    def __init__(self) -> None:
        self._bases = array("Q")
        self._folders = array("Q")
        self._used = array("Q")
        self._firsts: list[bytes] = []
        self._rows: dict[tuple[int, bytes], int] = {}

    def find(self, folder: int, first: bytes) -> int | None:
        """Return the row of a list, None if none of its numbers is in use."""
        return self._rows.get((folder, first))

    def add(self, folder: int, first: bytes, base: int) -> int:
        """Give a list the numbers from *base* on, which is above all others; return its row."""
        row = self._rows[folder, first] = len(self._bases)
        self._bases.append(base)
        self._folders.append(folder)
        self._used.append(0)
        self._firsts.append(first)
        return row

    def base(self, row: int) -> int:
        """Return the first number of a list."""
        return self._bases[row]

    def enter(self, row: int) -> None:
        """Note that one more number of a list is in use."""
        self._used[row] += 1

    def leave(self, ino: int) -> int | None:
        """Note that a number is in use no more; return its list's folder if none of that is."""
        row = self._row(ino)
        self._used[row] -= 1
        if self._used[row]:
            return None
        folder = self._folders[row]
        del self._rows[folder, self._firsts[row]]
        if len(self._bases) > max(_FEW_LISTS, 2 * len(self._rows)):
            self._tidy_up()
        return folder

    def folder(self, ino: int) -> int:
        """Return the number of the folder that has a number in a list."""
        return self._folders[self._row(ino)]

    def place(self, ino: int) -> tuple[bytes, int]:
        """Return which list of its folder has a number, and at which place."""
        row = self._row(ino)
        return self._firsts[row], ino - self._bases[row]

    def _row(self, ino: int) -> int:
        return bisect_right(self._bases, ino) - 1

    def _tidy_up(self) -> None:
        """Drop the lists none of whose numbers is in use."""
        kept = [row for row, used in enumerate(self._used) if used]
        self._bases = array("Q", [self._bases[row] for row in kept])
        self._folders = array("Q", [self._folders[row] for row in kept])
        self._used = array("Q", [self._used[row] for row in kept])
        self._firsts = [self._firsts[row] for row in kept]
        places = zip(self._folders, self._firsts, strict=True)
        self._rows = {place: row for row, place in enumerate(places)}
