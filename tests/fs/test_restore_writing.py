"""Files of a restore in the places of others: what stood there stays until all is written."""

import errno
import os
import stat
from pathlib import Path

import pytest

from libernet.fs.nodes import Appearance
from libernet.fs.restore.writing import Wanted, Writer


def _wanted(path: Path, content: bytes) -> Wanted:
    look = Appearance(stat.S_IFREG | 0o640, len(content), os.getuid(), os.getgid(), 10**18)
    return Wanted(os.fsencode(path), look, pieces=[(len(content), lambda: content)])


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
            Wanted(wanted.path, wanted.look, pieces=[(3, lambda: b"longer than that")])
        )
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
