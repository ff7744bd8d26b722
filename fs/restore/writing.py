"""Writing files, folders, links and special files of a restore; any thread may."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

from typing_extensions import Buffer

from libernet.fs.nodes import Appearance

Piece = tuple[int, Callable[[], Buffer] | None]
"""So many bytes of a file, and what returns them: None for zeros."""

_BUFFER_BYTES = 1024 * 1024


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

        Raises OSError, and what the pieces raise; then nothing new stands there, or what is cut off
        and has another time.
        """
        existing = _exists(wanted.path)
        path = wanted.path
        if existing is not None:
            # What a restore that was killed left there has another name.
            path = os.path.join(os.path.dirname(path), b".libernet-%x" % secrets.randbits(64))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _write(descriptor, wanted)
            self._look(descriptor, wanted)
            if existing is not None:
                if stat.S_ISDIR(existing.st_mode):
                    os.rmdir(wanted.path)  # never a folder with something in it
                os.rename(path, wanted.path)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)

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
                for size, read in wanted.pieces:
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


def _write(descriptor: int, wanted: Wanted) -> None:
    offset = 0
    for size, read in wanted.pieces:
        if read is not None:
            content = memoryview(read()).cast("B")
            if len(content) != size:
                raise OSError(errno.EIO, "a part has another size than its document says")
            while content:
                content = content[os.pwrite(descriptor, content, offset + size - len(content)) :]
        offset += size
    if offset != wanted.look.size:
        raise OSError(errno.EIO, "the parts of a file do not make up its size")
    os.ftruncate(descriptor, offset)


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
