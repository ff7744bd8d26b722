"""Access control lists: read, inherited, and made to agree with the mode, as the kernel does it."""

import errno
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.fs import acls
from libernet.fs.acls import ACCESS, DEFAULT, Acl
from libernet.fs.tree import Changes, NewInode
from libernet.fs.xattrs import Xattrs
from tests.support.small_tree import FILE, FOLDER, SmallTree

_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHERS = 1, 2, 4, 8, 16, 32
_ANYBODY = 2**32 - 1

_Entry = tuple[int, int, int]


def value(*entries: _Entry, version: int = 2) -> bytes:
    packed = (struct.pack("<HHI", *each) for each in entries)
    return struct.pack("<I", version) + b"".join(packed)


_SHARED = value(
    (_OWNER, 7, _ANYBODY),
    (_USER, 6, 12345),
    (_GROUP, 5, _ANYBODY),
    (_NAMED_GROUP, 7, 77),
    (_MASK, 7, _ANYBODY),
    (_OTHERS, 4, _ANYBODY),
)

_PERMISSIONS = st.integers(0, 7)


@st.composite
def _lists(draw: st.DrawFn) -> bytes:
    """Draw lists of which most are well-formed."""
    named = st.tuples(_PERMISSIONS, st.sampled_from([0, 5, 77, 2**31, _ANYBODY - 1]))
    users, groups = draw(st.lists(named, max_size=2)), draw(st.lists(named, max_size=2))
    entries = [
        (_OWNER, draw(_PERMISSIONS), _ANYBODY),
        *((_USER, *each) for each in users),
        (_GROUP, draw(_PERMISSIONS), draw(st.sampled_from([_ANYBODY, 3]))),
        *((_NAMED_GROUP, *each) for each in groups),
        *(
            [(_MASK, draw(_PERMISSIONS), _ANYBODY)]
            if users or groups or draw(st.booleans())
            else []
        ),
        (_OTHERS, draw(_PERMISSIONS), _ANYBODY),
    ]
    match draw(st.integers(0, 9)):
        case 0:
            del entries[draw(st.integers(0, len(entries) - 1))]
        case 1:
            entries = draw(st.permutations(entries))
        case 2:
            entries.append(draw(st.sampled_from(entries)))
        case 3:
            tag, permissions, each = entries[0]
            entries[0] = draw(st.sampled_from([(3, permissions, each), (tag, 8, each)]))
        case 4:
            entries.insert(1, (_USER, 7, _ANYBODY))
        case 5:
            entries = []
    return value(*entries)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder of the machine's own, where ACLs work."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.setxattr(folder, os.fsdecode(DEFAULT), _SHARED)
        except OSError:
            pytest.skip("this machine's own disk takes no ACLs")
        yield Path(folder)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _on_disk(path: Path) -> tuple[int, dict[bytes, bytes]]:
    names = [name for name in os.listxattr(path) if name.startswith("system.posix_acl")]
    return path.stat().st_mode, {os.fsencode(name): os.getxattr(path, name) for name in names}


def _parsed(given_value: bytes) -> Acl | None:
    try:
        return Acl.parse(given_value)
    except FormatError:
        return None


@pytest.mark.usefixtures("no_umask")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    access=_lists(),
    default=_lists(),
    modes=st.lists(st.integers(0, 0o777), min_size=3, max_size=3),
    kind=st.sampled_from([FILE, FOLDER]),
)
def test_everything_is_as_on_the_machines_own_disk(
    disk: Path, access: bytes, default: bytes, modes: list[int], kind: NewInode
) -> None:
    """Which lists are taken, which mode they give, what chmod makes of them, what is inherited."""
    with tempfile.TemporaryDirectory(dir=disk) as made:
        folder = Path(made)
        os.removexattr(folder, os.fsdecode(DEFAULT))
        new = folder / "new"
        is_taken = _set(folder, DEFAULT, default)
        acl = _parsed(default)
        assert is_taken == (acl is not None or default == value())
        above = {} if acl is None else {DEFAULT: bytes(acl)}
        assert {
            name: each for name, each in _on_disk(folder)[1].items() if name == DEFAULT
        } == above
        if stat.S_ISDIR(kind.mode):
            new.mkdir(modes[0])
        else:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL, modes[0]))
        made_mode, made_xattrs = acls.inherited(above, stat.S_IFMT(kind.mode) | modes[0])
        assert (made_mode, made_xattrs) == _on_disk(new)
        new.chmod(modes[1])
        assert acls.after_chmod(made_xattrs, modes[1]) == _on_disk(new)[1]
        if _set(new, ACCESS, access) and (acl := _parsed(access)) is not None:
            mode, xattrs = _on_disk(new)
            assert stat.S_IMODE(mode) == acl.permissions
            assert xattrs.get(ACCESS) == (None if acl.is_mode_alone else bytes(acl))
            new.chmod(modes[2])
            assert acls.after_chmod(xattrs, modes[2]) == _on_disk(new)[1]
        else:
            assert _parsed(access) is None


