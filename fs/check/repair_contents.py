"""Mending what is noted about the bytes of files. What cannot be read any more stays an error.

Nothing here lets a range of a file read as zeros that was not a hole: a range whose bytes are lost
becomes one whose block nobody has.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import unseal
from libernet.fs.check.journal_rules import QUERIES
from libernet.fs.check.workbench import Workbench
from libernet.fs.content import ContentMap, Extent, LogPlace, Piece
from libernet.fs.datalog import SUM_BYTES
from libernet.fs.journal_reader import EXTENT_COLUMNS

_MAX_END = 2**63 - 1

_MAX_LOST_BYTES = 64 * 1024**3
"""Longest range that is noted as lost: beyond that a length is nonsense, and so many notes too."""


class _Row(NamedTuple):
    """A row of table extent as it stands there, whatever that is."""

    start: Any
    length: Any
    skip: Any
    piece_length: Any
    block_id: Any
    suite: Any
    block_key: Any
    segment: Any
    position: Any

    @property
    def has_range(self) -> bool:
        """Say whether it is sure which bytes of the file this is about."""
        return (
            _is_whole(self.start)
            and _is_whole(self.length)
            and 1 <= self.length <= _MAX_LOST_BYTES
            and self.start + self.length <= _MAX_END
        )

    def place(self) -> Reference | LogPlace | None:
        """Return the chunk, or else the record, None where the row names neither."""
        is_id = isinstance(self.block_id, bytes) and len(self.block_id) == 32
        is_key = isinstance(self.block_key, bytes) and len(self.block_key) == 32
        suites = [each for each in Suite if each == self.suite and each is not Suite.PLAIN]
        if is_id and is_key and suites:
            return Reference(BlockId(self.block_id), suites[0], self.block_key)
        if _is_whole(self.segment) and _is_whole(self.position) and self.segment:
            return LogPlace(self.segment, self.position)
        return None


def mend_contents(bench: Workbench) -> None:
    """Let extents belong to files, be possible, not overlap and end before their file does."""
    _move_to_files(bench)
    for ino in _inos(bench, "extent-shape", "extent-place"):
        _mend_rows(bench, ino)
    _mend_records(bench)
    for ino in _inos(bench, "extent-overlap"):
        _part_overlaps(bench, ino)
    _mend_sizes(bench)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= _MAX_END


def _inos(bench: Workbench, *rules: str) -> list[int]:
    return sorted({row[0] for rule in rules for row in bench.rows(QUERIES[rule])})


def _rows(bench: Workbench, ino: int) -> list[_Row]:
    found = bench.rows(f"SELECT {EXTENT_COLUMNS} FROM extent WHERE ino = ? ORDER BY start", ino)
    return [_Row(*row) for row in found]


def _move_to_files(bench: Workbench) -> None:
    """Make a file of the bytes that something has which is no file."""
    for ino in _inos(bench, "extent-without-file"):
        file = bench.new_ino()
        bench.make(file)
        bench.rows("UPDATE extent SET ino = ? WHERE ino = ?", file, ino)
        sentence = f"holds the bytes noted for {bench.paths.of(ino)}, which is no file"
        backup = bench.backup_of(ino)
        bench.found_again(file, b"#%d.bytes" % ino, backup=backup, sentence=sentence)


def _mend_rows(bench: Workbench, ino: int) -> None:
    """Keep the rows of a file that are possible; keep the bytes that the others name beside it."""
    kept: list[Extent] = []
    for row in _rows(bench, ino):
        place = row.place()
        extent = _extent(row, place, row.piece_length)
        known = None
        if extent is None and place is not None:
            known = _length_of(bench, place)
            extent = _extent(row, place, known)
        if extent is not None:
            kept.append(extent)
            continue
        where = bench.paths.of(ino)
        bench.took_out(
            "extent", (ino, *row), where, f"bytes from {row.start!r} on are not possible"
        )
        if place is not None and known is not None:
            alone = bench.new_ino()
            bench.make(alone, size=known)
            bench.put_extents(alone, [Extent(0, known, _piece(place, known))])
            sentence = f"bytes that were noted in an impossible way for {where}"
            backup = bench.backup_of(ino)
            bench.found_again(alone, b"#%d.bytes" % ino, backup=backup, sentence=sentence)
        if row.has_range:
            kept += _lost(row.start, row.length)
    _put_apart(bench, ino, kept)
    bench.did(bench.paths.of(ino), "what is noted about its bytes is possible now", ino)


def _extent(row: _Row, place: Reference | LogPlace | None, length: Any) -> Extent | None:
    """Return what a row says if its piece has *length* bytes, None if that cannot be."""
    is_possible = (
        place is not None
        and row.has_range
        and _is_whole(row.skip)
        and _is_whole(length)
        and row.skip + row.length <= length
        and (isinstance(place, LogPlace) or length <= MAX_CHUNK_BYTES)
    )
    if not is_possible:
        return None
    assert place is not None
    return Extent(row.start, row.length, _piece(place, length), row.skip)


def _piece(place: Reference | LogPlace, length: int) -> Piece:
    if isinstance(place, LogPlace):
        return Piece(length, log=place)
    return Piece(length, chunk=place)


def _length_of(bench: Workbench, place: Reference | LogPlace) -> int | None:
    """Return how many bytes a piece really has, None when it is not here."""
    try:
        if isinstance(place, LogPlace):
            return bench.log.length(place) or None
        return len(unseal(place, bench.store.get(place.id))) or None
    except (LibernetError, OSError, OverflowError):
        return None


def _lost(start: int, length: int) -> list[Extent]:
    """Return extents that cannot be read: of chunks whose blocks nobody can ever have."""
    lost = []
    for at in range(start, start + length, MAX_CHUNK_BYTES):
        part = min(MAX_CHUNK_BYTES, start + length - at)
        chunk = Reference(BlockId(os.urandom(32)), Suite.AES256GCM, os.urandom(32))
        lost.append(Extent(at, part, Piece(part, chunk=chunk)))
    return lost


def _apart(extents: list[Extent]) -> list[Extent]:
    """Return *extents* without overlaps, the last of them on top."""
    painted = ContentMap()
    for extent in extents:
        painted.replace(extent.offset, extent.end, [extent])
    return list(painted)


def _part_overlaps(bench: Workbench, ino: int) -> None:
    extents = []
    for row in _rows(bench, ino):
        extent = _extent(row, row.place(), row.piece_length)
        assert extent is not None, "what is not possible was taken out before"
        extents.append(extent)
    _put_apart(bench, ino, extents)


def _put_apart(bench: Workbench, ino: int, extents: list[Extent]) -> None:
    """Let a file show *extents*, ascending, and the later of two that overlap.

    A copy in `lost+found` then shows the other.
    """
    shown = _apart(extents)
    bench.put_extents(ino, shown)
    if sum(extent.length for extent in shown) == sum(extent.length for extent in extents):
        return
    copy = bench.new_ino()
    bench.make(copy, size=max(extent.end for extent in extents))
    bench.put_extents(copy, _apart(extents[::-1]))
    where = bench.paths.of(ino)
    bench.did(where, "two things were noted about some of its bytes: shows what began later", ino)
    sentence = f"the other version of {where}, which shows what began earlier"
    backup = bench.backup_of(ino)
    bench.found_again(copy, b"#%d.other" % ino, backup=backup, sentence=sentence)


def _mend_records(bench: Workbench) -> None:
    """Set rotten records of the data log aside, and keep of the files what is sound."""
    rows = bench.rows(
        "SELECT DISTINCT segment, position, piece_length FROM extent WHERE segment IS NOT NULL"
        " ORDER BY segment, position"
    )
    for segment, position, length in rows:
        place = LogPlace(segment, position)
        inos = bench.rows(
            "SELECT DISTINCT ino FROM extent WHERE segment = ? AND position = ?", segment, position
        )
        for (ino,) in inos:
            if _keep_sound(bench, ino, place) and (raw := bench.log.raw(place, length)):
                digest = hashlib.sha256(raw).hexdigest()[:8].encode()
                bench.keep_bytes(
                    raw,
                    b"#%d.log-%d-%d.%s" % (ino, segment, position, digest),
                    backup=bench.backup_of(ino),
                    what=f"what the data log has of {bench.paths.of(ino)}, with its damage",
                )


def _keep_sound(bench: Workbench, ino: int, place: LogPlace) -> bool:
    """Keep what can be read of a file's extents in a record; return whether some cannot."""
    kept: list[Extent] = []
    is_rotten = is_wrong = False
    length = _length_of(bench, place)
    for row in _rows(bench, ino):
        extent = _extent(row, row.place(), length if row.place() == place else row.piece_length)
        if row.place() != place:
            assert extent is not None, "what is not possible was taken out before"
            kept.append(extent)
            continue
        is_wrong |= length != row.piece_length
        for start, end, is_sound in _spans(bench, row, extent, place):
            if is_sound and extent is not None:
                kept.append(extent.clipped(start, end))
            else:
                kept += _lost(start, end - start)
                is_rotten = True
    if is_rotten:
        sentence = "some of its bytes rotted in the data log: they cannot be read, the others can"
    elif is_wrong:
        sentence = "the length of its record in the data log was not the one noted"
    else:
        return False
    _put_apart(bench, ino, kept)
    bench.did(bench.paths.of(ino), sentence, ino)
    return is_rotten


