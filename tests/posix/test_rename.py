"""rename and renameat2: what moves, what is replaced, what is refused."""

import errno
import os

import pytest

from tests.posix.kinds import KINDS, make
from tests.support.actors import Actor, refused
from tests.support.linux import RENAME_EXCHANGE, RENAME_NOREPLACE, rename2

_NO_FOLDERS = [kind for kind in KINDS if kind != "folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_anything_moves_and_stays_what_it_is(root: Actor, kind: str) -> None:
    make(root, kind, "old")
    root.mkdir("folder")
    before = root.lstat("old")
    for old, new in (("old", "new"), ("new", "folder/new"), ("folder/new", "folder/old")):
        root.rename(old, new)
        after = root.lstat(new)
        assert (after.st_ino, after.st_mode, after.st_mtime_ns, after.st_size) == (
            before.st_ino,
            before.st_mode,
            before.st_mtime_ns,
            before.st_size,
        )
        with refused(errno.ENOENT):
            root.lstat(old)
    assert root.listdir("folder") == ["old"]


@pytest.mark.parametrize("old", _NO_FOLDERS)
@pytest.mark.parametrize("new", _NO_FOLDERS)
def test_anything_replaces_anything_but_folders(root: Actor, old: str, new: str) -> None:
    make(root, old, "old")
    make(root, new, "new")
    ino = root.lstat("old").st_ino
    root.rename("old", "new")
    assert root.lstat("new").st_ino == ino
    assert root.listdir(".") == ["new"]


def test_what_is_replaced_lives_while_it_is_open(root: Actor) -> None:
    root.create("old", content=b"old")
    root.create("new", content=b"new")
    with root.opened("new", os.O_RDONLY) as file:
        root.rename("old", "new")
        assert os.read(file, 10) == b"new"
        assert root.fstat(file).st_nlink == 0
    assert root.content("new") == b"old"


def test_what_is_replaced_keeps_its_other_names(root: Actor) -> None:
    root.create("old")
    root.create("new", content=b"kept")
    root.link("new", "other")
    root.rename("old", "new")
    assert root.content("other") == b"kept"
    assert root.stat("other").st_nlink == 1


def test_two_names_of_one_file_both_stay(root: Actor) -> None:
    root.create("one")
    root.link("one", "two")
    root.rename("one", "two")
    assert sorted(root.listdir(".")) == ["one", "two"]
    assert root.stat("one").st_nlink == 2


def test_a_name_is_renamed_to_itself(root: Actor) -> None:
    root.mkdir("folder")
    root.create("folder/file")
    root.rename("folder", "folder")
    root.rename("folder/file", "folder/file")
    assert root.listdir("folder") == ["file"]


def test_a_folder_replaces_an_empty_folder_alone(root: Actor) -> None:
    root.makedirs("old/inner")
    root.mkdir("empty")
    root.makedirs("full/inner")
    root.rename("old", "empty")
    assert root.listdir("empty") == ["inner"]
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        root.rename("empty", "full")
    assert sorted(root.listdir(".")) == ["empty", "full"]


@pytest.mark.parametrize("kind", _NO_FOLDERS)
def test_folders_and_all_else_do_not_replace_each_other(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    root.mkdir("folder")
    with refused(errno.ENOTDIR):
        root.rename("folder", "it")
    with refused(errno.EISDIR):
        root.rename("it", "folder")
    assert sorted(root.listdir(".")) == ["folder", "it"]


def test_a_folder_moves_with_all_that_is_in_it(root: Actor) -> None:
    root.makedirs("from/a/b/c")
    root.create("from/a/b/c/file", content=b"deep")
    root.mkdir("to")
    with root.opened("from/a/b", os.O_RDONLY | os.O_DIRECTORY) as folder:
        root.rename("from/a", "to/x")
        assert root.stat("c/file", dir_fd=folder).st_size == 4
    assert root.content("to/x/b/c/file") == b"deep"
    assert root.stat("to/x/..").st_ino == root.stat("to").st_ino
    assert (root.stat("from").st_nlink, root.stat("to").st_nlink) == (2, 3)


def test_no_folder_moves_below_itself(root: Actor) -> None:
    root.makedirs("a/b/c")
    for new in ("a/x", "a/b/x", "a/b/c/x"):
        with refused(errno.EINVAL):
            root.rename("a", new)
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        root.rename("a/b/c", "a")


def test_links_are_renamed_themselves(root: Actor) -> None:
    root.mkdir("folder")
    root.symlink("folder", "link")
    root.rename("link", "moved")
    assert root.readlink("moved") == "folder"
    root.create("file")
    root.rename("file", "moved")
    assert root.listdir("folder") == []


def test_both_folders_must_be_writable(root: Actor, ann: Actor) -> None:
    for name, mode in (("open", 0o777), ("closed", 0o755)):
        root.mkdir(name)
        root.chmod(name, mode)
        root.create(f"{name}/file")
    for old, new in (("open", "closed"), ("closed", "open"), ("closed", "closed")):
        for name in ("file", "new"):
            if (old, name) != (new, "file"):
                with refused(errno.EACCES):
                    ann.rename(f"{old}/file", f"{new}/{name}")
    ann.rename("open/file", "open/new")


def test_a_folder_that_one_may_not_write_to_does_not_change_its_parent(
    root: Actor, ann: Actor
) -> None:
    for name in ("from", "to"):
        root.mkdir(name)
        root.chmod(name, 0o777)
    root.mkdir("from/of root", 0o755)
    with refused(errno.EACCES):
        ann.rename("from/of root", "to/of root")
    ann.rename("from/of root", "from/still of root")


@pytest.mark.parametrize("kind", KINDS)
def test_noreplace_moves_to_free_names_alone(root: Actor, kind: str) -> None:
    make(root, kind, "old")
    make(root, "file", "taken")
    with refused(errno.EEXIST):
        root.does(rename2, "old", "taken", RENAME_NOREPLACE)
    with refused(errno.EEXIST):
        root.does(rename2, "old", "old", RENAME_NOREPLACE)
    root.does(rename2, "old", "new", RENAME_NOREPLACE)
    assert sorted(root.listdir(".")) == ["new", "taken"]


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_exchange_changes_places_whatever_they_are(root: Actor, one: str, other: str) -> None:
    root.mkdir("folder")
    make(root, one, "one")
    make(root, other, "folder/other")
    inodes = root.lstat("one").st_ino, root.lstat("folder/other").st_ino
    root.does(rename2, "one", "folder/other", RENAME_EXCHANGE)
    assert (root.lstat("folder/other").st_ino, root.lstat("one").st_ino) == inodes
    folders = (one == "folder") + 2, (other == "folder") + 3
    assert (root.stat("folder").st_nlink, root.stat(".").st_nlink) == folders


def test_exchange_needs_both_and_no_circle(root: Actor) -> None:
    root.makedirs("a/b")
    with refused(errno.ENOENT):
        root.does(rename2, "a", "nothing", RENAME_EXCHANGE)
    for one, other in (("a", "a/b"), ("a/b", "a")):
        with refused(errno.EINVAL):
            root.does(rename2, one, other, RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        root.does(rename2, "a", "c", RENAME_EXCHANGE | RENAME_NOREPLACE)
    with refused(errno.EINVAL):
        root.does(rename2, "a", "c", 1 << 20)
    assert root.listdir("a") == ["b"]
