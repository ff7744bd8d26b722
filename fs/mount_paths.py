"""What commands mean by a path below the mount point."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from libernet.blocks.addresses import Address
from libernet.blocks.errors import LibernetError
from libernet.blocks.reference import Reference, Suite
from libernet.fs.bundle_view import BundleFolder, Bundles
from libernet.fs.inode import ROOT_INO
from libernet.fs.leases import Leases
from libernet.fs.nodes import FolderNode, Incomplete, Node
from libernet.fs.publisher import Publisher
from libernet.fs.snapshots import Snapshots
from libernet.fs.tree import Tree, os_error
from libernet.fs.views import LatestLink

_WHOLE = {"backups": 2, "snapshots": 3, "bundles": 2, "sha256": 4, "sha384": 2}
"""Of how many parts the path of a whole tree consists, by the folder that all those stand in."""

_PLAIN = 2  # where the suite stands in an address; behind this one there is no key


class MountPaths:
    """Find what stands at a path, in a form that stays as it is.

    *root* is the folder that is mounted, without `backups/`.
    """

    def __init__(
        self,
        root: FolderNode,
        bundles: Bundles,
        tree: Tree,
        publisher: Publisher,
        snapshots: Snapshots,
        leases: Leases,
    ) -> None:
        self._root = root
        self._bundles = bundles
        self._tree = tree
        self._publisher = publisher
        self._snapshots = snapshots
        self._leases = leases

    @asynccontextmanager
    async def lasting(self, path: str) -> AsyncIterator[tuple[bytes, Node]]:
        """Provide the name and node of what stands at *path*, of a backup in its newest version.

        That is published if it never was. No links are followed, but for `latest`. What it needs of
        one's own stays while the body runs. Raises LibernetError where that is nothing, or more
        than one tree, and OSError.
        """
        with ExitStack() as lease:
            with self._leases.held(self._snapshots.references()):  # one of these, if it is any
                name, node = await self._at(path)
                lease.enter_context(self._leases.held(_opening(path, node)))
            yield name, node

    async def _at(self, path: str) -> tuple[bytes, Node]:
        parts = parts_of(path)
        if not _is_in_one_tree(parts):
            raise LibernetError(
                f"{path!r} is neither a backup (backups/NAME), a snapshot (snapshots/NAME/TIME), an"
                " opened bundle (bundles/NAME) nor an address (sha256/ID/SUITE/KEY, sha256/ID/plain"
                " or sha384/SD_HASH), and in none of them"
            )
        names = [os.fsencode(part) for part in parts]
        node: Node = self._root
        if parts[0] == "backups":
            node = await self._newest(names[1])
            names = names[2:]
        for name in names:
            node = await _below(node, name)
        return os.fsencode(parts[-1]), node

    async def opened(self, address: Address) -> tuple[bytes, Node]:
        """Return the name and node of what a reference leads to; its own name is its id.

        Raises LibernetError where it cannot be read, and OSError where there is nothing.
        """
        if isinstance(address, Reference):
            node: Node = self._bundles.folder(address.block, self._root.appearance)
            name, path = str(address.id).encode(), address.path
        else:
            file = () if address.file_name is None else (address.file_name,)
            name, path = b"sha384", (str(address.sd_hash).encode(), *file)
            node = await self._root.lookup(name)
        for name in path:
            node = await _below(node, name)
        return name, node

    @asynccontextmanager
    async def tree(self, name: str) -> AsyncIterator[BundleFolder]:
        """Provide the folder of a bundle that a path or a reference names, all of it that is here.

        Raises what `lasting` and `opened` do, LibernetError for what is no folder.
        """
        if name.startswith("/sha256/"):
            _, node = await self.opened(Reference.parse(name))
            yield await _whole(name, node)
        else:
            async with self.lasting(name) as (_, node):
                yield await _whole(name, node)

    async def _newest(self, name: bytes) -> FolderNode:
        backup = self._tree.lookup(ROOT_INO, name)
        snapshot = await self._publisher.publish(backup.ino)
        return self._bundles.folder(snapshot.reference, self._root.appearance)


def is_ours(path: str) -> bool:
    """Return whether what stands at a path was made here, and not by whoever gave a reference."""
    return parts_of(path)[:1] in (["backups"], ["snapshots"])


def _is_in_one_tree(parts: list[str]) -> bool:
    if not parts or parts[0] not in _WHOLE:
        return False
    return len(parts) >= _WHOLE[parts[0]] or parts[_PLAIN:] == [Suite.PLAIN.value]


async def _whole(name: str, node: Node) -> BundleFolder:
    if not isinstance(node, BundleFolder):
        raise LibernetError(f"{name!r} is no folder")
    first = await node.children(b"", 1)  # what a bundle of the original's lacks comes now
    if isinstance(first, Incomplete):
        raise first.error
    return node


def _opening(path: str, node: Node) -> list[Reference]:
    """Return what opens a node of one's own: what others made goes with the cache."""
    address = node.address() if is_ours(path) else None
    return [] if address is None else [Reference.parse(address).block]


async def _below(folder: Node, name: bytes) -> Node:
    if not isinstance(folder, FolderNode):
        raise os_error(errno.ENOTDIR)
    node = await folder.lookup(name)
    return await folder.lookup(node.target()) if isinstance(node, LatestLink) else node


def parts_of(path: str) -> list[str]:
    """Return the names that a path below the mount point consists of."""
    return [part for part in path.split("/") if part not in {"", "."}]


@contextmanager
def told(path: str, done: str) -> Iterator[None]:
    """Say in a sentence what an OSError means for what is *done* (shared, ...) with a path."""
    try:
        yield
    except FileNotFoundError:
        raise LibernetError(f"there is no {path!r} in the mount") from None
    except NotADirectoryError:
        raise LibernetError(
            f"{path!r} goes on below something that is no folder; links are not followed"
        ) from None
    except OSError as error:
        raise LibernetError(f"{path!r} cannot be {done}: {error.strerror}") from error
