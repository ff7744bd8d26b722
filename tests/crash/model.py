"""What a folder holds after each step: the model that a recovered tree is compared with."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_POOL_BYTES = 4 * 1024 * 1024


class _Pool:
    """Bytes that compress badly and repeat never, the same ones each time."""

    content = b""

    @classmethod
    def part(cls, start: int, length: int) -> bytes:
        if not cls.content:
            cls.content = hashlib.shake_128(b"crash").digest(_POOL_BYTES)
        start %= _POOL_BYTES - length
        return cls.content[start : start + length]


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that a step writes: a part of *source*, a file outside, or of the pool for ''."""

    start: int
    length: int
    source: str = ""

    def read(self) -> bytes:
        if not self.source:
            return _Pool.part(self.start, self.length)
        with open(self.source, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


@dataclass(frozen=True, slots=True)
class Step:
    """One system call; paths are relative to the folder, '' is the folder itself.

    `value` is what the call takes beside: a mode, offset, size or time in nanoseconds; `other` the
    new name of rename and link, the text of a symbolic link, the name of an extended attribute.
    """

    call: str
    path: str
    value: int = 0
    other: str = ""
    content: Content | None = None


@dataclass(slots=True, eq=False)
class Item:
    """A file, folder or symbolic link; `mtime_ns` is None unless a step has set it.

    `xattrs` are the digests of extended attributes, by name.
    """

    kind: str
    mode: int
    target: str = ""
    content: bytearray = field(default_factory=bytearray)
    mtime_ns: int | None = None
    xattrs: dict[str, str] = field(default_factory=dict)
    _digest: str = ""

    def changed(self) -> None:
        self.mtime_ns = None
        self._digest = ""

    def digest(self) -> str:
        if not self._digest:
            self._digest = digest(self.content)
        return self._digest


class Tree:
    """The folder's items by path. Hard links are one item under several paths."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {"": Item("folder", 0o755)}

    def apply(self, step: Step) -> None:
        """Do what the system call does; a call without an effect on the tree does nothing."""
        effect = getattr(self, f"_{step.call}", None)
        if effect is not None:
            effect(step)

    def content_bytes(self) -> int:
        return sum(len(item.content) for item in self.items.values())

    def names_of(self, item: Item) -> list[str]:
        return sorted(path for path, each in self.items.items() if each is item)

    def is_empty(self, folder: str) -> bool:
        return not any(path.startswith(f"{folder}/") for path in self.items)

    def differences(self, seen: dict[str, dict[str, Any]], *, hard_links: bool = True) -> list[str]:
        """Say how the tree that observe() has seen is another than this one."""
        found = [f"{path!r} is missing" for path in self.items.keys() - seen.keys()]
        found += [f"{path!r} should not be there" for path in seen.keys() - self.items.keys()]
        first_names: dict[int, str] = {}
        for path, item in sorted(self.items.items()):
            first = first_names.setdefault(id(item), path) if hard_links else path
            if path in seen:
                found += _difference(path, item, first, seen[path])
        return found

    def _mkdir(self, step: Step) -> None:
        self._add(step.path, Item("folder", step.value))

    def _create(self, step: Step) -> None:
        self._add(step.path, Item("file", step.value))

    def _symlink(self, step: Step) -> None:
        self._add(step.path, Item("link", 0o777, target=step.other))

    def _link(self, step: Step) -> None:
        self._add(step.other, self.items[step.path])

    def _unlink(self, step: Step) -> None:
        del self.items[step.path]
        self.items[parent(step.path)].changed()

    _rmdir = _unlink

    def _rename(self, step: Step) -> None:
        moved = self.items[step.path]
        if self.items.get(step.other) is moved:
            return  # two names of one inode: POSIX says nothing happens
        below = [path for path in self.items if path.startswith(f"{step.path}/")]
        for path in [step.path, *below]:
            self.items[step.other + path[len(step.path) :]] = self.items.pop(path)
        self.items[parent(step.path)].changed()
        self.items[parent(step.other)].changed()

    def _write(self, step: Step) -> None:
        assert step.content is not None
        item, written = self.items[step.path], step.content.read()
        item.content.extend(bytes(max(0, step.value - len(item.content))))
        item.content[step.value : step.value + len(written)] = written
        item.changed()

    def _truncate(self, step: Step) -> None:
        item = self.items[step.path]
        del item.content[step.value :]
        item.content.extend(bytes(step.value - len(item.content)))
        item.changed()

    def _chmod(self, step: Step) -> None:
        self.items[step.path].mode = step.value

    def _utimens(self, step: Step) -> None:
        self.items[step.path].mtime_ns = step.value

    def _setxattr(self, step: Step) -> None:
        assert step.content is not None
        self.items[step.path].xattrs[step.other] = digest(step.content.read())

    def _removexattr(self, step: Step) -> None:
        del self.items[step.path].xattrs[step.other]

    def _add(self, path: str, item: Item) -> None:
        assert path not in self.items
        self.items[path] = item
        self.items[parent(path)].changed()


def parent(path: str) -> str:
    """Return the folder that *path* stands in."""
    return path.rpartition("/")[0]


def digest(content: bytes | bytearray) -> str:
    """Return what stands for the bytes of a file."""
    return hashlib.sha256(content).hexdigest()


def observe(folder: Path) -> dict[str, dict[str, Any]]:
    """Return how everything in *folder* looks, by relative path, read through the mount."""
    seen: dict[str, dict[str, Any]] = {}
    first_names: dict[int, str] = {}
    for path in sorted(_paths(folder)):
        name = str(path.relative_to(folder)) if path != folder else ""
        status = os.lstat(path)
        look: dict[str, Any] = {
            "mode": stat.S_IMODE(status.st_mode),
            "mtime_ns": status.st_mtime_ns,
            "nlink": status.st_nlink,
            "xattrs": {
                each: digest(os.getxattr(path, each, follow_symlinks=False))
                for each in os.listxattr(path, follow_symlinks=False)
            },
        }
        if stat.S_ISDIR(status.st_mode):
            look["kind"] = "folder"
        elif stat.S_ISLNK(status.st_mode):
            look |= {"kind": "link", "target": os.readlink(path)}
        else:
            content = path.read_bytes()
            look |= {"kind": "file", "size": len(content), "digest": digest(content)}
            look["stat_size"] = status.st_size
            look["first_name"] = first_names.setdefault(status.st_ino, name)
        seen[name] = look
    return seen


def _paths(folder: Path) -> list[Path]:
    found = [folder]
    for root, folders, files in os.walk(folder):
        found += [Path(root, name) for name in folders + files]
    return found


def _difference(path: str, item: Item, first_name: str, seen: dict[str, Any]) -> list[str]:
    wanted: dict[str, Any] = {"kind": item.kind, "xattrs": item.xattrs}
    if path:
        wanted["mode"] = item.mode
    if item.mtime_ns is not None:
        wanted["mtime_ns"] = item.mtime_ns
    if item.kind == "link":
        wanted["target"] = item.target
    if item.kind == "file":
        wanted |= {"size": len(item.content), "stat_size": len(item.content)}
        wanted["first_name"] = first_name
        if seen.get("size") == len(item.content):
            wanted["digest"] = item.digest()
    return [
        f"{path!r} has {key} {seen.get(key)!r} and not {value!r}"
        for key, value in wanted.items()
        if seen.get(key) != value
    ]
