"""Reading one file of this machine into chunks, as it was at one moment if it holds still."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import trio
from typing_extensions import Buffer

from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.fs.content import Extent
from libernet.fs.sealing import ChunkMaker, SealedChunk
from libernet.fs.tree import os_error

_TRIES = 3
_SMALL_HOLE_BYTES: Final = 64 * 1024  # a shorter one is read as zeros: it would cut a chunk in two


@dataclass(frozen=True, slots=True)
class FileContent:
    """What was read of a file: its *extents*, and *status* as fstat told before.

    *is_steady* when it did not change meanwhile.
    """

    status: os.stat_result
    extents: list[Extent]
    xattrs: Mapping[bytes, bytes]
    is_steady: bool


class FileReader:
    """Read files, seal what is in them and put it into the store; any thread of trio's may.

    Cancelled with the task that waits for the thread.
    """

    def __init__(self, maker: ChunkMaker) -> None:
        self._maker = maker

    def read(self, path: bytes, expected: os.stat_result) -> FileContent:
        """Return the content of the file at *path*, which lstat described as *expected*.

        One that changes while it is read is read again, up to three times. Durable after the
        store's next flush. Raises OSError, FileNotFoundError too where another file is there now,
        and StoreFull.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != (expected.st_dev, expected.st_ino):
                raise os_error(errno.ENOENT)
            content = self._once(descriptor)
            for _ in range(_TRIES - 1):
                if content.is_steady:
                    break
                content = self._once(descriptor)
            return content
        finally:
            os.close(descriptor)

    def flush_early(self) -> None:
        """Have what was read become durable, if there is much of it; raises what `read` does."""
        self._maker.flush_early()

    def _once(self, descriptor: int) -> FileContent:
        before = os.fstat(descriptor)
        extents = list(self._extents(descriptor, before))
        xattrs = read_xattrs(descriptor)
        is_steady = _is_same(before, os.fstat(descriptor))
        return FileContent(before, extents, xattrs, is_steady)

    def _extents(self, descriptor: int, status: os.stat_result) -> Iterator[Extent]:
        """Yield what is no hole; zeros stand for what is missing at the end."""

        def read(start: int, end: int) -> Buffer:
            trio.from_thread.check_cancelled()
            return _read_at(descriptor, start, end - start)

        size = status.st_size
        if size <= MAX_CHUNK_BYTES:
            if size:
                yield SealedChunk(self._maker.store(read(0, size)), size).extent(0)
            return
        for start, end in _data_ranges(descriptor, status):
            offset = start
            for chunk in self._maker.store_read(read, start, end):
                yield chunk.extent(offset)
                offset += chunk.length
                self._maker.flush_early()


class DryReader(FileReader):
    """Read nothing: the files are taken to be as they looked."""

    def read(self, path: bytes, expected: os.stat_result) -> FileContent:
        return FileContent(expected, [], {}, True)


def read_xattrs(file: int | bytes) -> dict[bytes, bytes]:
    """Return the extended attributes of an open file, or of what stands at a path (no link)."""
    found = {}
    follow = not isinstance(file, bytes)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError as exc:
        if exc.errno in {errno.EOPNOTSUPP, errno.EPERM}:
            return {}
        raise
    for name in names:
        try:
            found[os.fsencode(name)] = os.getxattr(file, name, follow_symlinks=follow)
        except OSError as exc:
            if exc.errno not in {errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}:
                raise
    return found


def _data_ranges(descriptor: int, status: os.stat_result) -> Iterator[tuple[int, int]]:
    """Yield what of a large file is no hole of at least 64 KiB."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        yield 0, size
        return
    start = end = 0
    for data_start, data_end in _allocated(descriptor, size):
        if data_start - end >= _SMALL_HOLE_BYTES:
            if end > start:
                yield start, end
            start = data_start
        end = data_end
    if size - end < _SMALL_HOLE_BYTES:
        end = size
    if end > start:
        yield start, end


def _allocated(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start < size:
            yield start, at


def _read_at(descriptor: int, offset: int, size: int) -> Buffer:
    """Return *size* bytes; zeros where the file is shorter by now."""
    first = os.pread(descriptor, size, offset)
    if len(first) == size:
        return first
    content = bytearray(first)
    while len(content) < size:
        piece = os.pread(descriptor, size - len(content), offset + len(content))
        if not piece:
            content.extend(bytes(size - len(content)))
        content += piece
    return content


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
