"""The tree does what the kernel does in a file system of its own."""

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.journal import Journal
from libernet.fs.overlay import Overlay
from libernet.fs.tree import RENAME_EXCHANGE, RENAME_NOREPLACE, NewInode, Tree, os_error

_SHARED_MEMORY = Path("/dev/shm")  # tmpfs: fast, and all flags of renameat2 work there
_libc = ctypes.CDLL(None, use_errno=True)

State = dict[str, tuple[int, int, str]]
"""By path: type, number of links, and the first path that leads to the same."""


class Kernels:
    """A folder of the kernel's."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def mkdir(self, path: str) -> None:
        (self._root / path).mkdir()

    def create(self, path: str) -> None:
        os.close(os.open(self._root / path, os.O_CREAT | os.O_EXCL))

    def mkfifo(self, path: str) -> None:
        os.mkfifo(self._root / path)

    def link(self, old: str, new: str) -> None:
        os.link(self._root / old, self._root / new)

    def unlink(self, path: str) -> None:
        (self._root / path).unlink()

    def rmdir(self, path: str) -> None:
        (self._root / path).rmdir()

    def rename(self, old: str, new: str, flags: int) -> None:
        names = os.fsencode(self._root / old), os.fsencode(self._root / new)
        if _libc.renameat2(-100, names[0], -100, names[1], flags):
            raise os_error(ctypes.get_errno())

    def state(self) -> State:
        first: dict[int, str] = {}
        state: State = {}
        for path in sorted(self._root.rglob("*")):
            attributes = path.lstat()
            name = str(path.relative_to(self._root))
            nlink = attributes.st_nlink
            if path.is_dir():  # some file systems do not count these
                nlink = 2 + sum(below.is_dir() for below in path.iterdir())
            state[name] = (
                stat.S_IFMT(attributes.st_mode),
                nlink,
                first.setdefault(attributes.st_ino, name),
            )
        return state


class Ours:
    """A backup in a tree of ours."""

    def __init__(self, journal: Journal, overlay: Overlay) -> None:
        self._journal = journal
        self._overlay = overlay
        self._tree = Tree(overlay, owner=(0, 0))
        self._root = self._tree.make(ROOT_INO, b"backup", NewInode(stat.S_IFDIR, 0, 0)).ino

    def mkdir(self, path: str) -> None:
        self._tree.make(*self._place(path), NewInode(stat.S_IFDIR, 0, 0))

    def create(self, path: str) -> None:
        self._tree.make(*self._place(path), NewInode(stat.S_IFREG, 0, 0))

    def mkfifo(self, path: str) -> None:
        self._tree.make(*self._place(path), NewInode(stat.S_IFIFO, 0, 0))

    def link(self, old: str, new: str) -> None:
        self._tree.link(self._inode(old).ino, *self._place(new))

    def unlink(self, path: str) -> None:
        self._drop_unused(self._tree.unlink(*self._place(path)))

    def rmdir(self, path: str) -> None:
        self._drop_unused(self._tree.rmdir(*self._place(path)))

    def rename(self, old: str, new: str, flags: int) -> None:
        lost = self._tree.rename(self._place(old), self._place(new), flags)
        if lost is not None:
            self._drop_unused(lost)

    def checkpoint(self) -> None:
        self._journal.apply(self._overlay.freeze())
        self._overlay.committed()

    def state(self) -> State:
        first: dict[int, str] = {}
        state: State = {}
        for path, inode in sorted(self._walk("", self._root), key=lambda each: Path(each[0])):
            kind = stat.S_IFMT(inode.mode)
            state[path] = kind, inode.nlink, first.setdefault(inode.ino, path)
        return state

    def _walk(self, path: str, folder: int) -> Iterator[tuple[str, Inode]]:
        for name, inode in self._tree.children(folder, b"", 100):
            below = f"{path}/{name.decode()}".lstrip("/")
            yield below, inode
            if inode.is_folder:
                yield from self._walk(below, inode.ino)

    def _inode(self, path: str) -> Inode:
        inode = self._tree.inode(self._root)
        for name in filter(None, path.split("/")):
            if not inode.is_folder:
                raise os_error(errno.ENOTDIR)  # the kernel never asks for names in a file
            inode = self._tree.lookup(inode.ino, name.encode())
        return inode

    def _place(self, path: str) -> tuple[int, bytes]:
        folder, _, name = path.rpartition("/")
        inode = self._inode(folder)
        if not inode.is_folder:
            raise os_error(errno.ENOTDIR)
        return inode.ino, name.encode()

    def _drop_unused(self, inode: Inode) -> None:
        if inode.nlink == 0:
            self._tree.drop(inode.ino)


@contextlib.contextmanager
def _both() -> Iterator[tuple[Ours, Kernels]]:
    folder = Path(tempfile.mkdtemp(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        journal = stack.enter_context(Journal(folder / "journal.sqlite"))
        overlay = Overlay(stack.enter_context(journal.reader()))
        (folder / "root").mkdir()
        yield Ours(journal, overlay), Kernels(folder / "root")


_PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
_FLAGS = st.sampled_from([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
_OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["mkdir", "mkdir", "create", "mkfifo", "unlink", "rmdir"]), _PATHS),
    st.tuples(st.just("link"), _PATHS, _PATHS),
    st.tuples(st.just("rename"), _PATHS, _PATHS, _FLAGS),
    st.tuples(st.just("rename"), _PATHS, _PATHS, _FLAGS),
    st.tuples(st.just("checkpoint")),
)


def _outcome(operation: Callable[..., None], *arguments: object) -> str:
    try:
        operation(*arguments)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "done"


@settings(deadline=None, max_examples=150)
@given(st.lists(_OPERATIONS, min_size=15, max_size=60))
def test_names_change_as_in_the_kernels_own_file_systems(
    operations: list[tuple[str | int, ...]],
) -> None:
    with _both() as (ours, kernels):
        for name, *arguments in operations:
            if name == "checkpoint":
                ours.checkpoint()
                continue
            expected = _outcome(getattr(kernels, str(name)), *arguments)
            found = _outcome(getattr(ours, str(name)), *arguments)
            if expected == "ENOTEMPTY" and found == "EISDIR":
                continue  # a file over a folder above it, which the kernel refuses by itself
            assert (name, *arguments, found) == (name, *arguments, expected)
        assert ours.state() == kernels.state()
