"""The data log: bytes that are durable before they are sealed.

Append-only segment files. A record is a header (magic, inode, offset in the file, length), one
CRC-32 for each 64 KiB of bytes, then the bytes; the journal holds its place. Records are never
overwritten in place, so a place stays true until its segment is removed, and a segment is removed
only when neither a committed extent nor a lease needs it. Nothing is written ahead: syncing bytes
that make a file longer takes longer (150 us instead of 95), but zeros synced before cost a commit
of SQLite's rollback mode 16 KB of 107, and its time was the same.
"""

import contextlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from typing_extensions import Buffer

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import BlockCorrupt, StoreVersion
from libernet.fs.content import LogPlace

_SEGMENT_BYTES = 64 * 1024 * 1024

_MANY_SEGMENTS = 8
"""With so many, what they still hold should be sealed, also of files that are written all the time:
a page here and there keeps a whole segment."""

SUM_BYTES = 64 * 1024
"""One checksum for each, so that a small read checks little."""

_HEADER = struct.Struct("<4sIQQQ")
_MAGIC = b"lnl1"


class LogReader:
    """Read records back, checked; any thread may.

    State
      _descriptors  open segments, by number, guarded by _lock
      _leases       how many readers need segments that the journal may no longer name,
                    guarded by _lock
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._descriptors: dict[int, int] = {}
        self._leases = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()

    def length(self, place: LogPlace) -> int:
        """Return how many bytes a record has; BlockCorrupt when it is not there, or not whole."""
        with self.lease():
            descriptor = self._descriptor(place.segment)
            sum_count, total = self._head(descriptor, place)
            end = place.position + _HEADER.size + 4 * sum_count + total
            if os.fstat(descriptor).st_size < end:
                raise BlockCorrupt(f"the data log ends amid the record at {place}")
            return total

    def read(self, place: LogPlace, skip: int, length: int) -> bytes:
        """Return *length* bytes, *skip* bytes into the record; BlockCorrupt when they rotted."""
        with self.lease():
            return self._read(self._descriptor(place.segment), place, skip, length)

    def raw(self, place: LogPlace, length: int) -> bytes:
        """Return what is where the bytes of a record should be, whatever that is, or nothing."""
        at = place.position + _HEADER.size + 4 * -(-length // SUM_BYTES)
        try:
            with self.lease():
                descriptor = self._descriptor(place.segment)
                there = max(0, os.fstat(descriptor).st_size - at)
                return os.pread(descriptor, min(length, there), at)
        except (BlockCorrupt, OSError, OverflowError):
            return b""

    def _head(self, descriptor: int, place: LogPlace) -> tuple[int, int]:
        """Return how many checksums a record has, and how many bytes."""
        head = os.pread(descriptor, _HEADER.size, place.position)
        if len(head) < _HEADER.size:
            raise BlockCorrupt(f"the data log ends before the record at {place}")
        magic, sum_count, _, _, total = _HEADER.unpack(head)
        if magic != _MAGIC or sum_count != -(-total // SUM_BYTES):
            raise BlockCorrupt(f"the data log holds no record at {place}")
        return sum_count, total

    def _read(self, descriptor: int, place: LogPlace, skip: int, length: int) -> bytes:
        sum_count, total = self._head(descriptor, place)
        if skip + length > total:
            raise BlockCorrupt(f"the data log holds no record of {skip + length} bytes at {place}")
        first, last = skip // SUM_BYTES, -(-(skip + length) // SUM_BYTES)
        sums_at = place.position + _HEADER.size
        sums = os.pread(descriptor, 4 * (last - first), sums_at + 4 * first)
        begin, end = first * SUM_BYTES, min(last * SUM_BYTES, total)
        content = os.pread(descriptor, end - begin, sums_at + 4 * sum_count + begin)
        expected = (
            struct.unpack(f"<{last - first}I", sums) if len(sums) == 4 * (last - first) else ()
        )
        found = tuple(
            zlib.crc32(content[at : at + SUM_BYTES]) for at in range(0, end - begin, SUM_BYTES)
        )
        if found != expected or len(content) != end - begin:
            raise BlockCorrupt(f"bytes of the record at {place} rotted in the data log")
        return content[skip - begin : skip - begin + length]

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keep every segment while the body runs."""
        with self._lock:
            self._leases += 1
        try:
            yield
        finally:
            with self._lock:
                self._leases -= 1

    def _descriptor(self, segment: int) -> int:
        with self._lock:
            descriptor = self._descriptors.get(segment)
            if descriptor is None:
                try:
                    descriptor = os.open(self._path(segment), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError as exc:
                    raise BlockCorrupt(f"segment {segment} of the data log is gone") from exc
                self._descriptors[segment] = descriptor
            return descriptor

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:08d}.v1"


