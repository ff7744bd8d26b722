"""A real mount, made and used through the commands that a person would type."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libernet.fs.lock import holder, wait_released
from libernet.fs.mount_table import mounts

BIN = Path(sys.executable).parent
"""Where the commands are: beside the Python that runs the tests."""

SECONDS = 60.0
"""Longer than anything here takes on a busy machine."""

_COMPLAINT = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) |^Traceback |^Exception ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    exit_code: int
    out: str
    err: str


class Node:
    """A state folder and a mount point, with the commands run on them as child processes.

    State: _seen, the length of the log that complaints() has given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.mountpoint = folder / "Libernet"
        self.backups = self.mountpoint / "backups"
        self.snapshots = self.mountpoint / "snapshots"
        self.log_file = self.state / "libernet.log"
        self.mountpoint.mkdir(parents=True)
        (folder / "home").mkdir()
        self._seen = 0

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command: nothing of the person's own settings."""
        kept = {name: value for name, value in os.environ.items() if name != "LIBERNET_STATE"}
        return kept | {"HOME": str(self.folder / "home"), "LC_ALL": "C.UTF-8"}

    def mount_command(self, *options: str) -> list[str]:
        """Return the command line that mounts."""
        mount = str(BIN / "mount.libernet")
        return [mount, "--state", str(self.state), str(self.mountpoint), *options]

    def try_mount(self, *options: str) -> Outcome:
        """Run mount.libernet to its end."""
        return self.command(*self.mount_command(*options))

    def mount(self, *options: str) -> None:
        """Mount, or fail with what the command said."""
        outcome = self.try_mount(*options)
        assert outcome == Outcome(0, "", "")

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Start mount.libernet, without waiting for it."""
        return subprocess.Popen(
            self.mount_command(*options),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str | Path, cwd: Path | None = None) -> Outcome:
        """Run any command to its end."""
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return Outcome(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run any command that must succeed; return what it printed."""
        outcome = self.command(*arguments, cwd=cwd)
        assert outcome.exit_code == 0, f"{arguments} ended with {outcome}"
        return outcome.out

    def libernet(self, *arguments: str) -> str:
        """Run the command `libernet` for this node; return what it printed."""
        return self.run(BIN / "libernet", "--state", str(self.state), *arguments)

    def status(self) -> dict[str, Any]:
        """Return the answer of `libernet status --json`."""
        answer: dict[str, Any] = json.loads(self.libernet("status", "--json"))
        return answer

    def snapshot(self, name: str) -> str:
        """Publish a backup; return the reference."""
        return self.libernet("snapshot", name).removesuffix("\n")

    def at(self, reference: str) -> Path:
        """Return the path below the mount point that a reference opens."""
        return self.mountpoint / reference.removeprefix("/")

    def unmount(self) -> None:
        """Unmount and wait until everything is durable."""
        assert self.libernet("unmount") == ""
        assert holder(self.state) is None

    def remount(self, *options: str) -> None:
        """Unmount and mount again."""
        self.unmount()
        self.mount(*options)

    @property
    def pid(self) -> int:
        """The process behind the mount."""
        found = holder(self.state)
        assert found is not None, "nothing is mounted"
        return found.pid

    def kill(self) -> None:
        """End the process with SIGKILL and wait until it is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        assert wait_released(self.state, SECONDS, pid=pid)

    def until_ended(self, pid: int) -> None:
        """Wait until the process, told to end in whatever way, has ended."""
        until(lambda: not Path(f"/proc/{pid}").exists())

    def complaints(self) -> list[str]:
        """Return the warnings, errors and tracebacks that came to the log since the last call."""
        older = Path(f"{self.log_file}.1")
        text = "".join(
            log.read_text(errors="replace") for log in (older, self.log_file) if log.exists()
        )
        new, self._seen = text[self._seen :], len(text)
        return [line for line in new.splitlines() if _COMPLAINT.search(line)]

    def close(self) -> None:
        """Unmount if it is mounted; leave nothing behind, also when something is broken."""
        try:
            if holder(self.state):
                self.unmount()
        finally:
            self._clear()

    def _clear(self) -> None:
        for mount in reversed(mounts()):
            if mount.mountpoint.is_relative_to(self.folder):
                subprocess.run(["umount", "-i", "-l", mount.mountpoint], check=False)
        if found := holder(self.state):
            os.kill(found.pid, signal.SIGKILL)
            assert wait_released(self.state, SECONDS, pid=found.pid)


def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* has come true; fail when it does not."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def left_behind(folder: Path) -> list[str]:
    """List the mounts below *folder* and the processes that were started with a path in it."""
    found = [
        f"a mount: {each}" for each in mounts() if each.mountpoint.is_relative_to(folder)
    ]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if any(os.fsencode(f"{folder}/") in word for word in words):
            found.append(f"process {pid}: {b' '.join(words)!r}")
    return found
