import errno
import stat
from collections.abc import Callable

import pytest

from libernet.fs.inode import Inode
from libernet.fs.tree import MAX_LINK_BYTES, RENAME_NOREPLACE, Changes, NewInode
from tests.support.small_tree import FILE, FOLDER, SmallTree

Operation = Callable[[SmallTree], object]

_REFUSED: list[tuple[str, int, Operation]] = [
    ("make over a file", errno.EEXIST, lambda s: s.make("one/f")),
    ("make over a folder", errno.EEXIST, lambda s: s.make("one/d", FOLDER)),
    ("make in nothing", errno.ENOENT, lambda s: s.make("one/missing/f")),
    ("make in a file", errno.ENOTDIR, lambda s: s.make("one/f/x")),
    ("make a long name", errno.ENAMETOOLONG, lambda s: s.make("one/" + 256 * "x")),
    ("make a long link", errno.ENAMETOOLONG, lambda s: s.make("one/x", _symlink(4096))),
    ("make a file beside backups", errno.EPERM, lambda s: s.make("x")),
    ("make a link beside backups", errno.EPERM, lambda s: s.make("x", _symlink(1))),
    ("look up nothing", errno.ENOENT, lambda s: s.inode("one/missing")),
    ("look up a long name", errno.ENAMETOOLONG, lambda s: s.inode("one/" + 256 * "x")),
    ("unlink nothing", errno.ENOENT, lambda s: s.unlink("one/missing")),
    ("unlink a folder", errno.EISDIR, lambda s: s.unlink("one/empty")),
    ("unlink a long name", errno.ENAMETOOLONG, lambda s: s.unlink("one/" + 256 * "x")),
    ("rmdir nothing", errno.ENOENT, lambda s: s.rmdir("one/missing")),
    ("rmdir a file", errno.ENOTDIR, lambda s: s.rmdir("one/f")),
    ("rmdir a folder in use", errno.ENOTEMPTY, lambda s: s.rmdir("one/d")),
    ("rmdir a backup in use", errno.ENOTEMPTY, lambda s: s.rmdir("one")),
    ("link over a file", errno.EEXIST, lambda s: s.link("one/f", "one/g")),
    ("link a folder", errno.EPERM, lambda s: s.link("one/d", "one/x")),
    ("link to another backup", errno.EXDEV, lambda s: s.link("one/f", "two/f")),
    ("link beside backups", errno.EPERM, lambda s: s.link("one/f", "f")),
    ("link in a file", errno.ENOTDIR, lambda s: s.link("one/f", "one/g/x")),
    ("link a long name", errno.ENAMETOOLONG, lambda s: s.link("one/f", "one/" + 256 * "x")),
    ("rename nothing", errno.ENOENT, lambda s: s.rename("one/missing", "one/x")),
    ("rename to a long name", errno.ENAMETOOLONG, lambda s: s.rename("one/f", 256 * "x")),
    ("rename from a long name", errno.ENAMETOOLONG, lambda s: s.rename(256 * "x", "one/f")),
    ("rename into nothing", errno.ENOENT, lambda s: s.rename("one/f", "one/missing/f")),
    ("rename into a file", errno.ENOTDIR, lambda s: s.rename("one/f", "one/g/x")),
    ("a file over a folder", errno.EISDIR, lambda s: s.rename("one/f", "one/empty")),
    ("a folder over a file", errno.ENOTDIR, lambda s: s.rename("one/d", "one/f")),
    ("a folder over one in use", errno.ENOTEMPTY, lambda s: s.rename("one/empty", "one/d")),
    ("a folder over its parent", errno.ENOTEMPTY, lambda s: s.rename("one/d/e", "one/d")),
    ("a folder into itself", errno.EINVAL, lambda s: s.rename("one/d", "one/d/x")),
    ("a folder below itself", errno.EINVAL, lambda s: s.rename("one/d", "one/d/e/x")),
    ("a folder over its child", errno.EINVAL, lambda s: s.rename("one/d", "one/d/e")),
    ("a backup into itself", errno.EINVAL, lambda s: s.rename("one", "one/d/x")),
    ("a file beside backups", errno.EPERM, lambda s: s.rename("one/f", "f")),
    ("a file over a backup", errno.EPERM, lambda s: s.rename("one/f", "two")),
    ("not replacing, over another", errno.EEXIST, lambda s: s.rename("one/f", "one/g", 1)),
    ("not replacing, onto itself", errno.EEXIST, lambda s: s.rename("one/f", "one/f", 1)),
    ("exchange with nothing", errno.ENOENT, lambda s: s.rename("one/f", "one/missing", 2)),
    ("exchange nothing", errno.ENOENT, lambda s: s.rename("one/missing", "one/f", 2)),
    ("exchange with a child", errno.EINVAL, lambda s: s.rename("one/d", "one/d/e", 2)),
    ("exchange with a parent", errno.EINVAL, lambda s: s.rename("one/d/e", "one/d", 2)),
    ("exchange a backup for a file", errno.EPERM, lambda s: s.rename("two", "one/f", 2)),
    ("exchange a file for a backup", errno.EPERM, lambda s: s.rename("one/f", "two", 2)),
    ("exchange and not replace", errno.EINVAL, lambda s: s.rename("one/f", "one/g", 3)),
    ("leave a whiteout", errno.EINVAL, lambda s: s.rename("one/f", "one/x", 4)),
]


