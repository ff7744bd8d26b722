"""Child processes under deadlines, and how long they took."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

MAX_STEP_SECONDS = 900.0
"""Deadline of one step. The slowest, copying the tree, takes a minute on a loaded small machine."""


class BenchError(Exception):
    """A step failed; the text says which, and what it printed."""


def run(
    *command: str | Path,
    seconds: float = MAX_STEP_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Run *command* without input or output; return the seconds it took.

    Raises BenchError when it exits non-zero or is not done after *seconds*; everything that it
    started in its process group is then killed.
    """
    with tempfile.TemporaryFile() as complaints:
        began = time.perf_counter()
        with _group(command, complaints.fileno(), environment) as process:
            # Popen.wait(timeout) looks every 50 ms only, which is too coarse to time with.
            pidfd = os.pidfd_open(process.pid)
            try:
                in_time = exited(pidfd, seconds)
            finally:
                os.close(pidfd)
            took = time.perf_counter() - began
            if not in_time:
                raise BenchError(f"not done after {seconds:.0f} s: {_spelled(command)}")
        if process.returncode:
            complaints.seek(0)
            text = complaints.read(4000).decode(errors="replace").strip()
            raise BenchError(f"exit code {process.returncode}: {_spelled(command)}\n{text}")
    return took


def output(*command: str | Path, seconds: float = 20.0) -> str:
    """Return what *command* prints, stripped, or "" when it cannot be run or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()


def said(*command: str | Path, seconds: float) -> str:
    """Return what *command* prints, stripped; BenchError when it fails or is not done in time."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"not done after {seconds:.0f} s: {_spelled(command)}") from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise BenchError(f"exit code {done.returncode}: {_spelled(command)}\n{text}")
    return done.stdout.decode(errors="replace").strip()


def said_by(module: ModuleType, *arguments: str | Path, seconds: float) -> str:
    """Return what a module of this package prints, run as a program in a process of its own."""
    path = f"PYTHONPATH={Path(__file__).parents[1]}"
    return said("env", path, sys.executable, "-m", module.__name__, *arguments, seconds=seconds)


def exited(pidfd: int, seconds: float) -> bool:
    """Wait until the process behind *pidfd* has ended; return whether it did within *seconds*."""
    return bool(select.select([pidfd], [], [], seconds)[0])


@contextlib.contextmanager
def _group(
    command: tuple[str | Path, ...], complaints: int, environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start *command* in a process group of its own, which does not outlive a failing block.

    Ctrl-C reaches this process alone, so that the group ends here and nowhere else.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise BenchError(f"{error.strerror}: {_spelled(command)}") from error
    try:
        yield process
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        process.wait()


def _spelled(command: tuple[str | Path, ...]) -> str:
    return " ".join(map(str, command))
