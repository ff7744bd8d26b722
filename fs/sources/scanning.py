"""What a folder of this machine holds, as far as it is backed up."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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
    """What a folder is and what is in it, by name: what is *skipped*, or unknown for *errors*."""

    status: os.stat_result
    xattrs: Mapping[bytes, bytes]
    entries: list[Found] = field(default_factory=list)
    left_out: int = 0
    skipped: list[bytes] = field(default_factory=list)
    errors: dict[bytes, OSError] = field(default_factory=dict)


class Scanner:
    """List folders below *top*, an absolute path; any thread may, and nothing is written."""

    def __init__(self, top: bytes, selection: Selection) -> None:
        """Begin with a top folder; raises OSError when it is none that can be looked at."""
        self.top = top
        self._selection = selection
        self._device = os.lstat(top).st_dev

    def full(self, below: bytes) -> bytes:
        """Return the absolute path of what stands at a path below the top folder."""
        return os.path.join(self.top, below) if below else self.top

    def list(self, below: bytes) -> Listing:
        """Return what is in the folder at a path below the top one; OSError when nobody knows."""
        folder = self.full(below)
        names = sorted(os.listdir(folder))
        only = self._selection.shows_only(folder, names)
        found = Listing(os.lstat(folder), read_xattrs(folder))
        for name in names:
            path = os.path.join(folder, name)
            if self._selection.is_untouchable(path):
                found.skipped.append(path)
                continue
            try:
                entry = _entry(path, name)
            except FileNotFoundError:
                continue  # it went while we looked
            except OSError as exc:
                found.errors[name] = exc
                continue
            if self._selection.is_own(entry.status):
                found.skipped.append(path)
                continue
            beneath = os.path.join(below, name)
            is_wanted = self._selection.takes(beneath, entry.status, self._device)
            if is_wanted and only in {None, name}:
                found.entries.append(entry)
            else:
                found.left_out += 1
        return found

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


def _entry(path: bytes, name: bytes) -> Found:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind in {stat.S_IFREG, stat.S_IFDIR}:
        return Found(name, status)
    target = os.readlink(path) if kind == stat.S_IFLNK else b""
    return Found(name, status, target, read_xattrs(path))
