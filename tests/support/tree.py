"""What a folder holds, down to the last bit that a backup must keep, and how two of them differ."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

_READ_BYTES = 1024 * 1024
_DIFFERENCES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Look:
    """One entry of a folder."""

    type: str
    mode: str
    uid: int
    gid: int
    mtime_ns: int
    size: int
    rdev: int
    content: bytes
    """The SHA-256 of a file, the target of a link."""
    links: tuple[bytes, ...]
    """All paths of the same inode, when there are several."""


Picture = dict[bytes, Look]
"""Everything below a folder by its path relative to that; the folder itself as b"."."""


def picture(root: Path, *, links: bool = True, top: bool = True) -> Picture:
    """Return how everything in *root* looks.

    Without *links* it is not told which names are of one inode, without *top* nothing of *root*
    itself.
    """
    found = {path: os.lstat(full) for path, full in _walk(os.fsencode(root), b"")}
    if top:
        found[b"."] = os.lstat(root)
    groups = _groups(found) if links else {}
    return {
        path: _look(os.path.join(os.fsencode(root), path), status, groups.get(path, ()))
        for path, status in found.items()
    }


def differences(expected: Picture, found: Picture) -> list[str]:
    """Say in a line each what is missing, unexpected, or looks different."""
    told = [f"{path!r} is missing" for path in sorted(expected.keys() - found.keys())]
    told += [f"{path!r} was not expected" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        for name in (field.name for field in fields(Look)):
            wanted, got = getattr(expected[path], name), getattr(found[path], name)
            if wanted != got:
                told.append(f"{path!r}: {name} is {_shown(got)}, expected {_shown(wanted)}")
    return told


def assert_same(expected: Picture, found: Picture) -> None:
    """Fail with the differences if there are any."""
    told = differences(expected, found)
    if told:
        shown = told[:_DIFFERENCES_SHOWN]
        pytest.fail("\n".join([f"{len(told)} differences:", *shown]), pytrace=False)


def without_links(looks: Picture) -> Picture:
    """Return the picture as one that was taken without looking at hard links."""
    return {path: replace(look, links=()) for path, look in looks.items()}


def published(looks: Picture) -> Picture:
    """Return how a published backup looks that was copied from what *looks* like this.

    The folder itself is that of the snapshot, and which names are of one inode is not told.
    """
    found = without_links(looks)
    del found[b"."]
    return found


def _walk(root: bytes, below: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the path of everything below a folder, relative to *root* and in full."""
    with os.scandir(os.path.join(root, below)) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in names:
        path = os.path.join(below, name)
        yield path, os.path.join(root, path)
        if is_folder:
            yield from _walk(root, path)


def _groups(found: dict[bytes, os.stat_result]) -> dict[bytes, tuple[bytes, ...]]:
    """Return for each path with others of its inode all of these."""
    by_inode: dict[tuple[int, int], list[bytes]] = {}
    for path, status in found.items():
        if not stat.S_ISDIR(status.st_mode):
            by_inode.setdefault((status.st_dev, status.st_ino), []).append(path)
    groups = {path: tuple(sorted(paths)) for paths in by_inode.values() for path in paths}
    return {path: paths for path, paths in groups.items() if len(paths) > 1}


def _look(path: bytes, status: os.stat_result, links: tuple[bytes, ...]) -> Look:
    is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
    return Look(
        type=stat.filemode(status.st_mode)[0],
        mode=oct(stat.S_IMODE(status.st_mode)),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if is_file or is_link else 0,
        rdev=status.st_rdev,
        content=_hash(path) if is_file else os.readlink(path) if is_link else b"",
        links=links,
    )


def _hash(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) and len(value) == 32 else repr(value)
