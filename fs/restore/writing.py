"""Writing files, folders, links and special files of a restore; any thread may."""

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from typing_extensions import Buffer

from libernet.fs.nodes import Appearance

_LARGE_BYTES: Final = 8 * 1024 * 1024
"""A file of so much is gone on with where a restore was interrupted."""

_BUFFER_BYTES = 1024 * 1024
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Piece:
    """So many bytes of a file, and what returns them: None for zeros.

    *is_in* says of other bytes whether they are the same, as far as it can tell without reading.
    """

    size: int
    read: Callable[[], Buffer] | None
    is_in: Callable[[Buffer], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to stand at *path*, as *look* and *xattrs* say; *target* is the text of a link.

    *pieces* are a file's content in order; none is asked for before those behind it are written.
    """

    path: bytes
    look: Appearance
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    pieces: Iterable[Piece] = ()
    target: bytes = b""


class Writer:
    """Let things stand at their paths; what is there already as it should be is left alone.

    With *trusted* the owner, devices and setuid bits are those of the backup. Of what strangers
    made they are not: a restore by root must not give rights away.
    """

    def __init__(self, *, trusted: bool) -> None:
        self._trusted = trusted
        self._is_root = os.geteuid() == 0

    def folder(self, path: bytes) -> None:
        """Make a folder, closed to others until `finish`, unless there is one. Raises OSError."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                return
            os.unlink(path)
            os.mkdir(path, 0o700)

    def finish(self, wanted: Wanted) -> None:
        """Give a folder its attributes, when all that is in it was written. Raises OSError."""
        descriptor = os.open(wanted.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._look(descriptor, wanted)
        finally:
            os.close(descriptor)

    def is_there(self, wanted: Wanted) -> bool:
        """Return whether a file, link or special file stands there as its attributes say."""
        try:
            status = os.lstat(wanted.path)
        except FileNotFoundError:
            return False
        look = wanted.look
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(look.mode):
            return False
        if stat.S_ISLNK(look.mode):
            return os.readlink(wanted.path) == wanted.target
        if not stat.S_ISREG(look.mode):
            return status.st_rdev == look.rdev
        return (status.st_size, status.st_mtime_ns) == (look.size, look.mtime_ns)

    def file(self, wanted: Wanted) -> None:
        """Write a file. One that stood there before is there until all of this one was written.

        Raises OSError, and what the pieces raise; then nothing new stands there. Of a large file
        what was written stays beside it, for the next try.
        """
        existing = _exists(wanted.path)
        with _place(wanted, is_free=existing is None) as (path, descriptor):
            _write(descriptor, wanted)
            self._look(descriptor, wanted)
            if path != wanted.path:
                if existing is not None and stat.S_ISDIR(existing.st_mode):
                    os.rmdir(wanted.path)  # never a folder with something in it
                os.rename(path, wanted.path)

    def attributes(self, wanted: Wanted) -> None:
        """Give a file that is there its attributes. Raises OSError."""
        descriptor = os.open(wanted.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._look(descriptor, wanted)
        finally:
            os.close(descriptor)

    def differs(self, wanted: Wanted) -> bool:
        """Return whether a file that was written does not hold its pieces, or cannot be read."""
        try:
            with open(wanted.path, "rb", buffering=_BUFFER_BYTES, opener=_open_no_link) as file:
                for piece in wanted.pieces:
                    read, size = piece.read, piece.size
                    if not (_is_zero(file, size) if read is None else file.read(size) == read()):
                        return True
                return file.read(1) != b""
        except OSError:
            return True

    def other(self, wanted: Wanted) -> bool:
        """Make a link or special file; return False for a device that is not to be trusted."""
        kind = stat.S_IFMT(wanted.look.mode)
        if kind in {stat.S_IFBLK, stat.S_IFCHR} and not self._trusted:
            return False
        existing = _exists(wanted.path)
        if existing is not None:
            remove = os.rmdir if stat.S_ISDIR(existing.st_mode) else os.unlink
            remove(wanted.path)
        if kind == stat.S_IFLNK:
            os.symlink(wanted.target, wanted.path)
        else:
            os.mknod(wanted.path, kind | 0o600, wanted.look.rdev)
        self._look(wanted.path, wanted)
        return True

    def link(self, path: bytes, other: bytes) -> None:
        """Give what stands at *other* one more name. Raises OSError."""
        existing = _exists(path)
        if existing is not None:
            if os.path.samestat(existing, os.lstat(other)):
                return
            os.unlink(path)
        os.link(other, path, follow_symlinks=False)

    def _look(self, file: int | bytes, wanted: Wanted) -> None:
        """Give something its attributes: the owner first, as that takes bits of the mode."""
        look = wanted.look
        is_link = stat.S_ISLNK(look.mode)
        follow = isinstance(file, int)
        if self._trusted:
            try:
                os.chown(file, look.uid, look.gid, follow_symlinks=follow)
            except PermissionError:
                if self._is_root:
                    raise  # others own what they restore
        for name, value in wanted.xattrs.items():
            if self._may_set(name):
                os.setxattr(file, name, value, follow_symlinks=follow)
        if not is_link:
            mode = stat.S_IMODE(look.mode)
            os.chmod(file, mode if self._trusted else mode & 0o1777)
        os.utime(file, ns=(look.mtime_ns, look.mtime_ns), follow_symlinks=follow)

    def _may_set(self, name: bytes) -> bool:
        """Return whether an extended attribute is restored: beside root's own ones, all."""
        if name.startswith(b"user."):
            return True
        return self._trusted and (self._is_root or name.startswith(b"system.posix_acl_"))


@contextmanager
def _place(wanted: Wanted, *, is_free: bool) -> Iterator[tuple[bytes, int]]:
    """Provide path and descriptor of a file to be written; what is left there on failure goes.

    That is its own path where it *is_free*; but what is written of a large file has a name that the
    next restore finds, and stays.
    """
    folder, name = os.path.split(wanted.path)
    path, descriptor = wanted.path, None
    if wanted.look.size >= _LARGE_BYTES:
        path = _beside(folder, hashlib.blake2b(name, digest_size=16).hexdigest())
        descriptor = _begun(path)
    is_kept = descriptor is not None
    if descriptor is None:
        path = wanted.path if is_free else _beside(folder, secrets.token_hex(16))
        descriptor = os.open(path, _OPEN | os.O_EXCL, 0o600)
    try:
        yield path, descriptor
    except BaseException:
        if not is_kept:
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _beside(folder: bytes, suffix: str) -> bytes:
    return os.path.join(folder, b".libernet-" + suffix.encode())


def _begun(path: bytes) -> int | None:
    """Open what there is of a large file, if only anything, for this restore alone.

    None is returned where somebody else can write to it, or does, or it cannot be opened.
    """
    try:
        descriptor = os.open(path, _OPEN, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_usable = _is_private(os.fstat(descriptor), os.lstat(path))
    except OSError:  # another restore writes to it, or it got its own name just now
        is_usable = False
    if is_usable:
        return descriptor
    os.close(descriptor)
    return None


def _is_private(status: os.stat_result, standing: os.stat_result) -> bool:
    """Return whether an open file is what is *standing* under its name, and one's own alone."""
    return (
        os.path.samestat(status, standing)
        and stat.S_ISREG(status.st_mode)
        and (status.st_uid, status.st_nlink) == (os.geteuid(), 1)
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _write(descriptor: int, wanted: Wanted) -> None:
    """Write a file's pieces, but those that are there."""
    there, offset = os.fstat(descriptor).st_size, 0
    for piece in wanted.pieces:
        found = min(piece.size, max(there - offset, 0))
        if piece.read is None:
            _clear(descriptor, offset, found)
        elif found < piece.size or not piece.is_in(os.pread(descriptor, found, offset)):
            content = memoryview(piece.read()).cast("B")
            if len(content) != piece.size:
                raise OSError(errno.EIO, "a part has another size than its document says")
            _write_at(descriptor, content, offset)
        offset += piece.size
    if offset != wanted.look.size:
        raise OSError(errno.EIO, "the parts of a file do not make up its size")
    os.ftruncate(descriptor, offset)


def _clear(descriptor: int, offset: int, size: int) -> None:
    """Let a range hold zeros, without writing where it does."""
    for start in range(offset, offset + size, _BUFFER_BYTES):
        content = os.pread(descriptor, min(_BUFFER_BYTES, offset + size - start), start)
        if content.strip(b"\0"):
            _write_at(descriptor, memoryview(bytes(len(content))), start)


def _write_at(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _is_zero(file: IO[bytes], size: int) -> bool:
    while size:
        step = min(size, _BUFFER_BYTES)
        if file.read(step) != bytes(step):
            return False
        size -= step
    return True


def _exists(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
