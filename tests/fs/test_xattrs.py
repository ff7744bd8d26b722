"""Extended attributes in backups/: which there can be, and what changes with them."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from libernet.blocks.entries import Attributes
from libernet.blocks.folder_writer import MAX_ENTRY_BYTES, FolderWriter
from libernet.blocks.reference import Reference
from libernet.fs.journal import Journal
from libernet.fs.overlay import Overlay
from libernet.fs.tree import RENAME_EXCHANGE, NewInode, Tree
from libernet.fs.xattrs import (
    MAX_LIST_BYTES,
    MAX_TOTAL_BYTES,
    MAX_VALUE_BYTES,
    Xattrs,
)
from tests.support.caller import Caller, opened_node
from tests.support.small_tree import SmallTree

_REFERENCE = Reference.parse(f"/sha256/{'ab' * 32}/aes256gcm/{'cd' * 32}")


@pytest.fixture
def xattrs(small: SmallTree) -> Xattrs:
    return Xattrs(small.overlay, small.tree.clock)


def _refused(code: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def _commit(small: SmallTree, journal: Journal) -> None:
    journal.apply(small.overlay.freeze())
    small.overlay.committed()


@pytest.mark.parametrize("name", [b"user.a", b"user.\xff \n", b"security.capability", b"trusted.x"])
@pytest.mark.parametrize("value", [b"", b"\0\xff", bytes(MAX_VALUE_BYTES)])
@pytest.mark.parametrize("path", ["one/f", "one/d"])
def test_an_attribute_has_the_value_that_it_was_given_until_it_is_removed(
    small: SmallTree, xattrs: Xattrs, journal: Journal, path: str, name: bytes, value: bytes
) -> None:
    ino = small.inode(path).ino
    for given in (b"before", value):
        xattrs.set(ino, name, given)
        assert xattrs.get(ino, name) == given
        _commit(small, journal)
    with journal.reader() as reader:
        later = Xattrs(Overlay(reader), small.tree.clock)
        assert later.get(ino, name) == value
        assert later.names(ino, is_root=True) == [name]
    xattrs.remove(ino, name)
    for _ in range(2):
        assert xattrs.get(ino, name) is None
        assert xattrs.names(ino, is_root=True) == []
        _refused(errno.ENODATA, xattrs.remove, ino, name)
        _commit(small, journal)


def test_setting_and_removing_change_nothing_but_the_change_time(
    small: SmallTree, xattrs: Xattrs
) -> None:
    before = small.inode("one/f")
    xattrs.set(before.ino, b"user.a", b"1")
    with_one = small.inode("one/f")
    assert with_one.ctime_ns > before.ctime_ns
    xattrs.remove(before.ino, b"user.a")
    after = small.inode("one/f")
    assert after.ctime_ns > with_one.ctime_ns
    for each in (with_one, after):
        assert (each.mtime_ns, each.mode, each.nlink) == (before.mtime_ns, before.mode, 2)


def test_what_cannot_be_set_is_refused_and_changes_nothing(
    small: SmallTree, xattrs: Xattrs
) -> None:
    ino = small.inode("one/f").ino
    xattrs.set(ino, b"user.a", b"1")
    before = small.state()
    for name, code in {
        b"": errno.EOPNOTSUPP,
        b"name": errno.EOPNOTSUPP,
        b"system.other": errno.EOPNOTSUPP,
        b"user.": errno.EINVAL,
        b"user.\0": errno.EINVAL,
        b"user." + b"n" * 251: errno.ERANGE,
    }.items():
        _refused(code, xattrs.set, ino, name, b"1")
    _refused(errno.E2BIG, xattrs.set, ino, b"user.a", bytes(MAX_VALUE_BYTES + 1))
    for call in (xattrs.get, xattrs.remove):
        _refused(errno.EOPNOTSUPP, call, ino, b"name")
    assert small.state() == before
    assert xattrs.get(ino, b"user.a") == b"1"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_only_files_and_folders_have_attributes_of_users(
    small: SmallTree, xattrs: Xattrs, kind: int
) -> None:
    made = small.make("one/special", NewInode(kind | 0o777, 0, 0, target=b"x"))
    _refused(errno.EPERM, xattrs.set, made.ino, b"user.a", b"1")
    xattrs.set(made.ino, b"trusted.a", b"1")
    xattrs.set(made.ino, b"security.a", b"2")
    assert xattrs.names(made.ino, is_root=True) == [b"security.a", b"trusted.a"]


def test_what_is_trusted_is_listed_for_root_alone(small: SmallTree, xattrs: Xattrs) -> None:
    ino = small.inode("one/f").ino
    for name in (b"user.b", b"trusted.a", b"security.c", b"user.a"):
        xattrs.set(ino, name, b"")
    assert xattrs.names(ino, is_root=False) == [b"security.c", b"user.a", b"user.b"]
    assert len(xattrs.names(ino, is_root=True)) == 4


def _set_all(xattrs: Xattrs, ino: int, names: Iterator[bytes], value_bytes: int) -> None:
    for name in names:
        xattrs.set(ino, name, bytes(value_bytes))


def _names_that_fill_a_list() -> Iterator[bytes]:
    for number in range(MAX_LIST_BYTES // 256):
        yield b"user.%03d" % number + b"\x01" * 247  # six bytes each in JSON


def test_names_and_values_are_limited_together_and_replacing_needs_no_room(
    small: SmallTree, xattrs: Xattrs
) -> None:
    ino = small.inode("one/f").ino
    for name in _names_that_fill_a_list():
        xattrs.set(ino, name, b"")
    _refused(errno.ENOSPC, xattrs.set, ino, b"user.a", b"")
    assert sum(len(name) + 1 for name in xattrs.names(ino, is_root=True)) == MAX_LIST_BYTES
    other = small.inode("one/g").ino
    for number in range(4):
        xattrs.set(other, b"user.%d" % number, bytes(MAX_VALUE_BYTES - 7))
    assert 4 * MAX_VALUE_BYTES == MAX_TOTAL_BYTES  # with the names nothing is left
    _refused(errno.ENOSPC, xattrs.set, other, b"user.3", bytes(MAX_VALUE_BYTES))
    xattrs.set(other, b"user.3", bytes(MAX_VALUE_BYTES - 7))
    xattrs.remove(other, b"user.0")
    xattrs.set(other, b"user.3", bytes(MAX_VALUE_BYTES))


@pytest.mark.parametrize("value_bytes", [1, 4096])
@pytest.mark.parametrize("character", [b"\x01", b"\xff"])
def test_as_many_attributes_as_there_can_be_fit_in_a_document(
    small: SmallTree, xattrs: Xattrs, character: bytes, value_bytes: int
) -> None:
    """Names whose bytes take six in JSON, or three escaped, and values just not spilled."""
    ino = small.inode("one/f").ino
    name_bytes = 255 if value_bytes == 4096 else 12
    names = (b"user.%05d" % number for number in count())
    with pytest.raises(OSError):
        _set_all(xattrs, ino, (name.ljust(name_bytes, character) for name in names), value_bytes)
    found = small.overlay.xattrs(small.inode("one/f"))
    attributes = Attributes(stat.S_IFREG | 0o644, 0, 0, 0, xattr=found)
    entry = FolderWriter(lambda _: _REFERENCE).file(attributes, 0, [])
    assert len(bytes(entry)) < MAX_ENTRY_BYTES - 100_000  # for the parts


def test_hard_links_share_them_renaming_keeps_them_and_unlinking_drops_them(
    small: SmallTree, xattrs: Xattrs, journal: Journal
) -> None:
    ino = small.inode("one/f").ino
    xattrs.set(ino, b"user.a", b"1")
    xattrs.set(small.inode("one/d").ino, b"user.d", b"2")
    assert xattrs.get(small.inode("one/d/link").ino, b"user.a") == b"1"
    small.rename("one/d/link", "two/g")
    small.rename("one/d", "one/empty", RENAME_EXCHANGE)
    assert xattrs.get(small.inode("two/g").ino, b"user.a") == b"1"
    assert xattrs.get(small.inode("one/empty").ino, b"user.d") == b"2"
    small.unlink("one/f")
    _commit(small, journal)
    assert xattrs.get(ino, b"user.a") == b"1"
    small.unlink("two/g")
    xattrs.set(ino, b"user.b", b"open without a name")
    assert xattrs.names(ino, is_root=True) == [b"user.a", b"user.b"]
    small.tree.drop(ino)
    _commit(small, journal)
    _refused(errno.ENOENT, xattrs.get, ino, b"user.a")
    new = small.make("two/g")
    assert xattrs.names(new.ino, is_root=True) == []


def test_a_change_publishes_the_folder_anew(
    small: SmallTree, xattrs: Xattrs, journal: Journal
) -> None:
    _commit(small, journal)
    with journal.reader() as reader:
        for path, above in {"one/g": "one", "one/d/e": "one/d", "two": "two"}.items():
            before = reader.changed(small.inode(above).ino)
            xattrs.set(small.inode(path).ino, b"user.a", b"1")
            _commit(small, journal)
            assert reader.changed(small.inode(above).ino) > before


def test_a_tree_that_is_opened_again_has_the_attributes(
    small: SmallTree, xattrs: Xattrs, journal: Journal
) -> None:
    xattrs.set(small.inode("one/d").ino, b"user.a", b"1")
    _commit(small, journal)
    with journal.reader() as reader:
        overlay = Overlay(reader)
        tree = Tree(overlay, owner=(0, 0))
        [(_, folder)] = [
            each for each in tree.children(small.inode("one").ino, b"", 9) if each[0] == b"d"
        ]
        assert folder.has_xattrs
        assert overlay.xattrs(folder) == {b"user.a": b"1"}


async def test_attributes_are_durable_with_an_fsync_and_changes_are_refused_elsewhere(
    tmp_path: Path,
) -> None:
    with opened_node(tmp_path / "state") as (storage, node):
        caller = Caller(node.namespace)
        async with node.running():
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", b"content")
            async with caller.at("backups/b/f") as ino:
                await node.namespace.set_xattr(ino, b"user.a", b"1")
                await node.namespace.set_xattr(ino, b"user.b", b"2")
                node.namespace.remove_xattr(ino, b"user.b")
                assert node.checkpointer.is_dirty
                await node.namespace.durable()
            for path in ("", "snapshots", "bundles", "sha256"):
                async with caller.at(path) as ino:
                    assert await node.namespace.xattr(ino, b"user.a") is None
                    assert await node.namespace.xattr_names(ino, is_root=True) == []
                    with pytest.raises(OSError) as caught:
                        await node.namespace.set_xattr(ino, b"user.a", b"1")
                    assert caught.value.errno == errno.EROFS
                    _refused(errno.EROFS, node.namespace.remove_xattr, ino, b"user.a")
            rows = storage.reader.rows("SELECT name, value FROM xattr")
            assert rows == [(b"user.a", b"1")]


async def test_who_sets_more_than_memory_should_hold_waits_for_a_checkpoint(
    tmp_path: Path,
) -> None:
    with opened_node(tmp_path / "state") as (storage, node):
        caller = Caller(node.namespace)
        async with node.running():
            await caller.mkdir("backups/b")
            value = os.urandom(MAX_VALUE_BYTES)
            for number in range(160):
                await caller.create(f"backups/b/{number}")
                async with caller.at(f"backups/b/{number}") as ino:
                    await node.namespace.set_xattr(ino, b"user.a", value)
            assert storage.reader.rows("SELECT count(*) FROM xattr") > [(100,)]
            await node.namespace.durable()
            assert storage.reader.rows("SELECT count(*) FROM xattr") == [(160,)]
