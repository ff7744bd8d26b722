import stat
from collections.abc import Callable

import pytest

from libernet.fs.inode import FIRST_INO, ROOT_INO, Inode
from libernet.fs.journal import Journal
from libernet.fs.overlay import Overlay
from libernet.fs.tree import RENAME_EXCHANGE, Changes, NewInode, Tree
from tests.support.small_tree import FOLDER, SmallTree

Operation = Callable[[SmallTree], object]


def test_a_new_inode_is_as_it_was_wanted(small: SmallTree) -> None:
    fifo = small.make("one/fifo", NewInode(stat.S_IFIFO | 0o620, 5, 6))
    device = small.make("one/null", NewInode(stat.S_IFCHR | 0o666, 0, 0, rdev=0x103))
    link = small.make("one/symlink", NewInode(stat.S_IFLNK | 0o777, 7, 8, target=b"to/\xff"))
    assert (fifo.mode, fifo.uid, fifo.gid) == (stat.S_IFIFO | 0o620, 5, 6)
    assert (device.mode, device.rdev) == (stat.S_IFCHR | 0o666, 0x103)
    assert (link.target, link.size) == (b"to/\xff", 4)
    assert [small.inode(f"one/{name}") for name in ("fifo", "null", "symlink")] == [
        fifo,
        device,
        link,
    ]
    assert min(fifo.ino, device.ino, link.ino) >= FIRST_INO


def test_a_setgid_folder_hands_its_group_down(small: SmallTree) -> None:
    small.tree.set_attributes(small.inode("one/d").ino, Changes(mode=0o2770, gid=77))
    folder = small.make("one/d/folder", FOLDER)
    below = small.make("one/d/folder/below", FOLDER)
    file = small.make("one/d/file")
    assert [(each.gid, oct(stat.S_IMODE(each.mode))) for each in (folder, below, file)] == [
        (77, "0o2755"),
        (77, "0o2755"),
        (77, "0o644"),
    ]


_TIMES: list[tuple[str, Operation, dict[str, str]]] = [
    ("make", lambda s: s.make("one/d/x"), {"one/d": "mc", "one/d/x": "amc"}),
    ("make a folder", lambda s: s.make("one/d/x", FOLDER), {"one/d": "mc", "one/d/x": "amc"}),
    (
        "link",
        lambda s: s.link("one/f", "one/empty/x"),
        {"one/f": "c", "one/d/link": "c", "one/empty/x": "c", "one/empty": "mc"},
    ),
    ("unlink", lambda s: s.unlink("one/f"), {"one": "mc", "one/d/link": "c"}),
    ("rmdir", lambda s: s.rmdir("one/empty"), {"one": "mc"}),
    ("rename", lambda s: s.rename("one/g", "one/x"), {"one": "mc", "one/x": "c"}),
    (
        "move",
        lambda s: s.rename("one/empty", "two/empty"),
        {"one": "mc", "two": "mc", "two/empty": "c"},
    ),
    (
        "replace",
        lambda s: s.rename("one/g", "one/f"),
        {"one": "mc", "one/f": "c", "one/d/link": "c"},
    ),
    (
        "exchange",
        lambda s: s.rename("one/g", "one/d/e", RENAME_EXCHANGE),
        {"one": "mc", "one/d": "mc", "one/g": "c", "one/d/e": "c"},
    ),
    ("chmod", lambda s: _set(s, "one/g", Changes(mode=0o600)), {"one/g": "c"}),
    ("chown", lambda s: _set(s, "one/g", Changes(uid=1, gid=1)), {"one/g": "c"}),
    ("utime", lambda s: _set(s, "one/g", Changes(atime_ns=-5)), {"one/g": "ac"}),
    ("truncate", lambda s: s.tree.set_size(s.inode("one/g").ino, 5), {"one/g": "mc"}),
    ("look", lambda s: s.names("one"), {}),
]


def _set(small: SmallTree, path: str, changes: Changes) -> Inode:
    return small.tree.set_attributes(small.inode(path).ino, changes)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [(operation, times) for _, operation, times in _TIMES],
    ids=[words for words, _, _ in _TIMES],
)
def test_times_are_those_of_what_was_done(
    small: SmallTree, operation: Operation, expected: dict[str, str]
) -> None:
    times = {inode.ino: _times(inode) for inode in small.state().values()}
    operation(small)
    changed = {}
    for path, inode in small.state().items():
        before = times.get(inode.ino, {"a": 0, "m": 0, "c": 0})
        which = "".join(kind for kind, time in _times(inode).items() if time != before[kind])
        if which:
            changed[path] = which
    assert changed == expected


def _times(inode: Inode) -> dict[str, int]:
    return {"a": inode.atime_ns, "m": inode.mtime_ns, "c": inode.ctime_ns}


def test_attributes_are_set_and_the_others_stay(small: SmallTree) -> None:
    before = small.inode("one/g")
    after = _set(small, "one/g", Changes(mode=0o7753, uid=0, gid=0, atime_ns=0, mtime_ns=-1))
    assert after.mode == stat.S_IFREG | 0o7753
    assert (after.uid, after.gid, after.atime_ns, after.mtime_ns) == (0, 0, 0, -1)
    again = _set(small, "one/g", Changes(uid=9))
    assert (again.mode, again.uid, again.gid, again.mtime_ns) == (stat.S_IFREG | 0o1753, 9, 0, -1)
    assert (again.ino, again.nlink, again.size) == (before.ino, 1, 0)


@pytest.mark.parametrize("year", [1500, 1969, 2300, 9999])
def test_times_of_any_year_can_be_committed(small: SmallTree, journal: Journal, year: int) -> None:
    time_ns = (year - 1970) * 31_556_952 * 10**9
    inode = _set(small, "one/g", Changes(atime_ns=time_ns, mtime_ns=time_ns))
    journal.apply(small.overlay.freeze())
    small.overlay.committed()
    with journal.reader() as reader:
        assert reader.inode(inode.ino) == inode
    assert (inode.mtime_ns < 0) == (time_ns < 0)


def test_a_tree_that_is_opened_again_is_the_same(small: SmallTree, journal: Journal) -> None:
    small.rename("one/d", "two/d")
    before = small.state()
    journal.apply(small.overlay.freeze())
    small.overlay.committed()
    with journal.reader() as reader:
        again = SmallTree.__new__(SmallTree)
        again.tree = Tree(Overlay(reader), owner=(0, 0))
        assert again.state() == before


def test_backups_are_listed_by_name(small: SmallTree) -> None:
    assert [name for name, _ in small.tree.backups()] == [b"one", b"two"]


def test_the_owner_of_all_backups_is_who_mounted(small: SmallTree) -> None:
    root = small.inode("")
    assert (root.ino, root.uid, root.gid, root.nlink) == (ROOT_INO, 1000, 100, 4)
