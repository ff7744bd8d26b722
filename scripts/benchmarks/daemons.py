"""The processes behind a mount: finding them, awaiting their end, their memory."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.commands import BenchError, exited

SAMPLE_SECONDS = 0.05
"""Pause between two looks at the peak, which the kernel keeps: only growth in a process's last
moments, and children that live shorter, can be missed."""


def serving(mountpoint: Path) -> list[int]:
    """Return the ids of the processes that have *mountpoint* as an argument: those behind it."""
    return [pid for pid in _processes() if os.fsencode(mountpoint) in _arguments(pid)]


def working_in(folder: Path) -> list[int]:
    """Return the ids of the processes that have *folder* or a path in it as an argument."""
    inside = os.fsencode(folder) + b"/"
    return [
        pid
        for pid in _processes()
        if any((argument + b"/").startswith(inside) for argument in _arguments(pid))
    ]


@contextmanager
def awaited(pids: Sequence[int], seconds: float) -> Iterator[None]:
    """Return from the block only when the processes *pids* have ended.

    Raises BenchError when one has not *seconds* after the block.
    """
    # Opened before the block: an id could belong to another process after it.
    pidfds = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for pidfd, pid in zip(pidfds, pids, strict=True):
            if not exited(pidfd, seconds):
                raise BenchError(f"process {pid} has not ended {seconds:.0f} s after its unmount")
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def end(pids: Sequence[int], seconds: float = 10.0) -> None:
    """Ask the processes *pids* to end, and kill those that are there after *seconds*."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(pidfd, sent)
                exited(pidfd, seconds)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)


class PeakMemory:
    """Peak resident memory of processes and their descendants while the block runs.

    State: the largest VmHWM seen per process id. Tasks: one thread that looks.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._peaks: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def peak_bytes(self) -> int:
        """The sum of all peaks, at least what the processes held together at any time."""
        return sum(self._peaks.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for pid in _with_descendants(self._pids):
                self._peaks[pid] = max(self._peaks.get(pid, 0), _peak_bytes(pid))
            if self._done.wait(SAMPLE_SECONDS):
                return


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _arguments(pid: int) -> list[bytes]:
    return _proc(pid, "cmdline").split(b"\0")


def _with_descendants(pids: Sequence[int]) -> list[int]:
    found = list(pids)
    for pid in found:  # which grows on the way
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            found += map(int, _proc(pid, f"task/{thread}/children").split())
    return found


def _peak_bytes(pid: int) -> int:
    """Return the peak of the process *pid* so far, 0 when it is gone."""
    for line in _proc(pid, "status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _proc(pid: int, name: str) -> bytes:
    """Return the file *name* about the process *pid*, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}", name).read_bytes()
    except OSError:
        return b""