def _symlink(length: int) -> NewInode:
    return NewInode(stat.S_IFLNK | 0o777, 1000, 100, target=b"x" * length)


@pytest.mark.parametrize(
    ("code", "operation"),
    [(code, operation) for _, code, operation in _REFUSED],
    ids=[words for words, _, _ in _REFUSED],
)
def test_what_posix_forbids_is_refused_and_changes_nothing(
    small: SmallTree, code: int, operation: Operation
) -> None:
    before = small.state()
    with pytest.raises(OSError) as raised:
        operation(small)
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[code]
    assert small.state() == before


_DONE: list[tuple[str, Operation, dict[str, int | None]]] = [
    ("make a file", lambda s: s.make("one/x"), {"one/x": 1, "one": 4}),
    ("make a folder", lambda s: s.make("one/x", FOLDER), {"one/x": 2, "one": 5}),
    ("make a backup", lambda s: s.make("x", FOLDER), {"x": 2, "": 5}),
    ("make a link", lambda s: s.make("one/x", _symlink(MAX_LINK_BYTES)), {"one/x": 1}),
    ("make the longest name", lambda s: s.make("one/" + 255 * "x"), {"one/" + 255 * "x": 1}),
    ("link", lambda s: s.link("one/f", "one/d/e/x"), {"one/f": 3, "one/d/e/x": 3, "one/d": 3}),
    ("unlink", lambda s: s.unlink("one/g"), {"one/g": None, "one": 4}),
    ("unlink a link", lambda s: s.unlink("one/f"), {"one/f": None, "one/d/link": 1}),
    ("rmdir", lambda s: s.rmdir("one/empty"), {"one/empty": None, "one": 3}),
    ("rmdir a backup", lambda s: s.rmdir("two"), {"two": None, "": 3}),
    ("rename a file", lambda s: s.rename("one/g", "one/x"), {"one/g": None, "one/x": 1, "one": 4}),
    ("move a file", lambda s: s.rename("one/g", "one/d/g"), {"one/g": None, "one/d/g": 1}),
    ("replace a file", lambda s: s.rename("one/g", "one/f"), {"one/g": None, "one/d/link": 1}),
    ("rename a folder", lambda s: s.rename("one/d", "one/x"), {"one/x": 3, "one": 4, "one/x/e": 2}),
    ("move a folder", lambda s: s.rename("one/d", "one/empty/d"), {"one/empty": 3, "one": 3}),
    ("move a folder up", lambda s: s.rename("one/d/e", "one/e"), {"one/d": 2, "one": 5}),
    ("replace a folder", lambda s: s.rename("one/d", "one/empty"), {"one/d": None, "one": 3}),
    ("rename a backup", lambda s: s.rename("one", "x"), {"one": None, "x": 4, "x/d/e": 2, "": 4}),
    ("replace a backup", lambda s: s.rename("one", "two"), {"one": None, "two": 4, "": 3}),
    ("a backup into another", lambda s: s.rename("two", "one/two"), {"": 3, "one": 5}),
    ("a folder becomes a backup", lambda s: s.rename("one/d", "d"), {"": 5, "one": 3, "d/e": 2}),
    ("between backups", lambda s: s.rename("one/f", "two/f"), {"two/f": 2, "one/d/link": 2}),
    ("not replacing", lambda s: s.rename("one/g", "one/x", RENAME_NOREPLACE), {"one/x": 1}),
    ("exchange files", lambda s: s.rename("one/f", "one/g", 2), {"one/f": 1, "one/g": 2, "one": 4}),
    ("exchange both kinds", lambda s: s.rename("one/d/e", "one/f", 2), {"one/d": 2, "one": 5}),
    ("exchange folders", lambda s: s.rename("one/d", "one/empty", 2), {"one/empty/e": 2, "one": 4}),
    ("exchange backups", lambda s: s.rename("one", "two", 2), {"one": 2, "two": 4, "": 4}),
    ("exchange far folders", lambda s: s.rename("one/d", "two", 2), {"two/e": 2, "one/d": 2}),
]


@pytest.mark.parametrize(
    ("operation", "nlinks"),
    [(operation, nlinks) for _, operation, nlinks in _DONE],
    ids=[words for words, _, _ in _DONE],
)
def test_what_posix_allows_is_done_and_links_are_counted(
    small: SmallTree, operation: Operation, nlinks: dict[str, int | None]
) -> None:
    operation(small)
    state = small.state()
    for path, nlink in nlinks.items():
        assert (state[path].nlink if path in state else None) == nlink
    _links_add_up(small)


