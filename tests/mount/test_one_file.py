"""One file and everything that can be done to its bytes, thousands of times, beside a bytearray."""

import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from tests.support.linux import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, fallocate
from tests.support.node import Node

_LENGTHS = [1, 2, 511, 4095, 4096, 4097, 65_536, 100_000, 1_048_543, 1_048_545]

# How often each is done in a round, which has some thousand steps.
_ROUND = {
    "write": 240,
    "append": 60,
    "read": 200,
    "read by a map": 80,
    "write by a map": 80,
    "read around the cache": 20,
    "write around the cache": 20,
    "copy a range": 60,
    "copy a range from another file": 20,
    "cut": 50,
    "grow": 40,
    "empty": 5,
    "zero a range": 20,
    "fsync": 15,
    "sync and drop the cache": 3,
    "reopen": 40,
    "rename": 20,
    "replace by a copy": 10,
    "link and unlink": 10,
    "snapshot": 2,
    "remount": 3,
    "kill": 2,
}


class _File:
    """The file, and what must be in it.

    State: model; file, open for reading and writing; path.
    """

    def __init__(self, node: Node, play: random.Random, max_bytes: int) -> None:
        self.node = node
        self.play = play
        self.max_bytes = max_bytes
        self.model = bytearray()
        self.folder = node.backups / "one file"
        self.folder.mkdir()
        self.path = self.folder / "file"
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def do(self, name: str) -> None:
        """Do one of what a round has."""
        getattr(self, name.replace(" ", "_"))()
        assert os.fstat(self.file).st_size == len(self.model)

    def check(self) -> None:
        """Compare all of it."""
        assert os.pread(self.file, self.max_bytes + 1, 0) == self.model

    def write(self) -> None:
        offset, data = self._anywhere(), self._bits()
        offset = min(offset, self.max_bytes - len(data))
        assert os.pwrite(self.file, data, offset) == len(data)
        self._put(offset, data)

    def append(self) -> None:
        data = self._bits()[: self.max_bytes - len(self.model)]
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        for part in (data[: len(data) // 3], data[len(data) // 3 :]):
            os.write(file, part)
        os.close(file)
        self._put(len(self.model), data)

    def read(self) -> None:
        offset, length = self._anywhere(), self._length()
        assert os.pread(self.file, length, offset) == self.model[offset : offset + length]

    def read_by_a_map(self) -> None:
        if self.model:
            offset, length = self._anywhere(), self._length()
            with mmap.mmap(self.file, 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[offset : offset + length] == self.model[offset : offset + length]

    def write_by_a_map(self) -> None:
        if self.model:
            offset = self.play.randrange(len(self.model))
            data = self._bits()[: len(self.model) - offset]
            with mmap.mmap(self.file, 0) as mapped:
                mapped[offset : offset + len(data)] = data
                if self.play.random() < 0.5:
                    mapped.flush()
            self._put(offset, data)

    def read_around_the_cache(self) -> None:
        page = mmap.mmap(-1, 65_536)
        offset = self._anywhere() // 4096 * 4096
        with self._direct() as file:
            count = os.preadv(file, [page], offset)
        assert page[:count] == self.model[offset : offset + 65_536]

    def write_around_the_cache(self) -> None:
        page = mmap.mmap(-1, 8192)
        page[:] = self.play.randbytes(8192)
        offset = min(self._anywhere() // 4096 * 4096, self.max_bytes - 8192)
        with self._direct() as file:
            assert os.pwritev(file, [page], offset) == 8192
        self._put(offset, page[:])

    def copy_a_range(self) -> None:
        self._copy_from(self.file, bytes(self.model))

    def copy_a_range_from_another_file(self) -> None:
        content = self._bits()
        other = os.open(self.folder / "other", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(other, content)
        self._copy_from(other, content)
        os.close(other)

    def cut(self) -> None:
        size = self.play.randrange(len(self.model) + 1)
        os.ftruncate(self.file, size)
        del self.model[size:]

    def grow(self) -> None:
        size = self.play.randint(len(self.model), self.max_bytes)
        os.truncate(self.path, size)
        self.model.extend(bytes(size - len(self.model)))

    def empty(self) -> None:
        os.close(os.open(self.path, os.O_WRONLY | os.O_TRUNC))
        self.model.clear()

    def zero_a_range(self) -> None:
        """Be refused, as fallocate does not reach us, and change nothing."""
        mode = self.play.choice([FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE])
        with pytest.raises(OSError) as caught:
            fallocate(self.file, mode, self._anywhere(), self._length())
        assert caught.value.errno == errno.EOPNOTSUPP

    def fsync(self) -> None:
        os.fsync(self.file)

    def sync_and_drop_the_cache(self) -> None:
        self.node.libernet("sync")
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)
        self.check()

    def reopen(self) -> None:
        os.close(self.file)
        self.file = os.open(self.path, os.O_RDWR)

    def rename(self) -> None:
        new = self.folder / self.play.choice(["file", "letter", "x"])
        self.path.rename(new)
        self.path = new

    def replace_by_a_copy(self) -> None:
        draft = self.folder / "draft"
        draft.write_bytes(self.model)
        draft.rename(self.path)
        self.check()  # what was replaced, which is still open
        self.reopen()

    def link_and_unlink(self) -> None:
        new = self.path.with_name("twin")
        new.hardlink_to(self.path)
        self.path.unlink()
        self.path = new.rename(self.path)

    def snapshot(self) -> None:
        shown = self.node.at(self.node.snapshot(self.folder.name)) / self.path.name
        assert shown.read_bytes() == self.model

    def remount(self) -> None:
        os.close(self.file)
        self.node.remount()
        self._there_again()

    def kill(self) -> None:
        os.fsync(self.file)
        self.node.kill()
        os.close(self.file)
        self.node.mount()
        self._there_again()

    def _there_again(self) -> None:
        self.file = os.open(self.path, os.O_RDWR)
        self.check()

    def _copy_from(self, source: int, content: bytes) -> None:
        """Copy some of *content* to a place that it does not overlap."""
        start = self.play.randrange(len(content) + 1)
        length = min(self._length(), len(content) - start)
        offset = min(self._anywhere(), self.max_bytes - length)
        if source == self.file and offset < start + length and start < offset + length:
            return
        done = 0
        while done < length:
            count = os.copy_file_range(
                source, self.file, length - done, start + done, offset + done
            )
            assert count
            done += count
        if length:
            self._put(offset, content[start : start + length])

    def _direct(self) -> "_Opened":
        return _Opened(self.path)

    def _put(self, offset: int, data: bytes) -> None:
        if data:
            self.model.extend(bytes(max(0, offset - len(self.model))))
            self.model[offset : offset + len(data)] = data

    def _anywhere(self) -> int:
        """Return a place in the file or some way behind its end."""
        end = min(len(self.model) + self.play.choice([0, 0, 10, 300_000]), self.max_bytes)
        return self.play.randint(0, end)

    def _length(self) -> int:
        return min(self.play.choice(_LENGTHS), self.max_bytes)

    def _bits(self) -> bytes:
        return self.play.randbytes(self._length())


class _Opened:
    """A file opened without the kernel's cache, as a context."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._file = os.open(self._path, os.O_RDWR | os.O_DIRECT)
        return self._file

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._file)


@pytest.mark.parametrize(
    ("max_bytes", "rounds"),
    [
        (100_000, 1),
        (5_000_000, 1),
        pytest.param(300_000, 15, marks=pytest.mark.long),
        pytest.param(12_000_000, 15, marks=pytest.mark.long),
    ],
)
def test_a_file_is_what_was_done_to_it(node: Node, max_bytes: int, rounds: int) -> None:
    node.mount()
    file = _File(node, random.Random(max_bytes), max_bytes)
    try:
        for _ in range(rounds):
            steps = [name for name, count in _ROUND.items() for _ in range(count)]
            file.play.shuffle(steps)
            for number, name in enumerate(steps):
                file.do(name)
                if number % 20 == 0:
                    file.check()
        file.check()
    finally:
        os.close(file.file)
    shown = node.at(node.snapshot(file.folder.name)) / file.path.name
    assert shown.read_bytes() == file.model
    node.libernet("check", "--read")  # which must find nothing
