"""Which of the three times each change moves, and utimensat, which sets two of them."""

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from tests.posix.kinds import KINDS, make
from tests.support.actors import Actor, refused
from tests.support.linux import UTIME_NOW, UTIME_OMIT, rename2, set_times

_FIELDS = ("atime", "mtime", "ctime")


@dataclass(frozen=True, slots=True)
class _Row:
    """One act, and the times it moves by path: 'm' of the content, 'c' of all the rest."""

    act: Callable[[Actor], object]
    moves: dict[str, str]


def _opened(path: str, flags: int, use: Callable[[int], object]) -> Callable[[Actor], object]:
    def act(user: Actor) -> None:
        with user.opened(path, flags) as file:
            use(file)

    return act


# There are file (5 bytes), empty, twin (of linked), folder/inner, and link, which leads to file.
_TABLE: dict[str, _Row] = {
    "chmod": _Row(lambda user: user.chmod("file", 0o600), {"file": "c"}),
    "chmod to the same": _Row(lambda user: user.chmod("file", 0o644), {"file": "c"}),
    "chmod by a link": _Row(lambda user: user.chmod("link", 0o600), {"file": "c"}),
    "chown": _Row(lambda user: user.chown("file", 1, 1), {"file": "c"}),
    "chown to the same": _Row(lambda user: user.chown("file", 0, 0), {"file": "c"}),
    "lchown": _Row(lambda user: user.lchown("link", 1, 1), {"link": "c"}),
    "chown of a folder": _Row(lambda user: user.chown("folder", 1, 1), {"folder": "c"}),
    "write": _Row(_opened("file", os.O_WRONLY, lambda file: os.write(file, b"x")), {"file": "mc"}),
    "append": _Row(
        _opened("file", os.O_WRONLY | os.O_APPEND, lambda file: os.write(file, b"x")),
        {"file": "mc"},
    ),
    "write nothing": _Row(_opened("file", os.O_WRONLY, lambda file: os.write(file, b"")), {}),
    "open for writing": _Row(_opened("file", os.O_RDWR, lambda file: None), {}),
    "open with creat": _Row(_opened("file", os.O_WRONLY | os.O_CREAT, lambda file: None), {}),
    "open with trunc": _Row(
        _opened("file", os.O_WRONLY | os.O_TRUNC, lambda file: None), {"file": "mc"}
    ),
    "open an empty file with trunc": _Row(
        _opened("empty", os.O_WRONLY | os.O_TRUNC, lambda file: None), {"empty": "mc"}
    ),
    "truncate shorter": _Row(lambda user: user.truncate("file", 2), {"file": "mc"}),
    "truncate longer": _Row(lambda user: user.truncate("file", 9), {"file": "mc"}),
    "ftruncate to the same": _Row(
        _opened("file", os.O_WRONLY, lambda file: os.ftruncate(file, 5)), {"file": "mc"}
    ),
    "posix_fallocate beyond the end": _Row(
        _opened("file", os.O_RDWR, lambda file: os.posix_fallocate(file, 0, 9)), {"file": "mc"}
    ),
    "link": _Row(lambda user: user.link("file", "folder/new"), {"file": "c", "folder": "mc"}),
    "unlink one of two": _Row(lambda user: user.unlink("linked"), {"twin": "c", ".": "mc"}),
    "unlink": _Row(lambda user: user.unlink("folder/inner"), {"folder": "mc"}),
    "create": _Row(lambda user: user.create("folder/new"), {"folder": "mc"}),
    "mkdir": _Row(lambda user: user.mkdir("folder/new"), {"folder": "mc"}),
    "mkfifo": _Row(lambda user: user.mkfifo("folder/new"), {"folder": "mc"}),
    "symlink": _Row(lambda user: user.symlink("x", "folder/new"), {"folder": "mc"}),
    "rmdir": _Row(lambda user: user.rmdir("hollow"), {".": "mc"}),
    "rename in a folder": _Row(
        lambda user: user.rename("folder/inner", "folder/new"), {"folder": "mc"}
    ),
    "rename out of a folder": _Row(
        lambda user: user.rename("file", "folder/new"),
        {".": "mc", "folder": "mc", "folder/new": "c"},
    ),
    "rename of a folder": _Row(
        lambda user: user.rename("hollow", "folder/new"),
        {".": "mc", "folder": "mc", "folder/new": "c"},
    ),
    "rename over one of two": _Row(
        lambda user: user.rename("file", "linked"), {".": "mc", "linked": "c", "twin": "c"}
    ),
    "exchange": _Row(
        lambda user: user.does(rename2, "file", "folder/inner", 2),
        {".": "mc", "folder": "mc", "folder/inner": "c", "file": "c"},
    ),
    "stat": _Row(lambda user: user.stat("file"), {}),
    "access": _Row(lambda user: user.access("file", os.W_OK), {}),
    "utimensat of nothing": _Row(
        lambda user: user.does(set_times, "file", UTIME_OMIT, UTIME_OMIT), {}
    ),
    "utimensat of one": _Row(
        lambda user: user.does(set_times, "file", 5, UTIME_OMIT), {"file": "ac"}
    ),
}
_THERE = ("file", "empty", "linked", "twin", "folder", "folder/inner", "link", "hollow", ".")


