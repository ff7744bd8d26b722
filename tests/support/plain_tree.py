"""The plainest model of a tree of files: nested dicts and bytearrays, by POSIX's rules."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from libernet.fs.tree import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.support.caller import OWNER, Seen, canonical


@dataclass(eq=False)
class Item:
    """A file, folder or link; the same object under each of its names."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytearray = field(default_factory=bytearray)
    entries: dict[str, "Item"] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class PlainTree:
    """What `backups/` should hold. Paths begin below it; `now` is the time of the next change."""

    def __init__(self) -> None:
        self.now = 0
        self.top = Item(stat.S_IFDIR | 0o755, *OWNER, 0)

    def item(self, path: str) -> Item:
        found = self.top
        for name in path.split("/") if path else []:
            if not found.is_folder:
                raise _error(errno.ENOTDIR)
            if name not in found.entries:
                raise _error(errno.ENOENT)
            found = found.entries[name]
        return found

    def walk(self) -> Iterator[tuple[str, Item]]:
        """Yield everything but the top, parents first."""
        waiting = [("", self.top)]
        while waiting:
            below, folder = waiting.pop(0)
            for name, item in sorted(folder.entries.items()):
                path = f"{below}/{name}" if below else name
                yield path, item
                if item.is_folder:
                    waiting.append((path, item))

    def make(self, path: str, mode: int, content: bytes = b"") -> Item:
        folder, name = self._parent(path)
        if folder is self.top and not stat.S_ISDIR(mode):
            raise _error(errno.EPERM)
        if name in folder.entries:
            raise _error(errno.EEXIST)
        uid, gid = OWNER
        if folder.mode & stat.S_ISGID:
            gid = folder.gid
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        item = folder.entries[name] = Item(mode, uid, gid, self.now, bytearray(content))
        folder.mtime_ns = self.now
        return item

    def write(self, item: Item, offset: int, content: bytes) -> None:
        item.content.extend(bytes(max(0, offset - len(item.content))))
        item.content[offset : offset + len(content)] = content
        item.mtime_ns = self.now

    def truncate(self, path: str, size: int) -> None:
        item = self.item(path)
        if not item.is_file:
            raise _error(errno.EISDIR if item.is_folder else errno.EINVAL)
        del item.content[size:]
        item.content.extend(bytes(size - len(item.content)))
        item.mtime_ns = self.now

    def set_xattr(self, path: str, name: bytes, value: bytes) -> None:
        item = self.item(path)
        if name.startswith(b"user.") and not (item.is_file or item.is_folder):
            raise _error(errno.EPERM)
        item.xattrs[name] = value

    def remove_xattr(self, path: str, name: bytes) -> None:
        if self.item(path).xattrs.pop(name, None) is None:
            raise _error(errno.ENODATA)

    def link(self, path: str, new: str) -> None:
        item = self.item(path)
        folder, name = self._parent(new)
        if name in folder.entries:
            raise _error(errno.EEXIST)
        if item.is_folder or folder is self.top:
            raise _error(errno.EPERM)
        homes = {each.split("/")[0] for each, other in self.walk() if other is item}
        if new.split("/", maxsplit=1)[0] not in homes:
            raise _error(errno.EXDEV)
        folder.entries[name] = item
        folder.mtime_ns = self.now

    def unlink(self, path: str) -> None:
        if self.item(path).is_folder:
            raise _error(errno.EISDIR)
        self._take(path)

    def rmdir(self, path: str) -> None:
        item = self.item(path)
        if not item.is_folder:
            raise _error(errno.ENOTDIR)
        if item.entries:
            raise _error(errno.ENOTEMPTY)
        self._take(path)

    def rename(self, path: str, new: str, flags: int) -> None:
        moved = self.item(path)
        folder, name = self._parent(new)
        target = folder.entries.get(name)
        self._check_rename(path, new, (moved, target), flags)
        if flags & RENAME_EXCHANGE:
            old_folder, old_name = self._parent(path)
            assert target is not None
            old_folder.entries[old_name], folder.entries[name] = target, moved
            old_folder.mtime_ns = folder.mtime_ns = self.now
            return
        if target is moved:
            return
        if target is not None:
            (self.rmdir if target.is_folder else self.unlink)(new)
        self._take(path)
        folder.entries[name] = moved
        folder.mtime_ns = self.now

    def picture(self) -> dict[str, Seen]:
        """Return how everything below the top looks."""
        counts: dict[int, int] = {}
        first_paths: dict[int, str] = {}
        items = dict(self.walk())
        for path, item in items.items():
            counts[id(item)] = counts.get(id(item), 0) + 1
            first_paths.setdefault(id(item), path)
        return canonical(
            {
                path: _seen(item, counts[id(item)], first_paths[id(item)])
                for path, item in items.items()
            }
        )

    def _parent(self, path: str) -> tuple[Item, str]:
        folder, _, name = path.rpartition("/")
        item = self.item(folder)
        if not item.is_folder:
            raise _error(errno.ENOTDIR)
        return item, name

    def _take(self, path: str) -> None:
        folder, name = self._parent(path)
        del folder.entries[name]
        folder.mtime_ns = self.now

    def _check_rename(
        self, path: str, new: str, items: tuple[Item, Item | None], flags: int
    ) -> None:
        moved, target = items
        if target is None and flags & RENAME_EXCHANGE:
            raise _error(errno.ENOENT)
        if target is not None and flags & RENAME_NOREPLACE:
            raise _error(errno.EEXIST)
        if "/" not in new and not moved.is_folder:
            raise _error(errno.EPERM)
        if moved.is_folder and f"{new}/".startswith(f"{path}/") and target is not moved:
            raise _error(errno.EINVAL)
        if target is None or target is moved:
            return
        if flags & RENAME_EXCHANGE:
            if "/" not in path and not target.is_folder:
                raise _error(errno.EPERM)
            if target.is_folder and path.startswith(f"{new}/"):
                raise _error(errno.EINVAL)
        elif target.is_folder != moved.is_folder:
            raise _error(errno.EISDIR if target.is_folder else errno.ENOTDIR)


def _seen(item: Item, count: int, first_path: str) -> Seen:
    folders = sum(1 for child in item.entries.values() if child.is_folder)
    nlink = 2 + folders if item.is_folder else count
    content = bytes(item.content)
    return Seen(
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        size=len(content),
        mtime_ns=item.mtime_ns,
        nlink=nlink,
        content=content,
        same_as=first_path,
        xattrs=dict(item.xattrs),
    )


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
