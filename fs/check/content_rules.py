"""The journal against the store and the data log: are the bytes there that it names?"""

from collections.abc import Callable, Iterator

from libernet.blocks.errors import BlockCorrupt, LibernetError
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import unseal
from libernet.blocks.store import Store
from libernet.blocks.store_check import Fault, Pace
from libernet.blocks.store_check import Finding as StoreFinding
from libernet.fs.check.findings import Finding, Severity
from libernet.fs.check.paths import Paths
from libernet.fs.content import LogPlace
from libernet.fs.datalog import LogReader
from libernet.fs.journal_reader import JournalReader

_READ_BYTES = 4 * 1024 * 1024
"""How much of a log record is looked at in one go."""

_BY_CHUNK = """
CREATE TEMP TABLE chunk AS
    SELECT ino, start, length, block_id, suite, block_key, piece_length FROM extent
    WHERE typeof(block_id) = 'blob' AND length(block_id) = 32
"""

_SEVERITIES = {
    Fault.INDEX: Severity.DAMAGE,
    Fault.DAMAGED: Severity.LOSS,
    Fault.MISSING: Severity.LOSS,
    Fault.STRAY: Severity.NOTE,
}


def store_findings(
    store: Store, *, read: Callable[[StoredId], bytes] | None, pace: Pace
) -> Iterator[Finding]:
    """Yield what the store finds wrong with itself; what is being put meanwhile is no stray."""
    strays = []
    for found in store.check(read=read, pace=pace):
        if found.fault is Fault.STRAY:
            strays.append(found)
        else:
            yield _store_finding(found)
    for found in strays:
        if found.block_id is None or found.block_id not in store:
            yield _store_finding(found)


def _store_finding(found: StoreFinding) -> Finding:
    block = "" if found.block_id is None else str(found.block_id)
    where = f"block {block}" if block else "store"
    rule, severity = f"store-{found.fault}", _SEVERITIES[found.fault]
    return Finding(rule, severity, where, found.sentence, block)


class ChunkKeys:
    """Whether blocks open with the keys that extents have for them.

    State: a temporary table on the reader's connection, of the extents by block; findings, what
    was found so far.
    """

    def __init__(self, reader: JournalReader, paths: Paths) -> None:
        self._reader = reader
        self._paths = paths
        self.findings: list[Finding] = []
        reader.rows(_BY_CHUNK)
        reader.rows("CREATE INDEX temp.chunk_id ON chunk (block_id)")

    def look(self, block_id: StoredId, block: bytes) -> None:
        """Note each extent that the block cannot be what it says."""
        keys = self._reader.rows(
            "SELECT DISTINCT suite, block_key, piece_length FROM chunk WHERE block_id = ?",
            bytes(block_id),
        )
        for suite, key, length in keys:
            try:
                reference = Reference(BlockId(block_id), Suite(suite), key)
                is_good = len(unseal(reference, block)) == length
            except (LibernetError, ValueError):
                is_good = False
            if not is_good:
                self.findings += self._extents(block_id, suite, key)

    def _extents(self, block_id: StoredId, suite: str, key: bytes) -> list[Finding]:
        rows = self._reader.rows(
            "SELECT ino, start, length FROM chunk"
            " WHERE block_id = ? AND suite = ? AND block_key = ?",
            *(bytes(block_id), suite, key),
        )
        return [
            Finding(
                "chunk-key",
                Severity.LOSS,
                self._paths.of(ino),
                f"the key noted for its bytes {start} to {start + length} does not open them",
            )
            for ino, start, length in rows
        ]


def chunk_findings(reader: JournalReader, store: Store, paths: Paths) -> Iterator[Finding]:
    """Yield the ranges of files whose chunks the store does not have as its own."""
    rows = reader.each(
        "SELECT ino, start, length, block_id FROM extent"
        " WHERE typeof(block_id) = 'blob' AND length(block_id) = 32 ORDER BY ino, start"
    )
    for ino, start, length, digest in rows:
        block_id = BlockId(digest)
        if store.is_own(block_id):
            continue
        what = f"bytes {start} to {start + length}"
        yield not_own(store, block_id, paths.of(ino), what)


def not_own(store: Store, block_id: StoredId, where: str, what: str) -> Finding:
    """Return the finding about *what*, whose block is not one's own."""
    if block_id in store:
        sentence = f"{what}: block {block_id} is here as if it were somebody else's"
        return Finding("block-not-own", Severity.DAMAGE, where, sentence, str(block_id))
    sentence = f"{what} cannot be read: block {block_id} is not here"
    return Finding("block-missing", Severity.LOSS, where, sentence, str(block_id))


def record_findings(
    reader: JournalReader, log: LogReader, paths: Paths, *, read: bool, pace: Pace
) -> Iterator[Finding]:
    """Yield the ranges of files whose records in the data log are not what they were."""
    rows = reader.each(
        "SELECT ino, start, length, skip, piece_length, segment, position FROM extent"
        " WHERE typeof(segment) = 'integer' AND typeof(position) = 'integer'"
        " ORDER BY segment, position, ino, start"
    )
    for ino, start, length, skip, piece_length, segment, position in rows:
        fault = record_fault(log, LogPlace(segment, position), piece_length)
        if fault is None and read:
            fault = _rot(log, LogPlace(segment, position), skip, length, pace)
        if fault is not None:
            sentence = f"bytes {start} to {start + length} cannot all be read: {fault}"
            yield Finding("log-record", Severity.LOSS, paths.of(ino), sentence)


def record_fault(log: LogReader, place: LogPlace, length: int) -> str | None:
    """Return what is wrong with a record that should have *length* bytes, None when nothing is."""
    try:
        found = log.length(place)
    except (BlockCorrupt, OSError, OverflowError) as exc:
        return str(exc)
    return None if found == length else f"the record at {place} has {found} bytes and not {length}"


def _rot(log: LogReader, place: LogPlace, skip: int, length: int, pace: Pace) -> str | None:
    """Read a part of a record; return what is wrong with it, None when nothing is."""
    try:
        for at in range(skip, skip + length, _READ_BYTES):
            pace.read(len(log.read(place, at, min(_READ_BYTES, skip + length - at))))
    except (BlockCorrupt, OSError, OverflowError) as exc:
        return str(exc)
    return None
