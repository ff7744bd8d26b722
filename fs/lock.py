"""One process per state folder: the lock that a mount holds from start until all is durable.

DATA/lock is locked with flock(2) and its first line says who holds it, as JSON. flock belongs
to the open file, not to the process: a daemon forked from the command that took the lock goes
on holding it when the command ends. What the file says counts only while it is locked.
"""

import enum
import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from libernet.blocks.errors import LibernetError
from libernet.fs.mount_table import mount_at
from libernet.fs.places import Places

LOCK_NAME = "lock"

WAIT_SECONDS = 60.0
"""How long a start waits for an unmounted predecessor to finish writing."""

_SETTLE_SECONDS = 0.25
"""How long a refusal is doubted: a process that merely tests the lock has it for microseconds."""

_PAUSE_SECONDS = 0.01

_MAX_LINE_BYTES = 32768
"""A mount point has at most PATH_MAX = 4096 bytes; JSON may write each as six characters."""


class Phase(enum.StrEnum):
    """What the holder of the lock is doing."""

    STARTING = "starting"
    MOUNTED = "mounted"
    ENDING = "ending"
    """Unmounted or told to end, and still writing."""
    CHECKING = "checking"
    """Nothing is mounted: the state folder is being checked, repaired or read by a command."""
    ENDED = "ended"
    """Everything is durable."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a state folder, as it described itself."""

    pid: int
    mountpoint: Path
    phase: Phase

    @classmethod
    def parse(cls, line: bytes) -> Self | None:
        """Return the holder that a lock file's first line names, None for anything else."""
        try:
            fields = json.loads(line)
            return cls(int(fields["pid"]), Path(fields["mountpoint"]), Phase(fields["phase"]))
        except (ValueError, KeyError, TypeError):
            return None

    def is_ending(self) -> bool:
        """Say whether the mount is gone, so that the lock will be free soon.

        umount(8) returns before the process has noticed, hence the look at its mount table.
        """
        if self.phase is not Phase.MOUNTED:
            return self.phase not in {Phase.STARTING, Phase.CHECKING}
        try:
            return mount_at(self.mountpoint, self.pid) is None
        except PermissionError:
            return False
        except OSError:  # ENOENT or EINVAL: the process is going
            return True


