"""What a folder of this machine holds, as far as it is backed up."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from libernet.fs.own_places import OwnPlaces
from libernet.fs.sources.reading import read_xattrs
from libernet.fs.sources.rules import Selection


@dataclass(frozen=True, slots=True)
class Found:
    """An entry: *status* as lstat tells, *target* the text of a link.

    *xattrs* are those of a link or special file: a file's are read with it, a folder's when it is
    listed.
    """

    name: bytes
    status: os.stat_result
    target: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def size(self) -> int:
        return self.status.st_size if self.is_file else 0


@dataclass(slots=True)
class Listing:
    """What a folder is and what is in it, by name: what is *skipped*, or unknown for *errors*.

    A folder that something else is mounted on has nothing in it where that is not backed up.
    """

    status: os.stat_result
    xattrs: Mapping[bytes, bytes]
    entries: list[Found] = field(default_factory=list)
    left_out: int = 0
    skipped: list[bytes] = field(default_factory=list)
    errors: dict[bytes, OSError] = field(default_factory=dict)


class Scanner:
    """List folders below *top*, an absolute path; any thread may, and nothing is written."""

    def __init__(self, top: bytes, selection: Selection, own: OwnPlaces) -> None:
        """Begin with a top folder; raises OSError when it is none that can be looked at."""
        self.top = top
        self.selection = selection
        self._own = own
        self._device = os.lstat(top).st_dev

    def full(self, below: bytes) -> bytes:
        """Return the absolute path of what stands at a path below the top folder."""
        return os.path.join(self.top, below) if below else self.top

    def list(self, below: bytes) -> Listing:
        """Return what is in the folder at a path below the top one; OSError when nobody knows."""
        folder = self.full(below)
        if folder in self._own.mounts:
            return Listing(os.lstat(os.path.dirname(folder)), {}, skipped=[folder])
        found = Listing(os.lstat(folder), read_xattrs(folder))
        if not self.selection.enters(found.status, self._device):
            found.left_out += 1
            return found
        names = sorted(os.listdir(folder))
        only = self.selection.shows_only(folder, names)
        for name in names:
            path = os.path.join(folder, name)
            try:
                entry = self._entry(path, name, found.status)
            except FileNotFoundError:
                continue  # it went while we looked
            except OSError as exc:
                found.errors[name] = exc
                continue
            if self._own.has(path, entry.status):
                found.skipped.append(path)
            elif self.selection.takes(os.path.join(below, name), entry.status) and (
                only in {None, name}
            ):
                found.entries.append(entry)
            else:
                found.left_out += 1
        return found

    def _entry(self, path: bytes, name: bytes, above: os.stat_result) -> Found:
        """Return what stands at a path; a mount of Libernet's is a folder that looks as *above*."""
        if path in self._own.mounts:
            return Found(name, above)
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if kind in {stat.S_IFREG, stat.S_IFDIR}:
            return Found(name, status)
        target = os.readlink(path) if kind == stat.S_IFLNK else b""
        return Found(name, status, target, read_xattrs(path))

    def totals(self) -> Iterator[tuple[int, int]]:
        """Yield, folder by folder, how many entries that are no folders there are, and bytes."""
        waiting = [b""]
        while waiting:
            below = waiting.pop()
            try:
                entries = self.list(below).entries
            except OSError:
                continue  # whoever reads it is told
            waiting += [os.path.join(below, each.name) for each in entries if each.is_folder]
            files = [each.size for each in entries if not each.is_folder]
            yield len(files), sum(files)
