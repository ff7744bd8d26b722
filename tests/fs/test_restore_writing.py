"""Files of a restore in the places of others: what stood there stays until all is written."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from libernet.fs.nodes import Appearance
from libernet.fs.restore import writing
from libernet.fs.restore.writing import Piece, Wanted, Writer


def _wanted(path: Path, content: bytes) -> Wanted:
    look = Appearance(stat.S_IFREG | 0o640, len(content), os.getuid(), os.getgid(), 10**18)
    return Wanted(os.fsencode(path), look, pieces=[Piece(len(content), lambda: content)])


def test_what_killed_restores_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    for number in range(100):
        (tmp_path / f".libernet-{number}").write_bytes(b"half")
    Writer(trusted=True).file(_wanted(file, b"new"))
    assert file.read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 101


def test_a_folder_with_something_in_it_stays_and_nothing_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        Writer(trusted=True).file(_wanted(tmp_path / "file", b"new"))
    assert os.listdir(tmp_path) == ["file"]
    (tmp_path / "file" / "inside").rmdir()
    Writer(trusted=True).file(_wanted(tmp_path / "file", b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_that_cannot_be_read_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    wanted = _wanted(file, b"new")
    with pytest.raises(OSError, match="another size"):
        Writer(trusted=True).file(
            Wanted(wanted.path, wanted.look, pieces=[Piece(3, lambda: b"longer than that")])
        )
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


class _Large:
    """A file of four pieces, one of them a hole, that remembers which were read."""

    contents = (b"first", b"second", bytes(7), b"last")

    def __init__(self, path: Path, *, broken: int | None = None) -> None:
        self.read: list[int] = []
        look = Appearance(stat.S_IFREG | 0o640, 22, os.getuid(), os.getgid(), 10**18)
        pieces = [self._piece(number, broken) for number in range(4)]
        self.wanted = Wanted(os.fsencode(path), look, pieces=pieces)

    def _piece(self, number: int, broken: int | None) -> Piece:
        content = self.contents[number]

        def read() -> bytes:
            if number == broken:
                raise OSError(errno.EIO, "nobody has it")
            self.read.append(number)
            return content

        is_hole = not content.strip(b"\0")
        return Piece(len(content), None if is_hole else read, lambda other: other == content)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a file that counts as large, which a restore wrote half of beside it."""
    monkeypatch.setattr(writing, "_LARGE_BYTES", 20)
    file = tmp_path / "file"
    with pytest.raises(OSError, match="nobody has it"):
        Writer(trusted=True).file(_Large(file, broken=3).wanted)
    assert not file.exists()
    return file


def _beside(file: Path) -> Path:
    [found] = [each for each in file.parent.iterdir() if each != file]
    return found


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_large_file_goes_on_where_it_was(large: Path, is_replaced: bool) -> None:
    if is_replaced:
        large.write_bytes(b"old")
    again = _Large(large)
    Writer(trusted=True).file(again.wanted)
    assert again.read == [3]
    assert large.read_bytes() == b"".join(_Large.contents)
    assert os.listdir(large.parent) == ["file"]
    assert (large.stat().st_mtime_ns, stat.S_IMODE(large.stat().st_mode)) == (10**18, 0o640)


def test_of_a_half_file_only_what_is_right_is_kept(large: Path) -> None:
    _beside(large).write_bytes(b"first" + b"SECOND" + b"no hole" + b"and much more than that")
    again = _Large(large)
    Writer(trusted=True).file(again.wanted)
    assert again.read == [1, 3]
    assert large.read_bytes() == b"".join(_Large.contents)


def _by_a_link(half: Path) -> None:
    half.rename(half.parent / "victim")
    half.symlink_to("victim")


def _by_another_name(half: Path) -> None:
    os.link(half, half.parent / "victim")


def _by_others(half: Path) -> None:
    half.chmod(0o622)


def _by_a_pipe(half: Path) -> None:
    half.unlink()
    os.mkfifo(half)


@pytest.mark.parametrize("reached", [_by_a_link, _by_another_name, _by_others, _by_a_pipe])
def test_nothing_is_written_where_others_may(large: Path, reached: Callable[[Path], None]) -> None:
    half = _beside(large)
    reached(half)
    status = half.stat()
    again = _Large(large)
    Writer(trusted=True).file(again.wanted)
    assert again.read == [0, 1, 3]
    assert large.read_bytes() == b"".join(_Large.contents)
    assert (half.stat().st_ino, half.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_two_restores_do_not_write_into_one_file(large: Path) -> None:
    half = _beside(large)
    with half.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        again = _Large(large)
        Writer(trusted=True).file(again.wanted)
    assert again.read == [0, 1, 3]
    assert large.read_bytes() == b"".join(_Large.contents)
    assert half.exists()
