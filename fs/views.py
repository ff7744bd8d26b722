"""The read-only part of the mount: nodes, and the inode numbers that they have while in use."""

import errno
import stat
from collections.abc import Hashable
from itertools import count

from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference, Suite
from libernet.fs.bundle_view import BundleRoot, Bundles
from libernet.fs.journal_reader import Snapshot
from libernet.fs.nodes import Appearance, FolderNode, LinkNode, Node, folder_appearance
from libernet.fs.snapshots import Snapshots
from libernet.fs.tree import os_error

FIRST_VIEW_INO = 1 << 62
"""Read-only nodes have numbers from here on; all below are of the backups, but for the root."""

_LATEST = b"latest"

_Name = tuple[int, bytes, Hashable]


class NodeNumbers:
    """Give nodes inode numbers, for as long as the view knows them.

    State
      _nodes    node by number
      _names    (parent's number, name, identity) by number, and _numbers the other way round
      _known    how often the view was given each number, less what it forgot again
    """

    def __init__(self, root: FolderNode, root_ino: int) -> None:
        self._root_ino = root_ino
        self._nodes: dict[int, Node] = {root_ino: root}
        self._names: dict[int, _Name] = {}
        self._numbers: dict[_Name, int] = {}
        self._known: dict[int, int] = {}
        self._next = count(FIRST_VIEW_INO)

    def node(self, ino: int) -> Node:
        """Return the node with a number; FileNotFoundError if it was forgotten."""
        node = self._nodes.get(ino)
        if node is None:
            raise os_error(errno.ESTALE)
        return node

    def parent(self, ino: int) -> int:
        """Return the number of the folder that a node stands in; the root's is its own."""
        return ino if ino == self._root_ino else self._names[ino][0]

    def number(self, parent: int, name: bytes, node: Node) -> int:
        """Return the number of the node that *name* in a folder leads to, and count it given."""
        key = (parent, name, node.identity)
        ino = self._numbers.get(key)
        if ino is None:
            ino = next(self._next)
            self._numbers[key] = ino
            self._names[ino] = key
        self._nodes[ino] = node
        self._known[ino] = self._known.get(ino, 0) + 1
        return ino

    def forget(self, ino: int, times: int) -> None:
        """Note that the view forgot a number that it was given so many *times*."""
        if ino == self._root_ino:
            return
        self._known[ino] -= times
        if self._known[ino] <= 0:
            del self._known[ino], self._nodes[ino], self._numbers[self._names.pop(ino)]


class FixedFolder(FolderNode):
    """A folder with the same few entries for ever."""

    __slots__ = ("_entries",)

    def __init__(self, appearance: Appearance, entries: dict[bytes, Node]) -> None:
        super().__init__(appearance)
        self._entries = entries

    async def lookup(self, name: bytes) -> Node:
        if name not in self._entries:
            raise os_error(errno.ENOENT)
        return self._entries[name]

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        return _page(self._entries, after, limit)


class SnapshotsFolder(FolderNode):
    """`snapshots/`: a folder for each backup that was ever published."""

    __slots__ = ("_bundles", "_snapshots")
    is_lasting = False

    def __init__(self, appearance: Appearance, snapshots: Snapshots, bundles: Bundles) -> None:
        super().__init__(appearance)
        self._snapshots = snapshots
        self._bundles = bundles

    async def lookup(self, name: bytes) -> Node:
        if name not in self._snapshots.by_name():
            raise os_error(errno.ENOENT)
        return VersionsFolder(self.appearance, name, self._snapshots, self._bundles)

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        folders: dict[bytes, Node] = {
            name: VersionsFolder(self.appearance, name, self._snapshots, self._bundles)
            for name in self._snapshots.by_name()
        }
        return _page(folders, after, limit)


class VersionsFolder(FolderNode):
    """`snapshots/NAME/`: the versions of one backup, and `latest`, a link to the newest."""

    __slots__ = ("_bundles", "_name", "_snapshots")
    is_lasting = False

    def __init__(
        self, appearance: Appearance, name: bytes, snapshots: Snapshots, bundles: Bundles
    ) -> None:
        super().__init__(appearance)
        self._name = name
        self._snapshots = snapshots
        self._bundles = bundles

    async def lookup(self, name: bytes) -> Node:
        versions = self._versions()
        if name == _LATEST and versions:
            return LatestLink(self.appearance, self._name, self._snapshots)
        if name not in versions:
            raise os_error(errno.ENOENT)
        node = self._version(versions[name])
        await node.look_here()
        return node

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        return _page(self._entries(), after, limit)

    def _versions(self) -> dict[bytes, Snapshot]:
        return self._snapshots.by_name().get(self._name, {})

    def _version(self, snapshot: Snapshot) -> BundleRoot:
        look = self.appearance
        published = folder_appearance(look.uid, look.gid, snapshot.published_ns)
        return self._bundles.folder(snapshot.reference, published)

    def _entries(self) -> dict[bytes, Node]:
        versions = self._versions()
        entries: dict[bytes, Node] = {
            name: self._version(snapshot) for name, snapshot in versions.items()
        }
        if versions:
            entries[_LATEST] = LatestLink(self.appearance, self._name, self._snapshots)
        return entries


class AddressFolder(FolderNode):
    """`sha256/`, `sha256/ID/` and `sha256/ID/SUITE/`: answered from syntax alone, listed empty."""

    __slots__ = ("_bundles", "_parts")

    def __init__(
        self, appearance: Appearance, bundles: Bundles, parts: tuple[str, ...] = ()
    ) -> None:
        super().__init__(appearance)
        self._bundles = bundles
        self._parts = parts

    async def lookup(self, name: bytes) -> Node:
        try:
            parts = (*self._parts, name.decode("ascii"))
            # Parsing the address with its missing parts filled in checks those that are there.
            filler = ("0" * 64, Suite.AES256GCM.value, "0" * 64)
            reference = Reference.parse("/sha256/" + "/".join(parts + filler[len(parts) :]))
        except (UnicodeDecodeError, FormatError):
            raise os_error(errno.ENOENT) from None
        if len(parts) == len(filler):
            root = self._bundles.folder(reference, self.appearance)
            await root.look_here()
            return root
        return AddressFolder(self.appearance, self._bundles, parts)

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        return []


class LatestLink(LinkNode):
    """`snapshots/NAME/latest`: leads to the newest version at the moment it is followed."""

    __slots__ = ("_name", "_snapshots")
    is_lasting = False

    def __init__(self, folder: Appearance, name: bytes, snapshots: Snapshots) -> None:
        self._name = name
        self._snapshots = snapshots
        mode = stat.S_IFLNK | 0o777
        size = len(self.target())
        super().__init__(Appearance(mode, size, folder.uid, folder.gid, folder.mtime_ns))

    def target(self) -> bytes:
        versions = self._snapshots.by_name().get(self._name)
        if not versions:
            raise os_error(errno.ENOENT)
        return next(reversed(versions))


def _page(entries: dict[bytes, Node], after: bytes, limit: int) -> list[tuple[bytes, Node]]:
    names = sorted(name for name in entries if name > after)
    return [(name, entries[name]) for name in names[:limit]]
