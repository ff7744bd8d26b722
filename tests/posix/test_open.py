"""open and its flags."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.posix.kinds import make
from tests.support.actors import Actor, refused

_CREATE = os.O_WRONLY | os.O_CREAT


def test_creating_what_is_there_opens_it_as_it_is(root: Actor, ann: Actor) -> None:
    root.create("file", 0o646, b"content")
    os.close(ann.open("file", _CREATE, 0o600))
    assert (root.mode("file"), root.owner("file")) == (0o646, (0, 0))
    assert root.content("file") == b"content"


def test_a_new_file_may_be_written_to_by_whoever_made_it_whatever_its_mode(ann: Actor) -> None:
    with ann.opened("file", os.O_RDWR | os.O_CREAT, 0) as file:
        os.write(file, b"content")
    assert ann.stat("file").st_size == 7
    with refused(errno.EACCES):
        ann.open("file", os.O_RDONLY)


@pytest.mark.parametrize("there", ["file", "folder", "fifo", "lost link", "link", "circle"])
def test_excl_takes_no_name_that_is_there(root: Actor, there: str) -> None:
    root.mkdir("folder")
    root.create("file")
    root.mkfifo("fifo")
    root.symlink("file", "link")
    root.symlink("nowhere", "lost link")
    root.symlink("circle", "circle")
    with refused(errno.EEXIST):
        root.open(there, _CREATE | os.O_EXCL)
    assert "nowhere" not in root.listdir(".")


def test_creating_through_a_lost_link_makes_its_target(root: Actor) -> None:
    root.symlink("target", "link")
    root.write_file("link", b"content")
    assert root.content("target") == b"content"
    assert root.readlink("link") == "target"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, _CREATE, os.O_RDONLY | os.O_TRUNC])
def test_a_folder_is_not_opened_for_writing(root: Actor, flags: int) -> None:
    root.mkdir("folder")
    with refused(errno.EISDIR):
        root.open("folder", flags)


def test_a_folder_is_asked_for_and_a_link_is_not(root: Actor) -> None:
    for kind in ("file", "folder", "link", "fifo"):
        make(root, kind, kind)
    root.symlink("folder", "to folder")
    for path in ("file", "fifo"):
        with refused(errno.ENOTDIR):
            root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    with refused(errno.ELOOP):
        root.open("link", os.O_RDONLY | os.O_NOFOLLOW)
    with refused(errno.ENOTDIR, errno.ELOOP):
        root.open("to folder", os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    os.close(root.open("to folder", os.O_RDONLY | os.O_DIRECTORY))


def test_trunc_empties_and_keeps_all_else(root: Actor, ann: Actor) -> None:
    ann.create("file", 0o640, b"content")
    root.link("file", "twin")
    before = root.stat("file")
    os.close(ann.open("file", os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o777))
    after = root.stat("twin")
    assert (after.st_size, after.st_mode, after.st_uid, after.st_ino) == (
        0,
        before.st_mode,
        before.st_uid,
        before.st_ino,
    )


def test_trunc_shows_at_once_in_what_others_have_open(root: Actor) -> None:
    root.create("file", content=b"x" * 100_000)
    with root.opened("file", os.O_RDWR) as file:
        assert len(os.pread(file, 200_000, 0)) == 100_000
        os.close(root.open("file", os.O_WRONLY | os.O_TRUNC))
        assert os.pread(file, 10, 0) == b""
        os.pwrite(file, b"y", 5)
    assert root.content("file") == bytes(5) + b"y"


def test_append_writes_at_the_end_wherever_that_is(root: Actor) -> None:
    root.create("file", content=b"0")
    flags = os.O_RDWR | os.O_APPEND
    with root.opened("file", flags) as one, root.opened("file", flags) as other:
        os.write(one, b"1")
        os.write(other, b"2")
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"3")
        os.pwrite(other, b"4", 0)
        os.ftruncate(one, 8)
        os.write(other, b"5")
    assert root.content("file") == b"01234\0\0\x005"


def test_what_was_not_opened_for_it_is_not_done(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_WRONLY) as file, refused(errno.EBADF):
        os.read(file, 1)
    with root.opened("file", os.O_RDONLY) as file:
        with refused(errno.EBADF):
            os.write(file, b"x")
        with refused(errno.EINVAL):
            os.ftruncate(file, 0)
    with root.opened("file", os.O_PATH) as file:
        assert os.fstat(file).st_size == 7
        with refused(errno.EBADF):
            os.read(file, 1)
        with refused(errno.EBADF):
            os.fchmod(file, 0)


def test_an_open_file_stays_open_whatever_becomes_of_its_rights(root: Actor, ann: Actor) -> None:
    ann.create("file", 0o600, b"content")
    with ann.opened("file", os.O_RDWR) as file:
        root.chown("file", 0, 0)
        root.chmod("file", 0)
        assert ann.does(os.pread, file, 10, 0) == b"content"
        ann.does(os.pwrite, file, b"C", 0)
    assert root.content("file") == b"Content"


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC", "O_NOATIME", "O_CLOEXEC", "O_NONBLOCK"])
def test_flags_that_change_no_bytes(root: Actor, flag: str) -> None:
    with root.opened("file", os.O_RDWR | os.O_CREAT | getattr(os, flag)) as file:
        os.write(file, b"content")
        assert os.pread(file, 10, 0) == b"content"


def test_reading_without_a_trace_is_for_owners(root: Actor, ann: Actor) -> None:
    root.create("file", 0o666)
    with refused(errno.EPERM):
        ann.open("file", os.O_RDONLY | os.O_NOATIME)


def test_one_end_of_a_file_is_known_by_many(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDONLY) as file:
        twin = os.dup(file)
        assert os.read(file, 3) == b"con"
        assert os.read(twin, 3) == b"ten"
        assert os.lseek(file, 0, os.SEEK_CUR) == 6
        assert os.lseek(twin, -1, os.SEEK_END) == 6
        with refused(errno.EINVAL):
            os.lseek(file, -1, os.SEEK_SET)
        os.close(twin)


def test_a_program_runs_and_is_not_written_to_meanwhile(root: Actor, place: Path) -> None:
    shutil.copy("/bin/cat", place / "cat")
    child = subprocess.Popen([place / "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for act in (
            lambda: root.open("cat", os.O_WRONLY),
            lambda: root.truncate("cat", 5),
        ):
            with refused(errno.ETXTBSY):
                act()
        assert child.communicate(b"hello", timeout=60) == (b"hello", None)
    finally:
        child.kill()
        child.wait()
    root.chmod("cat", 0o644)
    with refused(errno.EACCES):
        subprocess.run([place / "cat"], check=False)


@pytest.mark.unmet("pyfuse3 has no handler for tmpfile")
def test_a_file_is_made_without_a_name_and_given_one_later(root: Actor) -> None:
    with root.opened(".", os.O_RDWR | os.O_TMPFILE) as file:
        os.write(file, b"content")
        assert root.listdir(".") == []
        with root.opened(".", os.O_PATH | os.O_DIRECTORY) as here:
            path = f"/proc/self/fd/{file}"
            root.link(path, "file", src_dir_fd=here, follow_symlinks=True)
    assert root.content("file") == b"content"