@pytest.mark.parametrize("row", _TABLE.values(), ids=_TABLE)
def test_each_act_moves_its_times_and_no_others(root: Actor, row: _Row) -> None:
    for name in ("file", "empty", "linked"):
        root.create(name, content=b"" if name == "empty" else b"12345")
    root.link("linked", "twin")
    root.mkdir("folder")
    root.create("folder/inner")
    root.symlink("file", "link")
    root.mkdir("hollow")
    root.create("clock")
    before = {path: _times(root, path) for path in _THERE}
    old = {root.lstat(path).st_ino: path for path in _THERE}
    _let_the_clock_move(root)
    row.act(root)
    moved = {}
    ignored = defaultdict(set, {"link": {"a"}})  # it may have been read
    for path in {*_THERE, *row.moves}:
        try:
            ino = root.lstat(path).st_ino
        except FileNotFoundError:
            continue
        was = before.get(old.get(ino, path))
        if was is not None and (change := _moved(was, _times(root, path)) - ignored[path]):
            moved[path] = change
    wanted = {path: set(fields) for path, fields in row.moves.items()}
    if "linked" in wanted and "twin" not in wanted:
        wanted["twin"] = wanted["linked"]
    assert moved == wanted


@pytest.mark.parametrize(
    "act",
    [
        lambda user: user.chmod("file", 0o777),
        lambda user: user.chown("file", 5, -1),
        lambda user: user.truncate("file", 0),
        lambda user: user.utime("file", ns=(1, 1)),
        lambda user: user.unlink("folder/inner"),
        lambda user: user.rmdir("folder"),
        lambda user: user.mkdir("folder/new"),
        lambda user: user.symlink("x", "folder/inner"),
        lambda user: user.rename("file", "folder/new"),
        lambda user: user.rename("folder/inner", "folder/new"),
    ],
    ids=[
        "chmod",
        "chown",
        "truncate",
        "utimensat",
        "unlink",
        "rmdir",
        "mkdir",
        "symlink",
        "rename-to",
        "rename-in",
    ],
)
def test_what_is_refused_moves_no_time(
    root: Actor, ann: Actor, act: Callable[[Actor], object]
) -> None:
    root.create("file", 0o644)
    root.mkdir("folder", 0o755)
    root.create("folder/inner")
    root.create("clock")
    paths = ("file", "folder", "folder/inner", ".")
    before = [root.lstat(path) for path in paths]
    _let_the_clock_move(root)
    with refused(errno.EPERM, errno.EACCES, errno.ENOTEMPTY, errno.EEXIST):
        act(ann)
    assert [root.lstat(path) for path in paths] == before


@pytest.mark.unmet("the kernel leaves access times to us, and reads from its cache without a word")
def test_reading_moves_the_access_time(root: Actor) -> None:
    root.create("file", content=b"content")
    root.utime("file", ns=(1, 10**18))  # older than the last change, so that it moves on any mount
    root.content("file")
    assert root.stat("file").st_atime_ns > 10**18


