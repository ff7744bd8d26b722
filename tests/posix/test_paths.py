"""What each system call says of paths that lead nowhere: calls down, ways to fail across."""

import errno
import os
import stat
from collections.abc import Callable

import pytest

from tests.support.actors import Actor, refused

_Call = Callable[[Actor, str], object]

# Calls on something that must be there.
_ON: dict[str, _Call] = {
    "access": lambda user, path: user.access(path, os.F_OK) or user.stat(path),
    "chdir": lambda user, path: user.chdir(path),
    "chmod": lambda user, path: user.chmod(path, 0o700),
    "chown": lambda user, path: user.chown(path, -1, -1),
    "lchown": lambda user, path: user.chown(path, -1, -1, follow_symlinks=False),
    "link from": lambda user, path: user.link(path, "new"),
    "listdir": lambda user, path: user.listdir(path),
    "lstat": lambda user, path: user.lstat(path),
    "open": lambda user, path: user.open(path, os.O_RDONLY),
    "open for writing": lambda user, path: user.open(path, os.O_WRONLY),
    "readlink": lambda user, path: user.readlink(path),
    "rename from": lambda user, path: user.rename(path, "new"),
    "rmdir": lambda user, path: user.rmdir(path),
    "stat": lambda user, path: user.stat(path),
    "statvfs": lambda user, path: user.statvfs(path),
    "truncate": lambda user, path: user.truncate(path, 5),
    "unlink": lambda user, path: user.unlink(path),
    "utimensat": lambda user, path: user.utime(path, ns=(5, 5)),
    "utimensat of a link": lambda user, path: user.utime(path, ns=(5, 5), follow_symlinks=False),
}

# Calls that make a name.
_MAKING: dict[str, _Call] = {
    "create": lambda user, path: user.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "link to": lambda user, path: user.link("file", path),
    "mkdir": lambda user, path: user.mkdir(path),
    "mkfifo": lambda user, path: user.mkfifo(path),
    "mknod": lambda user, path: user.mknod(path, stat.S_IFREG | 0o600),
    "rename to": lambda user, path: user.rename("file", path),
    "symlink": lambda user, path: user.symlink("x", path),
}

_FOLLOWING = [
    name
    for name in _ON
    if name not in {"lchown", "link from", "lstat", "readlink", "rename from", "rmdir", "unlink"}
    and name != "utimensat of a link"
]

_ALL = _ON | _MAKING


