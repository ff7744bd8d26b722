import contextlib
import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import BlockCorrupt, StoreVersion
from libernet.fs import datalog
from libernet.fs.content import LogPlace
from libernet.fs.datalog import DataLog

_RECORD_BYTES = 200_000  # more than three checksums' worth, the last one not full
_RECORD = random.Random(1).randbytes(_RECORD_BYTES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path) -> Iterator[DataLog]:
    with DataLog(folder) as log:
        yield log


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each segment end with the record that reaches 100 bytes."""
    monkeypatch.setattr(datalog, "_SEGMENT_BYTES", 100)


@pytest.fixture(scope="module")
def module_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DataLog, LogPlace]]:
    """A log with the record in the middle of its segment."""
    with DataLog(tmp_path_factory.mktemp("log")) as log:
        log.append(1, 0, b"one before")
        place = log.append(2, 7, _RECORD)
        log.append(3, 0, b"one behind")
        yield log, place


def _segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


_NEAR_A_SUM = st.sampled_from([0, 1, 65_535, 65_536, 65_537, 131_072, 199_999, _RECORD_BYTES])
_POSITIONS = st.one_of(_NEAR_A_SUM, st.integers(0, _RECORD_BYTES))


@settings(deadline=None)
@given(start=_POSITIONS, end=_POSITIONS)
def test_any_part_of_a_record_can_be_read(
    module_log: tuple[DataLog, LogPlace], start: int, end: int
) -> None:
    log, place = module_log
    start, end = sorted((start, end))
    assert log.read(place, start, end - start) == _RECORD[start:end]


def test_more_than_a_record_has_is_refused(module_log: tuple[DataLog, LogPlace]) -> None:
    log, place = module_log
    with pytest.raises(BlockCorrupt, match="no record of 200001 bytes"):
        log.read(place, 1, _RECORD_BYTES)


def test_records_are_there_before_and_after_sync_and_after_a_restart(folder: Path) -> None:
    with DataLog(folder) as log:
        places = {content: log.append(1, 0, content) for content in (b"", b"a", _RECORD)}
        assert all(log.read(place, 0, len(each)) == each for each, place in places.items())
        log.sync()
        assert all(log.read(place, 0, len(each)) == each for each, place in places.items())
    with DataLog(folder) as log:
        assert all(log.read(place, 0, len(each)) == each for each, place in places.items())


@pytest.mark.parametrize("content", [bytearray(b"123"), memoryview(b"x123x")[1:4]])
def test_any_buffer_can_be_appended(log: DataLog, content: bytearray | memoryview) -> None:
    assert log.read(log.append(1, 0, content), 0, 3) == b"123"


def test_a_log_that_is_opened_again_begins_a_new_segment(folder: Path) -> None:
    with DataLog(folder) as log:
        first = log.append(1, 0, b"first")
    before = (folder / _segments(folder)[0]).read_bytes()
    with DataLog(folder) as log:
        second = log.append(1, 0, b"second")
        assert second.segment > first.segment
        assert log.read(first, 0, 5) == b"first"
        assert log.read(second, 0, 6) == b"second"
    assert (folder / _segments(folder)[0]).read_bytes() == before


def test_a_segment_that_is_long_enough_is_followed_by_the_next(
    small_segments: None, log: DataLog, folder: Path
) -> None:
    places = [log.append(1, at, bytes([at]) * 60) for at in range(6)]
    assert [place.segment for place in places] == [1, 1, 2, 2, 3, 3]
    assert _segments(folder) == ["00000001.v1", "00000002.v1", "00000003.v1"]
    for at, place in enumerate(places):
        assert log.read(place, 0, 60) == bytes([at]) * 60


@pytest.mark.parametrize("position", [0, 70_000, _RECORD_BYTES - 1])
def test_rot_is_found_by_who_reads_it_and_by_nobody_else(
    log: DataLog, folder: Path, position: int
) -> None:
    place = log.append(1, 0, _RECORD)
    path = folder / _segments(folder)[0]
    content_at = path.stat().st_size - _RECORD_BYTES
    _damage(path, content_at + position)
    with pytest.raises(BlockCorrupt, match="rotted"):
        log.read(place, position, 1)
    with pytest.raises(BlockCorrupt, match="rotted"):
        log.read(place, 0, _RECORD_BYTES)
    elsewhere = 150_000 if position < 131_072 else 10
    assert log.read(place, elsewhere, 100) == _RECORD[elsewhere : elsewhere + 100]


def test_no_damage_to_a_header_or_a_checksum_yields_wrong_bytes(log: DataLog, folder: Path) -> None:
    log.append(1, 0, b"before")
    place = log.append(2, 0, b"content")
    log.append(3, 0, b"behind")
    path = folder / _segments(folder)[0]
    for position in range(place.position, path.stat().st_size):
        _damage(path, position)
        with contextlib.suppress(BlockCorrupt):
            assert log.read(place, 0, 7) == b"content"
        _damage(path, position)


@pytest.mark.parametrize("kept", [0, 10, 33, 40, 1000])
def test_a_truncated_segment_is_found(log: DataLog, folder: Path, kept: int) -> None:
    place = log.append(1, 0, _RECORD)
    with open(folder / _segments(folder)[0], "r+b") as segment:
        segment.truncate(kept)
    with pytest.raises(BlockCorrupt):
        log.read(place, 0, _RECORD_BYTES)


def test_a_segment_that_is_gone_is_found(folder: Path) -> None:
    with DataLog(folder) as log:
        place = log.append(1, 0, b"content")
    with DataLog(folder) as log:
        (folder / _segments(folder)[0]).unlink()
        with pytest.raises(BlockCorrupt, match="segment 1 of the data log is gone"):
            log.read(place, 0, 7)


def test_sync_makes_every_segment_durable_that_was_written(
    small_segments: None, log: DataLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable_bytes: dict[int, int] = {}

    def fdatasync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        durable_bytes[status.st_ino] = status.st_size

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    for _ in range(5):
        log.append(1, 0, bytes(60))
    log.sync()
    for segment in folder.iterdir():
        assert durable_bytes[segment.stat().st_ino] == segment.stat().st_size


def test_only_segments_that_nobody_needs_are_removed(
    small_segments: None, log: DataLog, folder: Path
) -> None:
    places = [log.append(1, 0, bytes(100)) for _ in range(4)]
    log.reclaim({2})
    assert _segments(folder) == ["00000002.v1", "00000004.v1"]
    assert log.read(places[1], 0, 100) == bytes(100)
    with pytest.raises(BlockCorrupt, match="gone"):
        log.read(places[0], 0, 100)
    log.reclaim(set())
    assert _segments(folder) == ["00000004.v1"]


def test_nothing_is_removed_while_somebody_has_a_lease(
    small_segments: None, log: DataLog, folder: Path
) -> None:
    first = log.append(1, 0, bytes(100))
    log.append(1, 0, bytes(100))
    with log.lease(), log.lease():
        log.reclaim(set())
        assert log.read(first, 0, 100) == bytes(100)
    assert len(_segments(folder)) == 2
    log.reclaim(set())
    assert _segments(folder) == ["00000002.v1"]


def test_numbers_of_removed_segments_are_not_given_again_while_the_log_runs(
    small_segments: None, log: DataLog
) -> None:
    log.append(1, 0, bytes(100))
    log.reclaim(set())
    assert log.append(1, 0, bytes(100)).segment == 2
    log.reclaim(set())
    assert log.append(1, 0, bytes(100)).segment == 3


def test_a_record_that_could_not_be_written_leaves_the_others_whole(
    log: DataLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.append(1, 0, b"before")
    pwrite = os.pwrite
    free = [10]

    def fill_up(descriptor: int, content: memoryview, position: int) -> int:
        if not free:
            raise OSError(errno.ENOSPC, "no space left")
        return pwrite(descriptor, content[: free.pop()], position)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fill_up)
        with pytest.raises(OSError, match="no space left"):
            log.append(2, 0, b"lost")
    after = log.append(3, 0, b"after")
    assert log.read(before, 0, 6) == b"before"
    assert log.read(after, 0, 5) == b"after"


def test_short_writes_are_carried_on(log: DataLog, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda fd, content, at: pwrite(fd, content[:3], at))
        place = log.append(1, 0, b"content")
    assert log.read(place, 0, 7) == b"content"


def test_a_log_of_a_newer_version_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "00000007.v2").touch()
    with pytest.raises(StoreVersion, match=r"00000007\.v2.*install that version"):
        DataLog(folder).__enter__()
