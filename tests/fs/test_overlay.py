"""The overlay over a real journal, against two plain dicts."""

import errno
import itertools
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from libernet.fs.inode import FIRST_INO, ROOT_INO, Inode
from libernet.fs.journal import Batch, Journal
from libernet.fs.overlay import Overlay

_MANY = 300  # names: more than the overlay reads of the journal at one time
_LIMITS = st.one_of(st.sampled_from([1, 2, 255, 256, 257]), st.integers(1, 400))


def _inode(ino: int, kind: int = stat.S_IFREG, size: int = 0) -> Inode:
    return Inode(ino, kind | 0o755, 0, 0, size, 1, 0, 0, 0, 0)


def _name(number: int) -> bytes:
    return b"%03d" % number


_NAMES = st.integers(0, _MANY).map(_name)
_XATTRS = st.dictionaries(st.sampled_from([b"user.a", b"user.\xff"]), st.binary(max_size=3))


class OverlayMachine(RuleBasedStateMachine):
    """Change names and inodes while generations are frozen, applied and let go at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.path = Path(tempfile.mkdtemp(prefix="libernet-overlay-"))
        self.stack.callback(shutil.rmtree, self.path)
        self.journal = self.stack.enter_context(Journal(self.path / "journal.sqlite"))
        self.overlay = Overlay(self.stack.enter_context(self.journal.reader()))
        self.inodes: dict[int, Inode] = {}
        self.folders: dict[int, dict[bytes, int]] = {}
        self.gone: set[int] = set()
        self.xattrs: dict[int, dict[bytes, bytes]] = {}
        self.frozen: Batch | None = None
        self.is_applied = False

    def teardown(self) -> None:
        try:
            self.finish_checkpoint()
            with self.journal.reader() as reader:
                overlay = Overlay(reader)
                assert not overlay.is_dirty
                assert overlay.new_ino() not in self.inodes.keys() | self.gone
                self.overlay = overlay
                self.everything_is_as_in_the_model()
        finally:
            self.stack.close()

    @initialize()
    def begin_with_a_root(self) -> None:
        self.folders[ROOT_INO] = {}
        self.inodes[ROOT_INO] = _inode(ROOT_INO, stat.S_IFDIR)
        self.overlay.make(self.inodes[ROOT_INO])

    def _any_folder(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.folders)), "folder")

    def _any_name_of(self, folder: int, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.folders[folder])), "name")

    def _make(self, folder: int, name: bytes, kind: int) -> None:
        inode = _inode(self.overlay.new_ino(), kind)
        assert inode.ino not in self.inodes.keys() | self.gone
        self.inodes[inode.ino] = inode
        self.overlay.make(inode)
        self._set(folder, name, inode.ino)
        if inode.is_folder:
            self.folders[inode.ino] = {}

    def _set(self, folder: int, name: bytes, ino: int) -> None:
        self.folders[folder][name] = ino
        self.overlay.set_child(folder, name, ino)

    @rule(data=st.data(), name=_NAMES, kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR]))
    def make(self, data: st.DataObject, name: bytes, kind: int) -> None:
        folder = self._any_folder(data)
        if name not in self.folders[folder]:
            self._make(folder, name, kind)

    @rule(data=st.data(), step=st.integers(1, 3))
    def make_many(self, data: st.DataObject, step: int) -> None:
        folder = self._any_folder(data)
        for name in map(_name, range(0, _MANY, step)):
            if name not in self.folders[folder]:
                self._make(folder, name, stat.S_IFREG)

    @rule(data=st.data(), name=_NAMES)
    def link(self, data: st.DataObject, name: bytes) -> None:
        ino = data.draw(st.sampled_from(sorted(self.inodes.keys() - self.folders.keys()) or [0]))
        if ino:
            self._set(self._any_folder(data), name, ino)

    @rule(data=st.data(), size=st.integers(1, 9))
    def change_an_inode(self, data: st.DataObject, size: int) -> None:
        ino = data.draw(st.sampled_from(sorted(self.inodes)), "inode")
        self.inodes[ino] = msgspec.structs.replace(self.inodes[ino], size=size)
        self.overlay.put(self.inodes[ino])

    @rule(data=st.data(), xattrs=_XATTRS)
    def change_extended_attributes(self, data: st.DataObject, xattrs: dict[bytes, bytes]) -> None:
        ino = data.draw(st.sampled_from(sorted(self.inodes)), "inode")
        self.overlay.put_xattrs(self.inodes[ino], xattrs)
        self.inodes[ino] = msgspec.structs.replace(self.inodes[ino], has_xattrs=bool(xattrs))
        self.xattrs[ino] = xattrs

    @rule(data=st.data(), count=st.integers(1, 2), drop=st.booleans())
    def remove(self, data: st.DataObject, count: int, drop: bool) -> None:
        folder = self._any_folder(data)
        for _ in range(count):
            if self.folders[folder]:
                self._remove(folder, self._any_name_of(folder, data), drop=drop)

    @rule(data=st.data(), step=st.integers(1, 3))
    def remove_many(self, data: st.DataObject, step: int) -> None:
        folder = self._any_folder(data)
        for name in sorted(self.folders[folder])[::step]:
            self._remove(folder, name, drop=True)

    def _remove(self, folder: int, name: bytes, *, drop: bool) -> None:
        ino = self.folders[folder][name]
        if self.folders.get(ino):
            return
        del self.folders[folder][name]
        self.overlay.set_child(folder, name, None)
        if drop and not any(ino in names.values() for names in self.folders.values()):
            self.overlay.drop(ino)
            self.folders.pop(ino, None)
            del self.inodes[ino]
            self.xattrs.pop(ino, None)
            self.gone.add(ino)

    @rule(data=st.data(), name=_NAMES)
    def move(self, data: st.DataObject, name: bytes) -> None:
        source, target = self._any_folder(data), self._any_folder(data)
        if self.folders[source]:
            old = self._any_name_of(source, data)
            ino = self.folders[source].pop(old)
            self.overlay.set_child(source, old, None)
            self._set(target, name, ino)

    @precondition(lambda self: self.frozen is None)
    @rule()
    def freeze(self) -> None:
        generation = self.overlay.generation
        self.frozen = self.overlay.freeze()
        self.is_applied = False
        assert self.frozen.generation == generation
        assert self.overlay.generation == generation + 1

    @precondition(lambda self: self.frozen is not None and not self.is_applied)
    @rule()
    def apply(self) -> None:
        assert self.frozen is not None
        self.journal.apply(self.frozen)
        self.is_applied = True

    @precondition(lambda self: self.frozen is not None and self.is_applied)
    @rule()
    def committed(self) -> None:
        self.overlay.committed()
        self.frozen = None

    @precondition(lambda self: self.folders)
    @rule()
    def finish_checkpoint(self) -> None:
        """Commit everything."""
        for _ in range(2):
            if self.frozen is None:
                self.freeze()
            if not self.is_applied:
                self.apply()
            self.committed()
        assert not self.overlay.is_dirty
        assert self.overlay.xattr_bytes == 0

    @rule(data=st.data(), after=st.one_of(st.just(b""), _NAMES), limit=_LIMITS)
    def list_a_page(self, data: st.DataObject, after: bytes, limit: int) -> None:
        folder = self._any_folder(data)
        behind = sorted(name for name in self.folders[folder] if name > after)
        expected = [(name, self.inodes[self.folders[folder][name]]) for name in behind[:limit]]
        assert self.overlay.children(folder, after, limit) == expected

    @rule(data=st.data(), name=_NAMES)
    def look_up(self, data: st.DataObject, name: bytes) -> None:
        folder = self._any_folder(data)
        assert self.overlay.child(folder, name) == self.folders[folder].get(name)
        assert self.overlay.is_empty(folder) == (not self.folders[folder])

    @rule()
    def everything_is_as_in_the_model(self) -> None:
        for ino, inode in self.inodes.items():
            assert self.overlay.find(ino) == inode
            assert self.overlay.xattrs(inode) == self.xattrs.get(ino, {})
        for ino in self.gone:
            assert self.overlay.find(ino) is None
        for folder, names in self.folders.items():
            listed = self.overlay.children(folder, b"", 2 * _MANY)
            assert {name: inode.ino for name, inode in listed} == names
        for ino in self.inodes:
            homes = {folder for folder, names in self.folders.items() if ino in names.values()}
            assert set(self.overlay.parents(ino)) == homes


OverlayMachine.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
TestOverlay = OverlayMachine.TestCase


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture
def overlay(journal: Journal) -> Iterator[Overlay]:
    with journal.reader() as reader:
        overlay = Overlay(reader)
        overlay.make(_inode(ROOT_INO, stat.S_IFDIR))
        yield overlay


def _fill(overlay: Overlay, numbers: range) -> None:
    for number in numbers:
        inode = _inode(overlay.new_ino())
        overlay.make(inode)
        overlay.set_child(ROOT_INO, _name(number), inode.ino)


def _commit(overlay: Overlay, journal: Journal) -> None:
    journal.apply(overlay.freeze())
    overlay.committed()


def _listing(overlay: Overlay, limit: int) -> Iterator[bytes]:
    """Yield the names in the root as somebody reads them who takes *limit* at a time."""
    after = b""
    while page := overlay.children(ROOT_INO, after, limit):
        yield from (name for name, _ in page)
        after = page[-1][0]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 256, 1000])
def test_a_folder_that_changes_while_it_is_listed_shows_what_stays_once(
    overlay: Overlay, journal: Journal, limit: int, committed: bool
) -> None:
    _fill(overlay, range(0, 900, 3))
    if committed:
        _commit(overlay, journal)
    listing = _listing(overlay, limit)
    seen = list(itertools.islice(listing, 100))
    _fill(overlay, range(1, 900, 3))
    for number in range(300, 900, 30):
        overlay.set_child(ROOT_INO, _name(number), None)
    seen += listing
    staying = {_name(number) for number in range(0, 900, 3) if number < 300 or number % 30}
    assert staying <= set(seen)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("limit", [1, 20, 300])
def test_a_folder_that_lost_nearly_all_its_names_shows_the_others_in_order(
    overlay: Overlay, journal: Journal, limit: int
) -> None:
    _fill(overlay, range(900))
    _commit(overlay, journal)
    for number in range(900):
        if number % 290:
            overlay.set_child(ROOT_INO, _name(number), None)
    _fill(overlay, range(900, 910))
    _fill(overlay, range(600, 610))
    expected = [0, 290, 580, *range(600, 610), 870, *range(900, 910)]
    assert list(_listing(overlay, limit)) == list(map(_name, expected))


def test_names_removed_while_a_folder_is_listed_are_not_on_later_pages(
    overlay: Overlay, journal: Journal
) -> None:
    _fill(overlay, range(_MANY))
    _commit(overlay, journal)
    seen = []
    for name in _listing(overlay, 1):
        seen.append(name)
        following = int(name) + 1
        overlay.set_child(ROOT_INO, _name(following), None)
    assert seen == [_name(number) for number in range(0, _MANY, 2)]


@pytest.mark.parametrize("moment", ["not frozen", "frozen", "applied", "committed"])
def test_a_removed_name_is_never_shown_again(
    overlay: Overlay, journal: Journal, moment: str
) -> None:
    _fill(overlay, range(3))
    _commit(overlay, journal)
    overlay.set_child(ROOT_INO, _name(1), None)
    if moment != "not frozen":
        batch = overlay.freeze()
        if moment != "frozen":
            journal.apply(batch)
        if moment == "committed":
            overlay.committed()
    assert overlay.child(ROOT_INO, _name(1)) is None
    assert list(_listing(overlay, 1)) == [_name(0), _name(2)]


def test_a_name_that_came_and_went_in_one_generation_leaves_nothing(
    overlay: Overlay, journal: Journal
) -> None:
    inode = _inode(overlay.new_ino())
    overlay.make(inode)
    overlay.set_child(ROOT_INO, b"name", inode.ino)
    overlay.set_child(ROOT_INO, b"name", None)
    overlay.drop(inode.ino)
    _commit(overlay, journal)
    assert overlay.find(inode.ino) is None
    with journal.reader() as reader:
        assert reader.inode(inode.ino) is None
        assert reader.child(ROOT_INO, b"name") is None


def test_an_overlay_is_dirty_until_its_last_change_is_committed(
    overlay: Overlay, journal: Journal
) -> None:
    batch = overlay.freeze()
    journal.apply(batch)
    assert overlay.is_dirty
    overlay.touch(ROOT_INO)
    overlay.committed()
    assert overlay.is_dirty
    _commit(overlay, journal)
    assert not overlay.is_dirty


def test_what_is_not_committed_of_extended_attributes_is_counted(
    overlay: Overlay, journal: Journal
) -> None:
    inode = overlay.inode(ROOT_INO)
    overlay.put_xattrs(inode, {b"user.a": b"12345"})
    overlay.put_xattrs(inode, {b"user.a": b"1", b"user.b": b"2"})
    assert overlay.xattr_bytes == 14
    journal.apply(overlay.freeze())
    overlay.put_xattrs(inode, {b"user.a": b"123"})
    assert overlay.xattr_bytes == 14 + 9
    overlay.committed()
    assert overlay.xattr_bytes == 9


def test_extended_attributes_of_what_was_dropped_are_not_kept(
    overlay: Overlay, journal: Journal
) -> None:
    for is_committed in (True, False):
        inode = _inode(overlay.new_ino())
        overlay.make(inode)
        overlay.put_xattrs(inode, {b"user.a": b"1"})
        if is_committed:
            _commit(overlay, journal)
        overlay.drop(inode.ino)
        _commit(overlay, journal)
        with journal.reader() as reader:
            assert reader.rows("SELECT * FROM xattr") == []


def test_an_inode_is_new_until_the_journal_is_told_of_it(
    overlay: Overlay, journal: Journal
) -> None:
    earlier = overlay.new_ino()
    overlay.make(_inode(earlier))
    assert overlay.is_new(earlier)
    batch = overlay.freeze()
    later = overlay.new_ino()
    assert not overlay.is_new(earlier)
    assert overlay.is_new(later)
    journal.apply(batch)
    overlay.committed()
    assert not overlay.is_new(earlier)
    assert overlay.is_new(later)
    with journal.reader() as reader:
        assert not Overlay(reader).is_new(earlier)


def test_a_second_freeze_before_the_first_is_committed_is_refused(overlay: Overlay) -> None:
    overlay.freeze()
    with pytest.raises(AssertionError):
        overlay.freeze()


def test_an_inode_that_is_not_there_is_told_as_such(overlay: Overlay) -> None:
    assert overlay.find(FIRST_INO + 77) is None
    with pytest.raises(FileNotFoundError) as raised:
        overlay.inode(FIRST_INO + 77)
    assert raised.value.errno == errno.ENOENT


def test_the_parents_of_a_file_are_the_folders_in_which_it_has_a_name_now(
    overlay: Overlay, journal: Journal
) -> None:
    first, second, third = (overlay.new_ino() for _ in range(3))
    for folder in (first, second, third):
        overlay.make(_inode(folder, stat.S_IFDIR))
    file = overlay.new_ino()
    overlay.make(_inode(file))
    overlay.set_child(first, b"a", file)
    overlay.set_child(second, b"b", file)
    assert set(overlay.parents(file)) == {first, second}
    _commit(overlay, journal)
    overlay.set_child(first, b"a", None)
    overlay.set_child(third, b"c", file)
    assert set(overlay.parents(file)) == {second, third}
    overlay.set_child(third, b"c", None)
    assert set(overlay.parents(file)) == {second}