def _links_add_up(small: SmallTree) -> None:
    state = small.state()
    for path, inode in state.items():
        inside = [each for each in state if each and each.rpartition("/")[0] == path]
        if inode.is_folder:
            folders = [each for each in inside if state[each].is_folder]
            assert inode.nlink == 2 + len(folders)
            assert all(state[each].parent == inode.ino for each in folders)
        else:
            names = [each for each in state if state[each].ino == inode.ino]
            assert inode.nlink == len(names)


def test_a_file_that_moved_between_backups_is_linked_where_it_is(small: SmallTree) -> None:
    small.rename("one/g", "two/g")
    with pytest.raises(OSError) as raised:
        small.link("two/g", "one/x")
    assert raised.value.errno == errno.EXDEV
    assert small.link("two/g", "two/x").nlink == 2


def test_a_file_with_names_in_two_backups_is_linked_in_either(small: SmallTree) -> None:
    small.rename("one/f", "two/f")
    assert small.link("two/f", "two/x").nlink == 3
    assert small.link("two/f", "one/x").nlink == 4


def test_a_name_may_lead_to_a_folder_that_moved_up_and_down(small: SmallTree) -> None:
    small.rename("one/d/e", "one/e")
    small.rename("one/d", "one/e/d")
    assert small.names("one/e/d") == ["link"]
    with pytest.raises(OSError) as raised:
        small.rename("one/e", "one/e/d/e")
    assert raised.value.errno == errno.EINVAL


@pytest.mark.parametrize("path", ["one/d", "one/f", "one/d/e"])
def test_renaming_something_onto_itself_does_nothing(small: SmallTree, path: str) -> None:
    before = small.state()
    assert small.rename(path, path) is None
    assert small.state() == before


def test_renaming_a_name_onto_another_of_the_same_file_does_nothing(small: SmallTree) -> None:
    before = small.state()
    assert small.rename("one/f", "one/d/link") is None
    assert small.state() == before


@pytest.mark.parametrize(
    ("operation", "nlink"),
    [
        (lambda s: s.unlink("one/g"), 0),
        (lambda s: s.unlink("one/f"), 1),
        (lambda s: s.rmdir("one/empty"), 0),
        (lambda s: s.rename("one/f", "one/g"), 0),
        (lambda s: s.rename("one/g", "one/f"), 1),
        (lambda s: s.rename("one/d", "one/empty"), 0),
    ],
)
def test_who_lost_a_name_is_told_and_can_be_used_on(
    small: SmallTree, operation: Callable[[SmallTree], Inode], nlink: int
) -> None:
    lost = operation(small)
    assert lost.nlink == nlink
    assert small.tree.inode(lost.ino) == lost
    changed = small.tree.set_attributes(lost.ino, Changes(mode=0o600))
    assert changed.nlink == nlink


def test_nothing_is_made_or_linked_where_no_folder_is_any_more(small: SmallTree) -> None:
    removed = small.rmdir("one/empty")
    for there in (removed.ino, removed.ino + 1_000_000):
        with pytest.raises(FileNotFoundError):
            small.tree.make(there, b"x", FILE)
        with pytest.raises(FileNotFoundError):
            small.tree.link(small.inode("one/f").ino, there, b"x")
        with pytest.raises(FileNotFoundError):
            small.tree.rename(small.place("one/f"), (there, b"x"))
    assert small.tree.children(removed.ino, b"", 10) == []


def test_a_file_without_a_name_gets_no_new_one(small: SmallTree) -> None:
    lost = small.unlink("one/g")
    with pytest.raises(FileNotFoundError):
        small.tree.link(lost.ino, *small.place("one/x"))


def test_what_was_dropped_is_no_more(small: SmallTree) -> None:
    lost = small.unlink("one/g")
    small.tree.drop(lost.ino)
    with pytest.raises(FileNotFoundError) as raised:
        small.tree.inode(lost.ino)
    assert raised.value.errno == errno.ENOENT


def test_a_file_has_as_many_names_as_on_ext4_and_each_takes_as_long(small: SmallTree) -> None:
    overlay, asked = small.overlay, 0
    child = overlay.child

    def counted(parent: int, name: bytes) -> int | None:
        nonlocal asked
        asked += 1
        return child(parent, name)

    overlay.child = counted  # type: ignore[method-assign]
    file, folder = small.inode("one/g").ino, small.inode("one/empty").ino
    for number in range(64_999):
        small.tree.link(file, folder, b"%d" % number)
    assert asked < 4 * 64_999
    with pytest.raises(OSError) as raised:
        small.tree.link(file, folder, b"one more")
    assert raised.value.errno == errno.EMLINK
    assert small.inode("one/g").nlink == 65_000
