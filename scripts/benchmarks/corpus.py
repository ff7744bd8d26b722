"""The files that are copied: one large random file, and a tree taken from this machine."""

import os
import shutil
import stat
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BenchError, run

MEBIBYTE = 1024 * 1024

PLACES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/share", "/usr/lib")
"""Where the tree is taken from, in this order, until it is large enough."""

MAX_FILE_BYTES = 4 * MEBIBYTE
"""Larger files stay out of the tree: they would outweigh the small ones that it is there for."""

READ_ALL = 'set -o pipefail; find "$1" -type f -print0 | xargs -0 cat >/dev/null'
"""Shell command that reads every file under its first argument. tar would not read when it sees
that its output is /dev/null."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is copied."""

    file_bytes: int
    tree_files: int
    tree_bytes: int


FULL = Size(256 * MEBIBYTE, 10_000, 100_000_000)
QUICK = Size(32 * MEBIBYTE, 1_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The prepared files: regular files, folders and symbolic links."""

    file: Path
    tree: Path
    file_bytes: int
    tree_files: int
    """Regular files in the tree."""
    tree_bytes: int
    """Sum of the lengths of these files."""

    @classmethod
    def prepare(cls, folder: Path, size: Size) -> "Corpus":
        """Write the corpus of at least *size* into the new *folder*.

        Raises BenchError when this machine has not enough files to take.
        """
        folder.mkdir()
        file, tree = folder / "random", folder / "tree"
        _write_random(file, size.file_bytes)
        files, length = _take(tree, size)
        return cls(file, tree, size.file_bytes, files, length)

    def warm(self, source: Path) -> None:
        """Read *source*, which is one of the two, into the page cache: reading it costs nothing."""
        run("bash", "-c", READ_ALL, "bash", source)

    def source_bytes(self, source: Path) -> int:
        """Return how many bytes the files of *source* hold."""
        return self.file_bytes if source == self.file else self.tree_bytes


def _write_random(file: Path, length: int) -> None:
    with file.open("wb") as target:
        for _ in range(length // MEBIBYTE):
            target.write(os.urandom(MEBIBYTE))


def _take(tree: Path, size: Size) -> tuple[int, int]:
    """Copy files of this machine until both limits are met; return how many and their bytes."""
    files = length = 0
    for source, target in _candidates(tree):
        if files >= size.tree_files and length >= size.tree_bytes:
            return files, length
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target, follow_symlinks=False)
        except OSError:  # unreadable for this user, or gone
            target.unlink(missing_ok=True)
            continue
        if not target.is_symlink():
            files += 1
            length += target.stat().st_size
    if files >= size.tree_files and length >= size.tree_bytes:
        return files, length
    raise BenchError(f"{', '.join(PLACES)} hold {files} files with {length} bytes: too few")


def _candidates(tree: Path) -> Iterator[tuple[Path, Path]]:
    """Yield files and links of this machine in a fixed order, each with its place in *tree*."""
    for number, place in enumerate(PLACES):
        for folder, folders, names in os.walk(place):
            # site-packages is inside the standard library's folder, and a place of its own.
            folders[:] = sorted(name for name in folders if name != "site-packages")
            for name in sorted(names):
                source = Path(folder, name)
                if source.is_symlink() or _is_taken(source):
                    yield source, tree / str(number) / source.relative_to(place)


def _is_taken(source: Path) -> bool:
    status = source.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES
