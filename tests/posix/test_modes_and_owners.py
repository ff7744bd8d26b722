"""chmod and chown: who may, what they change, and which bits go on their own."""

import errno
import os
import stat

import pytest

from tests.posix.kinds import KINDS, make
from tests.support.actors import Actor, refused

_ANY_MODE = [0o000, 0o111, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o7777]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "link"])
@pytest.mark.parametrize("mode", _ANY_MODE, ids=oct)
def test_chmod_sets_all_twelve_bits(root: Actor, kind: str, mode: int) -> None:
    make(root, kind, "it")
    before = root.stat("it").st_mode
    root.chmod("it", mode)
    assert root.stat("it").st_mode == stat.S_IFMT(before) | mode


def test_chmod_follows_links(root: Actor) -> None:
    root.create("file")
    root.symlink("file", "link")
    root.chmod("link", 0o600)
    assert (root.mode("file"), root.mode("link")) == (0o600, 0o777)


def test_fchmod_changes_an_open_file_even_without_a_name(root: Actor) -> None:
    root.create("file")
    with root.opened("file", os.O_RDONLY) as file:
        root.fchmod(file, 0o751)
        assert root.mode("file") == 0o751
        root.unlink("file")
        root.fchmod(file, 0o600)
        assert stat.S_IMODE(root.fstat(file).st_mode) == 0o600


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "link"])
def test_only_its_owner_changes_a_mode(root: Actor, ann: Actor, bob: Actor, kind: str) -> None:
    make(root, kind, "it")
    root.chmod("it", 0o640)
    root.owned_by(ann, "it")
    ann.chmod("it", 0o604)
    with refused(errno.EPERM):
        bob.chmod("it", 0o777)
    assert root.mode("it") == 0o604
    root.chmod("it", 0o600)
    assert root.mode("it") == 0o600


def test_setgid_of_a_group_that_one_is_not_in_is_not_set(root: Actor, ann: Actor) -> None:
    ann.create("file")
    root.chown("file", -1, 0)
    ann.chmod("file", 0o2755)
    assert root.mode("file") == 0o755
    ann.mkdir("folder")
    root.chown("folder", -1, 0)
    ann.chmod("folder", 0o2755)
    assert root.mode("folder") == 0o755


def test_setgid_of_any_group_that_one_is_in_is_set(ann: Actor, shared_group: int) -> None:
    ann.create("file")
    ann.chown("file", -1, shared_group)
    ann.chmod("file", 0o2755)
    assert ann.mode("file") == 0o2755


@pytest.mark.parametrize("kind", KINDS)
def test_root_gives_anything_to_anyone(root: Actor, kind: str) -> None:
    make(root, kind, "it")
    for uid, gid in ((1, 2), (65_536, 65_537), (2**31, 2**32 - 2), (0, 0)):
        root.chown("it", uid, gid, follow_symlinks=False)
        assert root.owner("it") == (uid, gid)
        root.chown("it", -1, 7, follow_symlinks=False)
        assert root.owner("it") == (uid, 7)
        root.chown("it", 8, -1, follow_symlinks=False)
        assert root.owner("it") == (8, 7)


def test_chown_follows_links_and_lchown_does_not(root: Actor) -> None:
    root.create("file")
    root.symlink("file", "link")
    root.chown("link", 5, 6)
    assert (root.owner("file"), root.owner("link")) == ((5, 6), (0, 0))
    root.lchown("link", 7, 8)
    assert (root.owner("file"), root.owner("link")) == ((5, 6), (7, 8))


def test_fchown_changes_an_open_file_even_without_a_name(root: Actor) -> None:
    root.create("file")
    with root.opened("file", os.O_RDONLY) as file:
        root.unlink("file")
        root.fchown(file, 5, 6)
        assert (root.fstat(file).st_uid, root.fstat(file).st_gid) == (5, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_owner_gives_things_to_their_own_groups_alone(
    root: Actor, ann: Actor, bob: Actor, shared_group: int, kind: str
) -> None:
    make(root, kind, "it")
    root.owned_by(ann, "it")
    ann.chown("it", -1, shared_group, follow_symlinks=False)
    ann.chown("it", ann.uid, ann.gid, follow_symlinks=False)
    for uid, gid in ((bob.uid, -1), (0, -1), (-1, bob.gid), (-1, 0), (bob.uid, shared_group)):
        with refused(errno.EPERM):
            ann.chown("it", uid, gid, follow_symlinks=False)
    with refused(errno.EPERM):
        bob.chown("it", -1, shared_group, follow_symlinks=False)
    with refused(errno.EPERM):
        bob.chown("it", bob.uid, -1, follow_symlinks=False)
    assert root.owner("it") == (ann.uid, ann.gid)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o4755, 0o755), (0o2755, 0o755), (0o6755, 0o755), (0o2745, 0o2745), (0o7777, 0o1777)],
)
def test_a_file_that_changes_hands_loses_its_rights(
    root: Actor, ann: Actor, shared_group: int, before: int, after: int
) -> None:
    ann.create("file")
    root.chmod("file", before)
    ann.chown("file", -1, shared_group)
    # Ann is in the group, so that the bit of a file that nobody in it may run can stay.
    assert ann.mode("file") == after


def test_a_folder_that_changes_hands_keeps_its_bits(ann: Actor, shared_group: int) -> None:
    ann.mkdir("folder")
    ann.chmod("folder", 0o7755)
    ann.chown("folder", -1, shared_group)
    assert ann.mode("folder") == 0o7755


@pytest.mark.parametrize("mode", [0o6755, 0o6777])
def test_who_writes_to_a_file_of_somebody_takes_its_rights(
    root: Actor, ann: Actor, bob: Actor, mode: int
) -> None:
    changes = {
        "write": lambda: bob.does(_append, "file"),
        "truncate": lambda: bob.truncate("file", 3),
        "open": lambda: os.close(bob.open("file", os.O_WRONLY | os.O_TRUNC)),
    }
    for name, change in changes.items():
        ann.write_file("file", b"content")
        ann.chmod("file", mode | 0o022)
        change()
        assert ann.mode("file") == mode & 0o777 | 0o022, name


@pytest.mark.unmet("a write request does not say whether root wrote, so nobody keeps the bits")
def test_root_writes_without_taking_a_files_rights(root: Actor, ann: Actor) -> None:
    ann.create("file")
    ann.chmod("file", 0o6755)
    root.does(_append, "file")
    assert root.mode("file") == 0o6755


def test_reading_and_renaming_leave_the_bits(root: Actor, ann: Actor, bob: Actor) -> None:
    ann.create("file", 0o6755, b"content")
    bob.content("file")
    root.link("file", "twin")
    root.rename("file", "other")
    root.unlink("twin")
    assert root.mode("other") == 0o6755


@pytest.mark.parametrize("owner", ["ann", "group", "others"])
@pytest.mark.parametrize("bits", range(8), ids="{:03b}".format)
def test_the_first_class_that_fits_decides(
    root: Actor, ann: Actor, bob: Actor, shared_group: int, owner: str, bits: int
) -> None:
    """Ann as owner, Bob by the group that both are in, or Bob as anybody; others may all else."""
    shift = {"ann": 6, "group": 3, "others": 0}[owner]
    mode = 0o777 & ~(7 << shift) | bits << shift
    root.create("file", 0o600, b"content")
    root.chown("file", ann.uid, shared_group if owner == "group" else ann.gid)
    root.chmod("file", mode)
    root.mkdir("folder")
    root.create("folder/inner")
    root.chown("folder", ann.uid, shared_group if owner == "group" else ann.gid)
    root.chmod("folder", mode)
    user = ann if owner == "ann" else bob
    may_read, may_write, may_search = bits & 4, bits & 2, bits & 1

    assert user.access("file", os.R_OK, effective_ids=True) == bool(may_read)
    assert user.access("file", os.W_OK, effective_ids=True) == bool(may_write)
    assert user.access("file", os.X_OK, effective_ids=True) == bool(may_search)
    for flags, may in (
        (os.O_RDONLY, may_read),
        (os.O_WRONLY, may_write),
        (os.O_RDWR, may_read and may_write),
        (os.O_RDONLY | os.O_TRUNC, may_read and may_write),
    ):
        _tried(bool(may), lambda flags=flags: os.close(user.open("file", flags)))
    _tried(bool(may_write), lambda: user.truncate("file", 4))
    _tried(bool(may_read), lambda: user.listdir("folder"))
    _tried(bool(may_search), lambda: user.stat("folder/inner"))
    _tried(bool(may_search and may_write), lambda: user.mkdir("folder/new"))
    _tried(bool(may_search and may_write), lambda: user.unlink("folder/inner"))


def test_root_may_all_but_run_what_nobody_may(root: Actor, ann: Actor) -> None:
    ann.create("file", 0o000, b"content")
    assert root.content("file") == b"content"
    assert not root.access("file", os.X_OK)
    ann.chmod("file", 0o001)
    assert root.access("file", os.X_OK)


def _tried(may: bool, act: object) -> None:
    assert callable(act)
    if may:
        act()
    else:
        with refused(errno.EACCES):
            act()


def _append(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")
