"""link and unlink: names come and go, the inode stays as long as somebody uses it."""

import errno
import os

import pytest

from tests.posix.kinds import DEVICES, KINDS, make
from tests.support.actors import Actor, refused


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
def test_all_names_lead_to_one_inode_that_counts_them(root: Actor, kind: str) -> None:
    make(root, kind, "one")
    root.mkdir("folder")
    root.link("one", "two", follow_symlinks=False)
    root.link("two", "folder/three", follow_symlinks=False)
    looks = {root.lstat(name) for name in ("one", "two", "folder/three")}
    assert [look.st_nlink for look in looks] == [3]
    root.unlink("one")
    assert root.lstat("two").st_nlink == 2
    root.rename("folder/three", "three")
    assert root.lstat("three").st_nlink == 2
    root.unlink("two")
    assert root.lstat("three").st_nlink == 1
    if kind in DEVICES:
        assert root.lstat("three").st_rdev == DEVICES[kind][1]


def test_a_change_by_one_name_shows_by_all(root: Actor) -> None:
    root.create("one", content=b"content")
    root.link("one", "two")
    root.chmod("one", 0o600)
    root.chown("two", 5, 6)
    root.truncate("one", 3)
    assert root.stat("one") == root.stat("two")
    assert root.content("two") == b"con"


def test_a_folder_has_one_name(root: Actor, ann: Actor) -> None:
    root.mkdir("folder")
    for user in (root, ann):
        with refused(errno.EPERM):
            user.link("folder", "another")


def test_a_link_of_a_link_is_that_link_or_its_target(root: Actor) -> None:
    root.create("file")
    root.symlink("file", "link")
    root.link("link", "twin", follow_symlinks=False)
    _link_target(root, "link", "file too")
    assert root.readlink("twin") == "file"
    assert root.lstat("twin").st_ino == root.lstat("link").st_ino
    assert root.lstat("file too").st_ino == root.lstat("file").st_ino


def test_a_link_needs_a_folder_that_one_may_write_to(root: Actor, ann: Actor) -> None:
    ann.create("file")
    root.mkdir("folder", 0o755)
    with refused(errno.EACCES):
        ann.link("file", "folder/twin")
    assert root.stat("file").st_nlink == 1


def test_an_open_file_lives_on_without_a_name(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDWR) as file, root.opened("file", os.O_RDONLY) as other:
        root.unlink("file")
        assert root.fstat(file).st_nlink == 0
        os.pwrite(file, b"more", 7)
        os.ftruncate(file, 9)
        assert os.pread(other, 100, 0) == b"contentmo"
        assert root.fstat(other).st_size == 9
        root.create("file", content=b"another")
        assert os.pread(file, 100, 0) == b"contentmo"
    assert root.content("file") == b"another"


def test_a_file_without_a_name_gets_none_again(root: Actor) -> None:
    root.create("file")
    with root.opened("file", os.O_RDONLY) as file:
        root.unlink("file")
        with refused(errno.ENOENT):
            _link_target(root, f"/proc/self/fd/{file}", "again")


def test_an_open_file_gets_one_more_name_while_it_has_one(root: Actor) -> None:
    root.create("file", content=b"content")
    with root.opened("file", os.O_RDONLY) as file:
        _link_target(root, f"/proc/self/fd/{file}", "twin")
    root.unlink("file")
    assert root.content("twin") == b"content"


def test_a_thousand_names_lead_to_one_file(root: Actor) -> None:
    root.create("file")
    root.mkdir("names")
    for number in range(1000):
        root.link("file", f"names/{number}")
    assert root.stat("file").st_nlink == 1001
    assert {root.stat(f"names/{number}").st_ino for number in range(1000)} == {
        root.stat("file").st_ino
    }
    for number in range(1000):
        root.unlink(f"names/{number}")
    assert root.stat("file").st_nlink == 1


def _link_target(user: Actor, link: str, name: str) -> None:
    """Give what a link leads to one more name; Python asks for that only beside a folder."""
    with user.opened(".", os.O_PATH | os.O_DIRECTORY) as here:
        user.link(link, name, src_dir_fd=here, follow_symlinks=True)