def test_a_new_thing_is_as_old_as_the_change_of_its_folder(root: Actor) -> None:
    for kind in KINDS:
        make(root, kind, kind)
        new, folder = root.lstat(kind), root.stat(".")
        assert new.st_mtime_ns == new.st_ctime_ns == new.st_atime_ns, kind
        assert 0 <= folder.st_mtime_ns - new.st_mtime_ns < 10**9, kind


@pytest.mark.parametrize("kind", KINDS)
def test_times_are_set_to_the_nanosecond(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    for atime_ns, mtime_ns in (
        (0, 1),
        (1, 0),
        (1_234_567_890_123_456_789, 999_999_999),
        (-1, -(10**9)),
        (2**31 * 10**9, 2**32 * 10**9 + 7),  # after 2038, after 2106
    ):
        root.utime("it", ns=(atime_ns, mtime_ns), follow_symlinks=False)
        found = root.lstat("it")
        assert (found.st_atime_ns, found.st_mtime_ns) == (atime_ns, mtime_ns)


def test_times_are_set_of_an_open_file_and_by_a_link(root: Actor) -> None:
    root.create("file")
    root.symlink("file", "link")
    root.utime("link", ns=(5, 6))
    assert (root.stat("file").st_atime_ns, root.stat("file").st_mtime_ns) == (5, 6)
    assert root.lstat("link").st_mtime_ns > 6
    with root.opened("file", os.O_RDONLY) as file:
        root.unlink("file")
        root.utime(file, ns=(7, 8))
        assert (os.fstat(file).st_atime_ns, os.fstat(file).st_mtime_ns) == (7, 8)


def test_now_and_omit_are_no_times(root: Actor) -> None:
    root.create("file")
    root.utime("file", ns=(5, 6))
    root.does(set_times, "file", UTIME_OMIT, 8)
    assert (root.stat("file").st_atime_ns, root.stat("file").st_mtime_ns) == (5, 8)
    root.does(set_times, "file", 7, UTIME_OMIT)
    assert (root.stat("file").st_atime_ns, root.stat("file").st_mtime_ns) == (7, 8)
    root.does(set_times, "file", UTIME_NOW, UTIME_OMIT)
    assert root.stat("file").st_mtime_ns == 8
    assert abs(root.stat("file").st_atime_ns - root.stat("file").st_ctime_ns) < 10**9
    root.does(set_times, "file", 9, UTIME_NOW)
    assert root.stat("file").st_atime_ns == 9
    assert abs(root.stat("file").st_mtime_ns - root.stat("file").st_ctime_ns) < 10**9


def test_who_may_write_sets_them_to_now_and_only_the_owner_to_anything(
    root: Actor, ann: Actor, bob: Actor
) -> None:
    ann.create("file", 0o622)
    ann.utime("file", ns=(5, 6))
    for atime_ns, mtime_ns in ((5, 6), (UTIME_NOW, UTIME_OMIT), (UTIME_OMIT, 7)):
        with refused(errno.EPERM):
            bob.does(set_times, "file", atime_ns, mtime_ns)
    assert ann.stat("file").st_mtime_ns == 6
    bob.does(set_times, "file", UTIME_NOW, UTIME_NOW)
    assert ann.stat("file").st_mtime_ns > 6
    ann.chmod("file", 0o644)
    with refused(errno.EACCES):
        bob.does(set_times, "file", UTIME_NOW, UTIME_NOW)
    bob.does(set_times, "file", UTIME_OMIT, UTIME_OMIT)
    root.does(set_times, "file", 1, 2)


def _times(user: Actor, path: str) -> tuple[int, int, int]:
    status = user.lstat(path)
    return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns


def _moved(before: Iterable[int], after: Iterable[int]) -> set[str]:
    return {name for name, old, new in zip("amc", before, after, strict=True) if old != new}


def _let_the_clock_move(user: Actor) -> None:
    """Return when the file `clock` says that changes have another time than all before."""
    first = user.stat("clock").st_mtime_ns
    while user.stat("clock").st_mtime_ns == first:
        user.utime("clock")