def _spans(
    bench: Workbench, row: _Row, extent: Extent | None, place: LogPlace
) -> Iterator[tuple[int, int, bool]]:
    """Yield the ranges of an extent that have one checksum each, and whether it is right."""
    if extent is None:
        yield row.start, row.start + row.length, False
        return
    at = extent.offset
    while at < extent.end:
        skip = extent.skip + at - extent.offset
        end = min(extent.end, at + SUM_BYTES - skip % SUM_BYTES)
        try:
            bench.log.read(place, skip, end - at)
            is_sound = True
        except (LibernetError, OSError, OverflowError):
            is_sound = False
        yield at, end, is_sound
        at = end


def _mend_sizes(bench: Workbench) -> None:
    """Let sizes be possible, and no file end before its bytes do."""
    rows = bench.rows(
        "SELECT ino, size, CASE mode & 61440"
        "  WHEN 32768 THEN max(size, 0, coalesce((SELECT max(start + extent.length) FROM extent"
        "   WHERE extent.ino = inode.ino), 0))"
        "  WHEN 40960 THEN length(target) ELSE 0 END AS proper FROM inode WHERE size <> proper"
    )
    for ino, size, proper in rows:
        bench.rows("UPDATE inode SET size = ? WHERE ino = ?", proper, ino)
        bench.did(bench.paths.of(ino), f"its size was {size}, now {proper}", ino)
