"""truncate, holes and what is allocated: sizes from nothing to 64 bits."""

import errno
import os

import pytest

from tests.posix.kinds import KINDS, make
from tests.support import linux
from tests.support.actors import Actor, refused

_EDGES = [0, 1, 511, 512, 4095, 4096, 4097, 65_536, 1_048_543, 1_048_576, 3_000_000]


@pytest.mark.parametrize("size", _EDGES)
def test_a_file_is_cut_and_what_comes_back_is_zeros(root: Actor, size: int) -> None:
    content = os.urandom(2_000_000)
    root.write_file("file", content)
    root.truncate("file", size)
    assert root.stat("file").st_size == size
    assert root.content("file") == content[:size] + bytes(max(0, size - len(content)))
    root.truncate("file", 2_500_000)
    assert root.content("file") == content[:size].ljust(2_500_000, b"\0")[:2_500_000]


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**43])
def test_sizes_have_64_bits(root: Actor, size: int) -> None:
    root.create("file")
    root.truncate("file", size)
    assert root.stat("file").st_size == size
    with root.opened("file", os.O_RDWR) as file:
        assert os.pread(file, 10, size - 5) == bytes(5)
        os.pwrite(file, b"end", size - 1)
        assert os.pread(file, 10, size - 2) == b"\0end"
        assert os.lseek(file, 0, os.SEEK_END) == size + 2
    root.truncate("file", size - 3)
    assert root.stat("file").st_size == size - 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"file", "link"}])
def test_only_files_are_cut(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    with refused(errno.EISDIR if kind == "folder" else errno.EINVAL):
        root.truncate("it", 0)


def test_a_size_is_no_less_than_nothing(root: Actor) -> None:
    root.create("file", content=b"content")
    with refused(errno.EINVAL):
        root.truncate("file", -1)
    with root.opened("file", os.O_WRONLY) as file, refused(errno.EINVAL):
        os.ftruncate(file, -(2**63))
    assert root.content("file") == b"content"


def test_cutting_needs_the_right_to_write(root: Actor, ann: Actor) -> None:
    root.create("file", 0o644, b"content")
    with refused(errno.EACCES):
        ann.truncate("file", 0)
    assert root.content("file") == b"content"


def test_a_file_without_a_name_is_cut_and_grows(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDWR) as file:
        root.unlink("file")
        os.ftruncate(file, 3)
        os.ftruncate(file, 5)
        assert os.pread(file, 10, 0) == b"con\0\0"


def test_a_gap_is_read_as_zeros(root: Actor) -> None:
    with root.opened("file", os.O_RDWR | os.O_CREAT) as file:
        for offset in (3_000_000, 1_000_000, 10, 2_000_000):
            os.pwrite(file, b"x" * 1000, offset)
        expected = bytearray(3_001_000)
        for offset in (3_000_000, 1_000_000, 10, 2_000_000):
            expected[offset : offset + 1000] = b"x" * 1000
        assert os.pread(file, 4_000_000, 0) == expected


def test_reading_ends_where_the_file_does(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDONLY) as file:
        assert os.pread(file, 100, 3) == b"tent"
        for offset in (7, 8, 4096, 2**40):
            assert os.pread(file, 100, offset) == b""


def test_posix_fallocate_makes_longer_and_changes_no_byte(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDWR) as file:
        os.posix_fallocate(file, 0, 5)
        assert root.content("file") == b"content"
        os.posix_fallocate(file, 3, 100_000)
        assert root.content("file") == b"content" + bytes(99_996)
        with refused(errno.EINVAL):
            os.posix_fallocate(file, 0, 0)
    with root.opened("file", os.O_RDONLY) as file, refused(errno.EBADF):
        os.posix_fallocate(file, 0, 200_000)


_NO_FALLOCATE = pytest.mark.unmet("pyfuse3 has no handler for fallocate")
_NO_LSEEK = pytest.mark.unmet("pyfuse3 has no handler for lseek, so that all looks written")


@_NO_FALLOCATE
def test_fallocate_reserves_beyond_the_end(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDWR) as file:
        linux.fallocate(file, linux.FALLOC_KEEP_SIZE, 0, 100_000)
    assert root.content("file") == b"content"


@_NO_FALLOCATE
@pytest.mark.parametrize(
    "mode",
    [linux.FALLOC_PUNCH_HOLE | linux.FALLOC_KEEP_SIZE, linux.FALLOC_ZERO_RANGE],
    ids=["punch hole", "zero range"],
)
def test_fallocate_makes_zeros(root: Actor, mode: int) -> None:
    root.create("file", content=b"x" * 20_000)
    with root.opened("file", os.O_RDWR) as file:
        linux.fallocate(file, mode, 5000, 10_000)
    assert root.content("file") == b"x" * 5000 + bytes(10_000) + b"x" * 5000


@_NO_LSEEK
def test_holes_are_found(root: Actor) -> None:
    with root.opened("file", os.O_RDWR | os.O_CREAT) as file:
        os.pwrite(file, b"x" * 65_536, 1_048_576)
        os.ftruncate(file, 3_145_728)
        assert os.lseek(file, 0, os.SEEK_DATA) == 1_048_576
        assert os.lseek(file, 1_048_576, os.SEEK_HOLE) == 1_048_576 + 65_536
        assert os.lseek(file, 0, os.SEEK_HOLE) == 0


def test_seeking_for_holes_ends_at_the_files_end(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDONLY) as file:
        assert os.lseek(file, 0, os.SEEK_DATA) == 0
        assert os.lseek(file, 3, os.SEEK_HOLE) == 7
        for how in (os.SEEK_DATA, os.SEEK_HOLE):
            with refused(errno.ENXIO):
                os.lseek(file, 7, how)


def test_blocks_hold_all_bytes(root: Actor) -> None:
    root.create("file", content=os.urandom(1_000_000))
    with root.opened("file", os.O_WRONLY) as file:
        os.fsync(file)
    assert 1_000_000 <= root.stat("file").st_blocks * 512 < 1_100_000


def test_holes_take_no_blocks(root: Actor) -> None:
    with root.opened("file", os.O_WRONLY | os.O_CREAT) as file:
        os.pwrite(file, b"x" * 100_000, 5_000_000)
        os.ftruncate(file, 20_000_000)
        assert 100_000 <= os.fstat(file).st_blocks * 512 < 200_000
        os.fsync(file)
    assert 100_000 <= root.stat("file").st_blocks * 512 < 200_000