def _set(path: Path, name: bytes, given_value: bytes) -> bool:
    try:
        os.setxattr(path, os.fsdecode(name), given_value)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return False
    return True


@given(st.binary(max_size=60) | _lists())
def test_bytes_are_a_list_or_refused(text: bytes) -> None:
    try:
        acl = Acl.parse(text)
    except FormatError:
        return
    assert acl is None or Acl.parse(bytes(acl)) == acl


@pytest.mark.parametrize("text", [b"\2", _SHARED[:-1], _SHARED + b"\0", value(version=1)])
def test_other_bytes_are_no_list(text: bytes) -> None:
    with pytest.raises(FormatError):
        Acl.parse(text)


def _refused(code: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


@pytest.fixture
def xattrs(small: SmallTree) -> Xattrs:
    return Xattrs(small.overlay, small.tree.clock)


def test_a_list_and_the_mode_follow_each_other(small: SmallTree, xattrs: Xattrs) -> None:
    ino = small.inode("one/f").ino
    small.tree.set_attributes(ino, Changes(mode=0o4644))
    before = small.inode("one/f")
    xattrs.set(ino, ACCESS, _SHARED)
    after = small.inode("one/f")
    assert oct(after.mode) == oct(stat.S_IFREG | 0o4774)
    assert after.ctime_ns > before.ctime_ns
    assert xattrs.get(ino, ACCESS) == _SHARED
    small.tree.set_attributes(ino, Changes(mode=0o640))
    kept = Acl.parse(xattrs.get(ino, ACCESS) or b"")
    assert kept is not None
    assert [each.permissions for each in kept.entries] == [6, 6, 5, 7, 4, 0]
    xattrs.remove(ino, ACCESS)
    assert small.inode("one/f").mode == stat.S_IFREG | 0o640
    assert not small.inode("one/f").has_xattrs


def test_a_list_that_says_no_more_than_a_mode_is_not_kept(small: SmallTree, xattrs: Xattrs) -> None:
    ino = small.inode("one/d").ino
    minimal = value((_OWNER, 7, _ANYBODY), (_GROUP, 0, _ANYBODY), (_OTHERS, 1, _ANYBODY))
    for given_value in (minimal, value(), b""):
        xattrs.set(ino, ACCESS, _SHARED)
        xattrs.set(ino, ACCESS, given_value)
        assert xattrs.get(ino, ACCESS) is None
        mode = 0o701 if given_value == minimal else 0o774
        assert small.inode("one/d").mode == stat.S_IFDIR | mode
    xattrs.set(ino, DEFAULT, minimal)
    assert xattrs.get(ino, DEFAULT) == minimal
    xattrs.set(ino, DEFAULT, b"")
    assert xattrs.names(ino, is_root=True) == []


def test_lists_are_refused_where_there_can_be_none(small: SmallTree, xattrs: Xattrs) -> None:
    link = small.make("one/l", NewInode(stat.S_IFLNK | 0o777, 0, 0, target=b"x"))
    fifo = small.make("one/p", NewInode(stat.S_IFIFO | 0o644, 0, 0))
    file = small.inode("one/f")
    for name in (ACCESS, DEFAULT):
        _refused(errno.EOPNOTSUPP, xattrs.set, link.ino, name, _SHARED)
    for inode in (file, fifo):
        _refused(errno.EACCES, xattrs.set, inode.ino, DEFAULT, _SHARED)
    _refused(errno.EINVAL, xattrs.set, file.ino, ACCESS, _SHARED[:-8])
    assert not small.inode("one/f").has_xattrs
    xattrs.set(fifo.ino, ACCESS, _SHARED)
    assert small.inode("one/p").mode == stat.S_IFIFO | 0o774


def test_what_is_made_in_a_folder_inherits_its_default(small: SmallTree, xattrs: Xattrs) -> None:
    xattrs.set(small.inode("one/d").ino, DEFAULT, _SHARED)
    folder, file = small.make("one/d/sub", FOLDER), small.make("one/d/file")
    below = small.make("one/d/sub/file", NewInode(stat.S_IFREG | 0o600, 1, 1))
    link = small.make("one/d/symlink", NewInode(stat.S_IFLNK | 0o777, 1, 1, target=b"x"))
    assert [oct(stat.S_IMODE(each.mode)) for each in (folder, file, below, link)] == [
        "0o754",
        "0o644",
        "0o600",
        "0o777",
    ]
    names = [xattrs.names(each.ino, is_root=True) for each in (folder, file, below, link)]
    assert names == [[ACCESS, DEFAULT], [ACCESS], [ACCESS], []]
    assert all(each == small.tree.inode(each.ino) for each in (file, below, link))
    small.rename("one/g", "one/d/g")
    assert xattrs.names(small.inode("one/d/g").ino, is_root=True) == []
