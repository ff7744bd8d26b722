"""System calls that Python's `os` does not have."""

import ctypes
import os

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_COLLAPSE_RANGE = 8
FALLOC_ZERO_RANGE = 16
FALLOC_INSERT_RANGE = 32

UTIME_NOW = 2**30 - 1
UTIME_OMIT = 2**30 - 2

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("ns", ctypes.c_long))


def rename2(old: str, new: str, flags: int) -> None:
    """Do renameat2(2) with paths in the working folder."""
    names = os.fsencode(old), os.fsencode(new)
    _check(_libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags))


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    """Do fallocate(2), which the C library does not emulate."""
    wide = ctypes.c_int64
    _check(_libc.fallocate(file, mode, wide(offset), wide(length)))


def set_times(path: str, atime_ns: int, mtime_ns: int, *, follow: bool = True) -> None:
    """Do utimensat(2) with each part of a second, or UTIME_NOW or UTIME_OMIT, as it is."""
    parts = [divmod(time, 10**9) for time in (atime_ns, mtime_ns)]
    for index, time in enumerate((atime_ns, mtime_ns)):
        if time in {UTIME_NOW, UTIME_OMIT}:
            parts[index] = (0, time)
    times = (_Timespec * 2)(*(_Timespec(*part) for part in parts))
    flags = 0 if follow else _AT_SYMLINK_NOFOLLOW
    _check(_libc.utimensat(_AT_FDCWD, os.fsencode(path), times, flags))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
