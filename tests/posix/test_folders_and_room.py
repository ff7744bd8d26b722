"""Listings, as programs go through them, and what statvfs says."""

import ctypes
import os
import stat
from functools import partial
from pathlib import Path

from tests.posix.kinds import KINDS, make
from tests.support.actors import Actor


def test_a_listing_says_what_each_thing_is(root: Actor, place: Path) -> None:
    for kind in KINDS:
        make(root, kind, kind)
    with os.scandir(place) as entries:
        found = {entry.name: entry for entry in entries}
    assert set(found) == set(KINDS)
    for name, entry in found.items():
        look = root.lstat(name)
        assert entry.inode() == look.st_ino
        assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(look.st_mode)
        assert entry.is_symlink() == stat.S_ISLNK(look.st_mode)
        assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(look.st_mode)


def test_a_listing_begins_with_the_folder_and_its_parent(root: Actor, place: Path) -> None:
    root.mkdir("folder")
    root.create("folder/file")
    assert sorted(_names(place / "folder")) == [b".", b"..", b"file"]
    with _Folder(place / "folder") as folder:
        numbers = {}
        while (name := folder.next(dots=True)) is not None:
            numbers[name] = folder.ino
    assert numbers[b"."] == root.stat("folder").st_ino
    assert numbers[b".."] == root.stat(".").st_ino
    root.unlink("folder/file")
    assert sorted(_names(place / "folder")) == [b".", b".."]


def test_a_listing_goes_on_from_any_place_and_from_the_start(root: Actor, place: Path) -> None:
    root.mkdir("folder")
    for number in range(700):
        root.create(f"folder/{number}")
    with _Folder(place / "folder") as folder:
        first, places = [], []
        while (name := folder.next()) is not None:
            first.append(name)
            places.append(folder.tell())
        for index in (0, 1, 300, 500, 699):
            folder.seek(places[index])
            assert folder.next() == [*first, None][index + 1], index
        folder.rewind()
        root.create("folder/new")
        again = list(iter(folder.next, None))
    assert sorted(again) == sorted([*first, b"new"])


def test_what_stays_is_listed_once_whatever_comes_and_goes(root: Actor, place: Path) -> None:
    root.mkdir("folder")
    for number in range(2000):
        root.create(f"folder/{number}")
    seen = []
    with _Folder(place / "folder") as folder:
        while (name := folder.next()) is not None:
            seen.append(name)
            number = len(seen)
            if number % 50 == 7 and number < 2000:
                root.unlink(f"folder/{number}")
                root.create(f"folder/new {number}")
    stayed = [b"%d" % number for number in range(2000) if number % 50 != 7]
    for name in stayed:
        assert seen.count(name) == 1, name


def test_the_room_shown_makes_sense(root: Actor) -> None:
    room = root.statvfs(".")
    assert room.f_namemax == 255
    assert 512 <= room.f_frsize <= room.f_bsize or room.f_frsize == room.f_bsize
    assert 0 < room.f_bavail <= room.f_bfree <= room.f_blocks
    assert 0 < room.f_favail <= room.f_ffree <= room.f_files
    with root.opened(".", os.O_RDONLY) as folder:
        assert root.fstatvfs(folder).f_blocks == room.f_blocks


class _Folder:
    """An open folder, as the C library reads it; `ino` is that of the last name."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.opendir.restype = ctypes.c_void_p
        self._libc.readdir.restype = ctypes.POINTER(_Entry)
        self._libc.telldir.restype = ctypes.c_long
        found = self._libc.opendir(os.fsencode(path))
        assert found, os.strerror(ctypes.get_errno())
        self._folder = ctypes.c_void_p(found)

        self.ino = 0

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._libc.closedir(self._folder)

    def next(self, *, dots: bool = False) -> bytes | None:
        """Return the next name, without the dots if not wanted; None at the end."""
        while entry := self._libc.readdir(self._folder):
            name = bytes(entry.contents.name)
            self.ino = int(entry.contents.ino)
            if dots or name not in {b".", b".."}:
                return name
        return None

    def tell(self) -> int:
        return int(self._libc.telldir(self._folder))

    def seek(self, place: int) -> None:
        self._libc.seekdir(self._folder, ctypes.c_long(place))

    def rewind(self) -> None:
        self._libc.rewinddir(self._folder)


class _Entry(ctypes.Structure):
    """`struct dirent` of 64-bit Linux."""

    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


def _names(path: Path) -> list[bytes]:
    with _Folder(path) as folder:
        return list(iter(partial(folder.next, dots=True), None))