def _each(calls: dict[str, _Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls.values(), ids=calls)


@pytest.fixture(autouse=True)
def file(root: Actor) -> None:
    root.create("file", 0o666)


@_each(_ALL)
def test_a_file_is_no_folder(root: Actor, call: _Call) -> None:
    with refused(errno.ENOTDIR):
        call(root, "file/below")


@_each(_ALL)
def test_a_folder_on_the_way_must_be_there(root: Actor, call: _Call) -> None:
    with refused(errno.ENOENT):
        call(root, "nowhere/below")


@_each(_ON)
def test_what_is_not_there_cannot_be_used(root: Actor, call: _Call) -> None:
    with refused(errno.ENOENT):
        call(root, "nothing")


@_each(_ALL)
def test_an_empty_path_leads_nowhere(root: Actor, call: _Call) -> None:
    with refused(errno.ENOENT):
        call(root, "")


@_each(_ALL)
def test_a_name_has_255_bytes_at_most(root: Actor, call: _Call) -> None:
    for path in ("n" * 256, "n" * 256 + "/below"):
        with refused(errno.ENAMETOOLONG):
            call(root, path)


@_each(_ALL)
def test_a_path_has_4095_bytes_at_most(root: Actor, call: _Call) -> None:
    with refused(errno.ENAMETOOLONG):
        call(root, "./" * 2045 + "file12")


@_each(_ALL)
def test_a_folder_on_the_way_must_let_one_through(root: Actor, ann: Actor, call: _Call) -> None:
    root.mkdir("closed")
    root.create("closed/below", 0o666)
    root.chmod("closed", 0o766)  # to be listed and changed, but not for going through
    with refused(errno.EACCES):
        call(ann, "closed/below")


@_each(_MAKING | {name: _ON[name] for name in ("unlink", "rename from")})
def test_names_change_where_one_may_write(root: Actor, ann: Actor, call: _Call) -> None:
    root.mkdir("closed", 0o755)
    root.create("closed/there", 0o666)
    name = "there" if call in _ON.values() else "new"
    with refused(errno.EACCES):
        call(ann, f"closed/{name}")
    assert root.listdir("closed") == ["there"]


@_each(_ALL)
def test_links_that_lead_in_a_circle_lead_nowhere(root: Actor, call: _Call) -> None:
    root.symlink("there", "here")
    root.symlink("here", "there")
    with refused(errno.ELOOP):
        call(root, "here/below")


@_each({name: _ON[name] for name in _FOLLOWING})
def test_a_link_that_is_followed_leads_somewhere(root: Actor, call: _Call) -> None:
    root.symlink("itself", "itself")
    root.symlink("nowhere", "lost")
    with refused(errno.ELOOP):
        call(root, "itself")
    with refused(errno.ENOENT):
        call(root, "lost")


@_each({name: _MAKING[name] for name in _MAKING if name != "rename to"})
@pytest.mark.parametrize("there", ["file", "folder", "fifo", "link", "lost link"])
def test_a_name_that_is_taken_is_not_made_again(root: Actor, call: _Call, there: str) -> None:
    root.mkdir("folder")
    root.mkfifo("fifo")
    root.symlink("file", "link")
    root.symlink("nowhere", "lost link")
    before = root.lstat(there)
    with refused(errno.EEXIST):
        call(root, there)
    assert root.lstat(there) == before


@_each(_ALL)
def test_only_a_folder_has_a_slash_behind_it(root: Actor, call: _Call) -> None:
    if call is _MAKING["mkdir"]:
        root.mkdir("new/")
        return
    path = "file/" if call in _ON.values() else "new/"
    with refused(errno.ENOTDIR, errno.ENOENT, errno.EISDIR):
        call(root, path)


@pytest.mark.parametrize(
    "name",
    ["n" * 255, os.fsdecode(b"\xff" * 255), os.fsdecode(b"\x01"), "\n", "\u00fc" * 127, "-", "..."],
    ids=["longest", "no text", "control", "line feed", "letters", "hyphen", "dots"],
)
@_each(_MAKING)
def test_any_bytes_but_slash_and_nul_make_a_name(root: Actor, call: _Call, name: str) -> None:
    root.mkdir("folder")
    result = call(root, f"folder/{name}")
    if isinstance(result, int):
        os.close(result)
    assert root.listdir("folder") == [name]
    root.rename(f"folder/{name}", "folder/other")
    root.rename("folder/other", f"folder/{name}")
    assert root.listdir("folder") == [name]


def test_names_that_differ_in_one_bit_are_two(root: Actor) -> None:
    names = ["name", "Name", "n\u00e4me", "na\u0308me", os.fsdecode(b"nam\xe5"), "name "]
    root.mkdir("folder")
    for number, name in enumerate(names):
        root.create(f"folder/{name}", content=b"%d" % number)
    assert sorted(root.listdir("folder")) == sorted(names)
    for number, name in enumerate(names):
        assert root.content(f"folder/{name}") == b"%d" % number


def test_a_tree_is_deeper_than_a_path_is_long(root: Actor) -> None:
    name = "d" * 250
    for _ in range(20):
        root.mkdir(name)
        root.chdir(name)
    root.create("bottom")
    for _ in range(20):
        root.chdir("..")
    way = "/".join([name] * 16)
    assert root.listdir(way) == [name]
    with refused(errno.ENAMETOOLONG):
        root.listdir("/".join([name] * 17))


def test_the_longest_path_is_used_by_every_call(root: Actor) -> None:
    folder = "/".join(["d" * 250] * 16)
    root.makedirs(folder)
    path = f"{folder}/{'n' * (4095 - len(folder) - 1)}"
    for make, take in (
        (root.create, root.unlink),
        (root.mkdir, root.rmdir),
        (root.mkfifo, root.unlink),
        (lambda name: root.symlink("x" * 4095, name), root.unlink),
        (lambda name: root.link("file", name), root.unlink),
        (lambda name: root.rename("file", name), lambda name: root.rename(name, "file")),
    ):
        make(path)
        assert root.lstat(path).st_nlink
        take(path)
        with refused(errno.ENOENT):
            root.lstat(path)


def test_the_dots_are_no_names_to_change(root: Actor) -> None:
    root.mkdir("folder")
    for act, numbers in (
        (lambda: root.rmdir("folder/."), {errno.EINVAL}),
        (lambda: root.rmdir("folder/.."), {errno.ENOTEMPTY}),
        (lambda: root.unlink("folder/."), {errno.EISDIR, errno.EPERM}),
        (lambda: root.rename("folder/.", "new"), {errno.EINVAL, errno.EBUSY}),
        (lambda: root.rename("folder/..", "new"), {errno.EINVAL, errno.EBUSY}),
        (lambda: root.mkdir("folder/."), {errno.EEXIST}),
        (lambda: root.link("file", "folder/."), {errno.EEXIST}),
    ):
        with refused(*numbers):
            act()


def test_a_folder_says_what_it_is_and_what_it_stands_in(root: Actor) -> None:
    root.mkdir("outer")
    root.mkdir("outer/inner")
    assert root.stat("outer/inner/.").st_ino == root.stat("outer/inner").st_ino
    assert root.stat("outer/inner/..").st_ino == root.stat("outer").st_ino
    root.rename("outer/inner", "moved")
    assert root.stat("moved/..").st_ino == root.stat(".").st_ino
