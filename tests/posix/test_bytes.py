"""Reading and writing in all the ways there are: calls, maps, copies inside the kernel."""

import errno
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.actors import Actor, refused

_BYTES = bytes(range(251)) * 4000
_SECONDS = 60


@pytest.fixture
def file(root: Actor, place: Path) -> Path:
    root.create("file", 0o666, _BYTES)
    return place / "file"


def test_writes_land_where_they_should(root: Actor, file: Path) -> None:
    expected = bytearray(_BYTES)
    with root.opened("file", os.O_RDWR) as opened:
        for offset, length in ((0, 1), (4095, 2), (100_000, 70_000), (1_003_999, 10), (5, 0)):
            os.pwrite(opened, b"#" * length, offset)
            expected[offset : offset + length] = b"#" * length
            assert os.pread(opened, len(expected), 0) == expected


def test_vectors_are_read_and_written(root: Actor, file: Path) -> None:
    with root.opened("file", os.O_RDWR) as opened:
        assert os.pwritev(opened, [b"one", b"", b"three" * 2000], 4000) == 10_003
        parts = [bytearray(2), bytearray(5000), bytearray(5001)]
        assert os.preadv(opened, parts, 4000) == 10_003
    assert b"".join(parts) == b"one" + b"three" * 2000


def test_unbuffered_calls_see_what_buffered_ones_do(root: Actor, file: Path) -> None:
    page = mmap.mmap(-1, 8192)
    page[:] = b"d" * 8192
    with (
        root.opened("file", os.O_RDWR | os.O_DIRECT) as direct,
        root.opened("file", os.O_RDWR) as buffered,
    ):
        assert os.pread(buffered, 10, 4096) == _BYTES[4096:4106]
        os.pwritev(direct, [page], 4096)
        assert os.pread(buffered, 10, 4096) == b"d" * 10
        os.pwrite(buffered, b"buffered", 8192)
        os.preadv(direct, [page], 8192)
        assert page[:8] == b"buffered"


def test_a_shared_map_and_the_file_are_one(root: Actor, file: Path) -> None:
    with (
        root.opened("file", os.O_RDWR) as one,
        root.opened("file", os.O_RDWR) as other,
        mmap.mmap(one, 0) as mapped,
        mmap.mmap(other, 0) as twin,
    ):
        mapped[500_000:500_005] = b"hello"
        assert twin[500_000:500_005] == b"hello"
        assert os.pread(other, 5, 500_000) == b"hello"
        os.pwrite(other, b"J", 500_000)
        assert mapped[500_000:500_005] == b"Jello"
        mapped.flush()
        assert file.read_bytes()[500_000:500_005] == b"Jello"


def test_a_private_map_is_nobody_elses(root: Actor, file: Path) -> None:
    with root.opened("file", os.O_RDONLY) as opened:
        with mmap.mmap(opened, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_WRITE) as mapped:
            mapped[0:5] = b"mine!"
            assert os.pread(opened, 5, 0) == _BYTES[:5]
        assert root.content("file") == _BYTES


def test_a_map_outlives_the_open_file_and_its_name(root: Actor, file: Path) -> None:
    with root.opened("file", os.O_RDWR) as opened:
        mapped = mmap.mmap(opened, 0)
        root.link("file", "twin")
    root.unlink("file")
    mapped[0:5] = b"later"
    mapped.close()
    assert root.content("twin") == b"later" + _BYTES[5:]


def test_what_a_map_holds_behind_the_end_is_zeros_and_stays_there(root: Actor) -> None:
    root.create("file", content=b"x" * 4096)
    with root.opened("file", os.O_RDWR) as opened, mmap.mmap(opened, 4096) as mapped:
        root.truncate("file", 100)
        assert mapped[100:] == bytes(3996)
        mapped[200:205] = b"extra"
        mapped.flush()
    assert root.content("file") == b"x" * 100
    root.truncate("file", 300)
    assert root.content("file") == b"x" * 100 + bytes(200)


def test_a_map_needs_an_open_file_that_allows_it(root: Actor, file: Path) -> None:
    with root.opened("file", os.O_RDONLY) as opened, refused(errno.EACCES):
        mmap.mmap(opened, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE)
    with root.opened("file", os.O_WRONLY) as opened, refused(errno.EACCES):
        mmap.mmap(opened, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)


def test_a_map_of_what_was_cut_off_ends_the_process(root: Actor, file: Path) -> None:
    code = """if True:
        import mmap, os, resource, sys
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        file = os.open(sys.argv[1], os.O_RDWR)
        mapped = mmap.mmap(file, 0)
        os.ftruncate(file, 4096)
        assert mapped[4095]
        mapped[8192]
    """
    child = subprocess.run([sys.executable, "-c", code, file], check=False, timeout=_SECONDS)
    assert child.returncode == -signal.SIGBUS


def test_another_process_sees_what_a_map_changed(root: Actor, file: Path) -> None:
    code = """if True:
        import mmap, sys
        with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[10:15] = mapped[10:15].swapcase() if mapped[10:15].isalpha() else b"there"
    """
    with root.opened("file", os.O_RDWR) as opened, mmap.mmap(opened, 0) as mapped:
        mapped[10:15] = b"hello"
        subprocess.run([sys.executable, "-c", code, file], check=True, timeout=_SECONDS)
        assert mapped[10:15] == b"HELLO"


def test_ranges_are_copied_inside_the_kernel(root: Actor, file: Path) -> None:
    with root.opened("file", os.O_RDWR) as old, root.opened("new", os.O_RDWR | os.O_CREAT) as new:
        assert _copied(old, new, 300_000, 1000, 5) == 300_000
        assert root.content("new") == bytes(5) + _BYTES[1000:301_000]
        assert _copied(old, new, 100, len(_BYTES) - 40, 0) == 40
        assert _copied(old, new, 100, len(_BYTES), 0) == 0
        assert _copied(old, old, 1000, 0, 500_000) == 1000
        assert os.pread(old, 1000, 500_000) == _BYTES[:1000]
        with refused(errno.EINVAL):
            os.copy_file_range(old, old, 1000, 0, 500)
    with (
        root.opened("file", os.O_RDONLY) as old,
        root.opened("new", os.O_RDONLY) as new,
        refused(errno.EBADF),
    ):
        os.copy_file_range(old, new, 1000, 0, 0)


def test_files_are_sent_through_pipes(root: Actor, file: Path) -> None:
    reader, writer = os.pipe()
    try:
        with root.opened("file", os.O_RDONLY) as old, root.opened("new", 0o102) as new:
            sent = 0
            while sent < 400_000:
                count = os.splice(old, writer, 65_536, offset_src=sent)
                assert os.splice(reader, new, count, offset_dst=sent) == count
                sent += count
            assert root.content("new") == _BYTES[:sent]
            os.ftruncate(new, 0)
            assert os.sendfile(new, old, 0, 100_000) == 100_000
            assert root.content("new")[-100_000:] == _BYTES[:100_000]
    finally:
        os.close(reader)
        os.close(writer)


def test_a_folder_is_not_read_as_a_file(root: Actor) -> None:
    root.mkdir("folder")
    with root.opened("folder", os.O_RDONLY) as folder:
        with refused(errno.EISDIR):
            os.read(folder, 10)
        os.fsync(folder)


def _copied(old: int, new: int, count: int, old_offset: int, new_offset: int) -> int:
    done = 0
    while done < count:
        part = os.copy_file_range(old, new, count - done, old_offset + done, new_offset + done)
        if not part:
            break
        done += part
    return done