class StateLock:
    """The right to use a state folder, held until `release` or the end of the process.

    State: the open, locked file. A fork shares it; the lock is free when the last copy closes.
    """

    def __init__(self, file: int, mountpoint: Path) -> None:
        self._file = file
        self._mountpoint = mountpoint

    @classmethod
    def acquire(
        cls,
        data: Path,
        mountpoint: Path,
        *,
        wait_seconds: float = WAIT_SECONDS,
        phase: Phase = Phase.STARTING,
    ) -> Self:
        """Lock the folder *data* for a mount at *mountpoint*; the holder begins in *phase*.

        A holder that is ending is waited for, *wait_seconds* at most; any other is an error at
        once: LibernetError, which says who holds the folder and what to do.
        """
        file = _open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            _lock_exclusively(file, data, mountpoint, wait_seconds)
            lock = cls(file, mountpoint)
            lock.mark(phase)
        except BaseException:
            os.close(file)
            raise
        return lock

    def mark(self, phase: Phase) -> None:
        """Write into the file that this process holds the lock and is in *phase*.

        After a fork the child calls this, so that the file names it.
        """
        fields = {"pid": os.getpid(), "mountpoint": str(self._mountpoint), "phase": phase}
        line = json.dumps(fields).encode() + b"\n"
        os.pwrite(self._file, line, 0)
        os.ftruncate(self._file, len(line))

    def release(self) -> None:
        """Give the lock back. Only once, and only when everything is durable."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


@contextmanager
def unmounted(places: Places) -> Iterator[None]:
    """Keep the state folder, which is there, for a command while nothing is mounted.

    Raises what `Places.check` and `StateLock.acquire` do.
    """
    places.check()
    with StateLock.acquire(places.data, places.data, phase=Phase.CHECKING) as lock:
        yield
        lock.mark(Phase.ENDED)


def holder(data: Path) -> Holder | None:
    """Return who holds the folder *data*, None when nobody does."""
    try:
        file = _open(data / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not _try(file, fcntl.LOCK_SH):
            found = _read(file)
            if found or time.monotonic() > deadline:
                return found
            time.sleep(_PAUSE_SECONDS)  # locked a moment ago, not yet signed
        return None
    finally:
        os.close(file)


def check_free(data: Path, mountpoint: Path) -> None:
    """Raise the LibernetError that `StateLock.acquire` would, and change nothing."""
    found = holder(data)
    if found and not found.is_ending():
        raise _refusal(found, data, mountpoint)


def wait_released(data: Path, seconds: float, *, pid: int | None = None) -> bool:
    """Wait until *data* is not held, or no longer by process *pid*; say whether that came true.

    With *pid*, a successor that took the lock at once does not count as the one waited for.
    """
    deadline = time.monotonic() + seconds
    while (current := holder(data)) and pid in (None, current.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def lost_its_end(data: Path, pid: int) -> bool:
    """Say whether process *pid*, the last that held *data*, ended before all was durable."""
    found = _read_path(data / LOCK_NAME)
    return found is not None and found.pid == pid and found.phase is not Phase.ENDED


def find_holder(mountpoint: Path) -> tuple[Path, Holder] | None:
    """Return the data folder and the process behind the mount at *mountpoint*, if any is seen.

    Looks for the process that has a lock open naming this mount point: that needs no register
    of mounts, which could be out of date, and works for every state folder. Only processes of
    this user are seen, all of them by root; this process itself does not count.
    """
    for data, found in _holders():
        if found.mountpoint == mountpoint:
            return data, found
    return None


def unmount_line(data: Path) -> str:
    """Return the command that unmounts what the state folder *data* is mounted as."""
    return f"libernet --state {shlex.quote(str(data))} unmount"


def _holders() -> Iterator[tuple[Path, Holder]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # the process ended, or belongs to somebody else
            continue
        for number in numbers:
            path = _locked_path(pid, number)
            if path and (found := _read_path(path)) and found.pid == int(pid):
                yield path.parent, found


def _locked_path(pid: str, number: str) -> Path | None:
    """Return the path of a process's open file if it may be a state lock.

    It must be locked, which /proc knows: files of other people are never touched, since one on
    a mount that hangs would hang this process too.
    """
    try:
        path = Path(os.readlink(f"/proc/{pid}/fd/{number}"))
        is_lock = path.name == LOCK_NAME and b"FLOCK" in _bytes_of(f"/proc/{pid}/fdinfo/{number}")
    except OSError:  # closed in the meantime
        return None
    return path if is_lock else None


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_path(path: Path) -> Holder | None:
    try:
        file = _open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return _read(file)
    finally:
        os.close(file)


def _lock_exclusively(file: int, data: Path, mountpoint: Path, wait_seconds: float) -> None:
    started = time.monotonic()
    while not _try(file, fcntl.LOCK_EX):
        waited = time.monotonic() - started
        found = _read(file)
        patience = wait_seconds if found and found.is_ending() else _SETTLE_SECONDS
        if waited > patience:
            raise _refusal(found, data, mountpoint)
        time.sleep(_PAUSE_SECONDS)


def _refusal(found: Holder | None, data: Path, mountpoint: Path) -> LibernetError:
    if found is None:
        return LibernetError(f"the state folder {data} is in use by another process")
    if found.is_ending():
        return LibernetError(
            f"the state folder {data} is still in use: pid {found.pid}, unmounted from "
            f"{found.mountpoint}, is writing to disk. Wait until it has ended, then try again"
        )
    if found.phase is Phase.CHECKING:
        return LibernetError(
            f"the state folder {data} is being checked, repaired or read by pid {found.pid}. "
            "Wait until it has ended, then try again"
        )
    if found.phase is Phase.MOUNTED and found.mountpoint == mountpoint:
        return LibernetError(
            f"{mountpoint} is already mounted (pid {found.pid}). "
            f"Unmount it with: {unmount_line(data)}"
        )
    return LibernetError(
        f"the state folder {data} is in use by pid {found.pid}, mounted at {found.mountpoint}. "
        f"Unmount it with: {unmount_line(data)}"
    )


def _try(file: int, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> Holder | None:
    """Return what the first line says; a longer line's rest may follow it for a moment."""
    return Holder.parse(os.pread(file, _MAX_LINE_BYTES, 0).partition(b"\n")[0])


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
