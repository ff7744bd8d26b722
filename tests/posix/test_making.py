"""mkdir, mkfifo, mknod, symlink, open with O_CREAT: what something new looks like; and its end."""

import errno
import os
import socket
import stat

import pytest

from tests.posix.kinds import DEVICES, KINDS, is_kind, make
from tests.support.actors import Actor, refused

_MAKING_BY_MODE = {
    "file": lambda user, path, mode: os.close(user.open(path, os.O_WRONLY | os.O_CREAT, mode)),
    "folder": lambda user, path, mode: user.mkdir(path, mode),
    "fifo": lambda user, path, mode: user.mkfifo(path, mode),
    "socket": lambda user, path, mode: user.mknod(path, stat.S_IFSOCK | mode),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_is_of_its_kind_and_its_makers(root: Actor, ann: Actor, kind: str) -> None:
    maker = root if kind in DEVICES else ann
    make(maker, kind, "it")
    status = root.lstat("it")
    assert is_kind(status.st_mode, kind)
    assert (status.st_uid, status.st_gid) == (maker.uid, maker.gid)
    if kind not in {"folder", "link"}:
        assert (status.st_size, status.st_nlink) == (0, 1)
    assert root.listdir(".") == ["it"]


@pytest.mark.parametrize("kind", _MAKING_BY_MODE)
@pytest.mark.parametrize(
    ("mask", "wanted", "mode"),
    [(0o022, 0o777, 0o755), (0, 0o777, 0o777), (0o077, 0o666, 0o600), (0o777, 0o777, 0)],
)
def test_the_makers_mask_takes_bits_away(
    ann: Actor, kind: str, mask: int, wanted: int, mode: int
) -> None:
    ann.umask(mask)
    try:
        _MAKING_BY_MODE[kind](ann, "it", wanted)
    finally:
        ann.umask(0o022)
    assert ann.mode("it") == mode


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_keep_their_numbers_and_are_made_by_root_alone(
    root: Actor, ann: Actor, kind: str
) -> None:
    type_bits, device = DEVICES[kind]
    make(root, kind, "it")
    assert root.stat("it").st_rdev == device
    with refused(errno.EPERM):
        ann.mknod("another", type_bits | 0o600, device)


def test_mknod_makes_plain_files_too(ann: Actor) -> None:
    ann.mknod("file", stat.S_IFREG | 0o640)
    ann.write_file("file", b"content")
    assert (ann.content("file"), ann.mode("file")) == (b"content", 0o640)


def test_a_fifo_carries_bytes(root: Actor) -> None:
    root.mkfifo("fifo")
    with refused(errno.ENXIO):
        root.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
    with root.opened("fifo", os.O_RDONLY | os.O_NONBLOCK) as reader:
        with root.opened("fifo", os.O_WRONLY) as writer:
            os.write(writer, b"hello")
            assert os.read(reader, 100) == b"hello"
        assert os.read(reader, 100) == b""


def test_a_socket_is_connected_to_and_not_opened(root: Actor) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        root.does(server.bind, "socket")
        server.listen()
        root.does(client.connect, "socket")
        client.sendall(b"hello")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(10) == b"hello"
    with refused(errno.ENXIO):
        root.open("socket", os.O_RDONLY)


@pytest.mark.parametrize("length", [1, 10, 59, 60, 61, 1000, 4094, 4095])
def test_a_link_holds_any_text(root: Actor, length: int) -> None:
    text = os.fsdecode((b"\xff\n/../ " * 600)[:length])
    root.symlink(text, "link")
    assert root.readlink("link") == text
    assert root.lstat("link").st_size == length
    assert root.mode("link") == 0o777


def test_a_link_without_text_or_with_too_much_is_none(root: Actor) -> None:
    with refused(errno.ENAMETOOLONG):
        root.symlink("x" * 4096, "link")
    with refused(errno.ENOENT):
        root.symlink("", "link")
    assert root.listdir(".") == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "link"])
