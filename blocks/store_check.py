"""Reading the whole store again, to find what has gone bad before somebody needs it."""

import enum
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.store_files import FAN_OUT, BlockFiles
from libernet.blocks.store_index import BlockClass, BlockIndex, Entry

_ROWS_AT_ONCE = 256

Read = Callable[[StoredId], bytes]


class Fault(enum.StrEnum):
    """What can be wrong with a store."""

    INDEX = "index"
    """SQLite finds the index damaged; what else is found may be incomplete."""
    DAMAGED = "damaged"
    """A block's bytes were not its own any more; it was set aside, and is to be fetched again."""
    MISSING = "missing"
    """A block has a row but no bytes, or not as many."""
    STRAY = "stray"
    """A file has no row: what a crash may leave. Nothing is lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: with the index as a whole (no id), or of one block."""

    fault: Fault
    block_id: StoredId | None
    sentence: str


class Pace:
    """Keep reading to a rate.

    State: when it began, by its clock in seconds, and how many bytes were read since.
    """

    def __init__(
        self,
        bytes_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._began = clock()
        self._read_bytes = 0

    def read(self, size_bytes: int) -> None:
        """Count bytes that were read, and wait when there were too many for the time so far."""
        if self._bytes_per_second is None:
            return
        self._read_bytes += size_bytes
        ahead = self._read_bytes / self._bytes_per_second - (self._clock() - self._began)
        if ahead > 0:
            self._sleep(ahead)


def check_blocks(
    index: BlockIndex, files: BlockFiles, read: Read | None, pace: Pace
) -> Iterator[Finding]:
    """Yield what is wrong with the store, block by block in the order of their ids.

    *read* returns a block, checked, and sets a damaged one aside; without it only the sizes of
    files are looked at. A cached block that is torn or gone is no fault, as it may be.
    """
    try:
        for sentence in index.damage():
            yield Finding(Fault.INDEX, None, f"the index of the store is damaged: {sentence}")
    except StoreError as exc:
        yield Finding(Fault.INDEX, None, f"the index of the store cannot be read: {exc}")
        return
    after = b""
    while entries := index.behind(after, _ROWS_AT_ONCE):
        after = bytes(entries[-1].id)
        for entry in entries:
            finding = _size_fault(files, entry) if read is None else _read_fault(read, entry)
            pace.read(entry.size_bytes)
            if finding is not None:
                yield finding


def stray_files(index: BlockIndex, files: BlockFiles) -> Iterator[Finding]:
    """Yield the files that have no row. While blocks are being put, one of them may seem so."""
    for first_byte in range(FAN_OUT):
        for block_id in files.named_in(first_byte):
            if index.size(block_id) is None:
                yield Finding(Fault.STRAY, block_id, f"the file of {block_id} has no row")


def _read_fault(read: Read, entry: Entry) -> Finding | None:
    try:
        read(entry.id)
    except BlockCorrupt:
        sentence = f"block {entry.id} was damaged and has been set aside"
        return Finding(Fault.DAMAGED, entry.id, sentence)
    except BlockNotFound:
        if entry.block_class is not BlockClass.CACHED:
            return Finding(Fault.MISSING, entry.id, f"the bytes of block {entry.id} are missing")
    return None


def _size_fault(files: BlockFiles, entry: Entry) -> Finding | None:
    if not entry.in_file or entry.is_cached or files.holds(entry.id, entry.size_bytes):
        return None
    sentence = f"the file of block {entry.id} is missing, or has not {entry.size_bytes} bytes"
    return Finding(Fault.MISSING, entry.id, sentence)
