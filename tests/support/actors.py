"""Users who do things in a folder: each a thread with an identity and a working folder of its own.

On Linux the identity belongs to the thread; only the C library gives all threads the same. So files
that one user opened can be handed to another, which no process of theirs could do as simply.
"""

import ctypes
import os
import platform
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CLONE_FS = 0x200
# setgroups, setresgid and setresuid themselves; the library's functions change every thread.
_CALLS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}

_libc = ctypes.CDLL(None, use_errno=True)

CAN_CHANGE_USER = os.geteuid() == 0 and platform.machine() in _CALLS


class Actor:
    """Somebody who does things; every function of `os` is a method that takes relative paths.

    State: _thread, which has the user's identity, file mode mask 022 and the working folder.
    """

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> None:
        self.uid = uid
        self.gid = gid
        self._thread = ThreadPoolExecutor(1, f"user {uid}")
        self.does(_become, uid, gid, groups)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def act(*arguments: Any, **options: Any) -> Any:
            return self.does(function, *arguments, **options)

        return act

    def does(self, function: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
        """Call any function as this user, in the working folder."""
        return self._thread.submit(function, *arguments, **options).result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def create(self, path: str, mode: int = 0o644, content: bytes = b"") -> None:
        """Make a file of exactly that mode."""
        with self.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            os.write(file, content)
        self.chmod(path, mode)

    @contextmanager
    def opened(self, path: str, flags: int, mode: int = 0o644) -> Iterator[int]:
        """Open a file for the body."""
        file = self.open(path, flags, mode)
        try:
            yield file
        finally:
            os.close(file)

    def write_file(self, path: str, content: bytes) -> None:
        """Make a file, or empty it, and write to it."""
        self.does(_write, path, content)

    def content(self, path: str) -> bytes:
        """Return what a file has."""
        return self.does(_content, path)

    def mode(self, path: str) -> int:
        """Return the mode's permission bits, of a link itself too."""
        return stat.S_IMODE(self.lstat(path).st_mode)

    def owner(self, path: str) -> tuple[int, int]:
        """Return user and group, of a link itself too."""
        status = self.lstat(path)
        return status.st_uid, status.st_gid

    def owned_by(self, other: "Actor", path: str) -> None:
        """Give a file or link, or a folder, to another user and the group of theirs."""
        mode = self.mode(path)
        self.chown(path, other.uid, other.gid, follow_symlinks=False)
        if not stat.S_ISLNK(self.lstat(path).st_mode):
            self.chmod(path, mode)


@contextmanager
def refused(*numbers: int) -> Iterator[None]:
    """Expect the body to fail with one of the errnos; POSIX leaves a choice here and there."""
    with pytest.raises(OSError) as caught:
        yield
    names = {os.strerror(number) for number in numbers}
    assert caught.value.errno in numbers, f"{caught.value}, expected {names}"


def _become(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    _check(_libc.unshare(_CLONE_FS))
    os.umask(0o022)
    if not uid:
        return
    setgroups, setresgid, setresuid = _CALLS[platform.machine()]
    ids = (ctypes.c_uint32 * len(groups))(*groups)
    _check(_libc.syscall(setgroups, len(groups), ids))
    _check(_libc.syscall(setresgid, gid, gid, gid))
    _check(_libc.syscall(setresuid, uid, uid, uid))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def _content(path: str) -> bytes:
    return Path(path).read_bytes()