def test_only_a_link_is_read_as_one(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    with refused(errno.EINVAL):
        root.readlink("it")


def test_links_lead_on_through_other_links(root: Actor) -> None:
    root.makedirs("a/b")
    root.create("a/b/file", content=b"found")
    root.symlink("a", "one")
    root.symlink("one/b", "two")
    for number in range(38):  # with two and one these are the 40 that Linux follows
        root.symlink("two/file" if not number else f"way {number - 1}", f"way {number}")
    assert root.content("way 37") == b"found"
    root.symlink("way 37", "way 38")
    with refused(errno.ELOOP):
        root.content("way 38")


def test_things_in_a_setgid_folder_are_its_groups(
    root: Actor, ann: Actor, shared_group: int
) -> None:
    root.mkdir("folder")
    root.chown("folder", 0, shared_group)
    root.chmod("folder", 0o2777)
    for kind in KINDS:
        maker = root if kind in DEVICES else ann
        make(maker, kind, f"folder/{kind}")
        assert root.owner(f"folder/{kind}") == (maker.uid, shared_group), kind
    assert root.mode("folder/folder") == 0o2755
    ann.mkdir("folder/folder/deeper")
    assert root.owner("folder/folder/deeper") == (ann.uid, shared_group)


def test_a_new_file_in_a_setgid_folder_has_that_bit_for_members_alone(
    root: Actor, ann: Actor, shared_group: int
) -> None:
    root.mkdir("folder")
    for group, mode in ((0, 0o755), (shared_group, 0o2755)):
        root.chown("folder", 0, group)
        root.chmod("folder", 0o2777)
        os.close(ann.open("folder/file", os.O_WRONLY | os.O_CREAT, 0o2777))
        assert root.mode("folder/file") == mode
        root.unlink("folder/file")


def test_a_folder_counts_itself_its_name_and_its_folders(root: Actor) -> None:
    root.mkdir("outer")
    counts = [root.stat("outer").st_nlink]
    for step in (
        lambda: root.mkdir("outer/a"),
        lambda: root.mkdir("outer/b"),
        lambda: root.create("outer/file"),
        lambda: root.symlink("a", "outer/link"),
        lambda: root.rename("outer/b", "b"),
        lambda: root.rename("b", "outer/a/b"),
        lambda: root.rmdir("outer/a/b"),
        lambda: root.rmdir("outer/a"),
    ):
        step()
        counts.append(root.stat("outer").st_nlink)
    assert counts == [2, 3, 4, 4, 4, 3, 3, 3, 2]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
def test_unlink_takes_anything_but_a_folder(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    root.unlink("it")
    assert root.listdir(".") == []
    with refused(errno.ENOENT):
        root.lstat("it")
    make(root, kind, "it")
    with refused(errno.ENOTDIR):
        root.rmdir("it")


def test_unlink_takes_no_folder(root: Actor) -> None:
    root.mkdir("folder")
    with refused(errno.EISDIR, errno.EPERM):
        root.unlink("folder")


@pytest.mark.parametrize("kind", KINDS)
def test_rmdir_takes_no_folder_that_holds_something(root: Actor, kind: str) -> None:
    root.mkdir("folder")
    make(root, kind, "folder/it")
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        root.rmdir("folder")
    assert root.listdir("folder") == ["it"]


def test_a_folder_that_was_removed_holds_nothing_and_takes_nothing(root: Actor) -> None:
    root.mkdir("folder")
    with root.opened("folder", os.O_RDONLY | os.O_DIRECTORY) as folder:
        root.rmdir("folder")
        assert root.fstat(folder).st_nlink == 0
        assert root.listdir(folder) == []
        for act in (
            lambda: root.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=folder),
            lambda: root.mkdir("new", dir_fd=folder),
            lambda: root.stat("new", dir_fd=folder),
        ):
            with refused(errno.ENOENT):
                act()
        root.mkdir("folder")
        assert root.fstat(folder).st_ino != root.stat("folder").st_ino


@pytest.mark.parametrize("act", ["unlink", "rmdir", "rename", "replace"])
def test_in_a_sticky_folder_only_owners_take_names(
    root: Actor, ann: Actor, bob: Actor, act: str
) -> None:
    root.mkdir("sticky")
    root.chmod("sticky", 0o1777)
    kind = "folder" if act == "rmdir" else "file"
    acts = {
        "unlink": lambda user: user.unlink("sticky/it"),
        "rmdir": lambda user: user.rmdir("sticky/it"),
        "rename": lambda user: user.rename("sticky/it", f"moved by {user.uid}"),
        "replace": lambda user: user.rename(f"of {user.uid}", "sticky/it"),
    }
    for user in (bob, ann, root):
        user.create(f"of {user.uid}")
    make(ann, kind, "sticky/it")
    with refused(errno.EPERM, errno.EACCES):
        acts[act](bob)
    acts[act](ann)
    if act == "replace":
        ann.unlink("sticky/it")
    make(ann, kind, "sticky/it")
    acts[act](root)
    if act == "replace":
        root.unlink("sticky/it")
    root.chown("sticky", bob.uid, bob.gid)
    root.chmod("sticky", 0o1777)
    make(ann, kind, "sticky/it")
    if act == "replace":
        bob.create(f"of {bob.uid}", 0o600) if f"of {bob.uid}" not in root.listdir(".") else None
    acts[act](bob)  # the folder is his
