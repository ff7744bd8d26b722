"""The folders of the read-only part that no document describes."""

import errno
import stat

from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference, Suite
from libernet.fs.bundle_view import BundleRoot, Bundles
from libernet.fs.journal_reader import Snapshot
from libernet.fs.nodes import Appearance, FolderNode, LinkNode, Node, folder_appearance
from libernet.fs.snapshots import Snapshots
from libernet.fs.tree import os_error

_LATEST = b"latest"


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
    """`sha256/`, `sha256/ID/` and `sha256/ID/SUITE/`: answered from syntax alone, listed empty.

    Blocks that are not sealed have no key: `sha256/ID/plain/` is the bundle itself.
    """

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
            is_plain = parts[1:] == (Suite.PLAIN.value,)
            whole = parts if is_plain else parts + filler[len(parts) :]
            reference = Reference.parse("/sha256/" + "/".join(whole))
        except (UnicodeDecodeError, FormatError):
            raise os_error(errno.ENOENT) from None
        if parts == whole:
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