class DataLog(LogReader):
    """Append records and make them durable.

    State, beside the reader's
      _current      number of the segment that grows; none above it exists
      _end          where its next record goes
      _older        the segments before it that are still there
    One thread appends.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._current = 0
        self._end = 0
        self._older: set[int] = set()
        self._unsynced = False

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._older = set(self._segments())
        self._start_segment(max(self._older, default=0) + 1)
        return self

    def append(self, ino: int, offset: int, content: Buffer) -> LogPlace:
        """Write one record and return its place; durable only after sync()."""
        if self._end >= _SEGMENT_BYTES:
            self.sync()
            self._older.add(self._current)
            self._start_segment(self._current + 1)
        view = memoryview(content).cast("B")
        sums = [zlib.crc32(view[at : at + SUM_BYTES]) for at in range(0, len(view), SUM_BYTES)]
        head = _HEADER.pack(_MAGIC, len(sums), ino, offset, len(view))
        record: list[Buffer] = [head + struct.pack(f"<{len(sums)}I", *sums), view]
        place = LogPlace(self._current, self._end)
        self._unsynced = True
        self._write_all(record)
        return place

    def sync(self) -> None:
        """Return when all that was appended is durable."""
        if self._unsynced:
            os.fdatasync(self._descriptor(self._current))
            self._unsynced = False

    @property
    def crowd(self) -> int:
        """The number of the newest segment when there are many, else 0."""
        return self._current if len(self._older) >= _MANY_SEGMENTS else 0

    @property
    def is_reclaimable(self) -> bool:
        """Whether there is a segment that reclaim() might remove."""
        return bool(self._older)

    def reclaim(self, needed: set[int]) -> None:
        """Remove the segments that are neither *needed* nor growing, unless someone has a lease."""
        with self._lock:
            if self._leases:
                return
            for segment in self._older - needed:
                descriptor = self._descriptors.pop(segment, None)
                if descriptor is not None:
                    os.close(descriptor)
                self._path(segment).unlink()
                self._older.discard(segment)

    def _write_all(self, record: list[Buffer]) -> None:
        """Write *record* at the end; on failure the end stays where it was."""
        descriptor = self._descriptor(self._current)
        position = self._end
        for part in record:
            view = memoryview(part).cast("B")
            while view:
                written = os.pwrite(descriptor, view, position)
                position += written
                view = view[written:]
        self._end = position

    def _start_segment(self, segment: int) -> None:
        path = self._path(segment)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            path.unlink()  # or the next try would find the name taken
            raise
        with self._lock:
            self._descriptors[segment] = descriptor
        self._current, self._end = segment, 0

    def _segments(self) -> list[int]:
        names = sorted(entry.name for entry in os.scandir(self._folder))
        newer = [name for name in names if not name.endswith(".v1")]
        if newer:
            raise StoreVersion(
                f"{self._folder} holds {newer[0]}, which a newer version of Libernet wrote: "
                "install that version"
            )
        return [int(name.split(".")[0]) for name in names]
