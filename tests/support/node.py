"""A real mount, made and used through the commands that a person would type."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libernet.fs.lock import holder, wait_released
from libernet.fs.mount_table import mount_at, mounts
from tests.support.consistency import assert_consistent_unless_in_use

BIN = Path(sys.executable).parent
"""Where the commands are: beside the Python that runs the tests."""

SECONDS = 60.0
"""Longer than anything here takes on a busy machine."""

_RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d \S+ [A-Z]+ )", re.MULTILINE)
_COMPLAINT = re.compile(
    r"^\S+ \S+ (WARNING|ERROR|CRITICAL) |Traceback |Exception ignored|Warning: "
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    exit_code: int
    out: str
    err: str


class Node:
    """A state folder and a mount point, with the commands run on them as child processes.

    State: broken, the rules of the consistency check that the test breaks itself; launcher, the
    words in front of the command that mounts, for a node on a host of its own; _seen, the length of
    the log that complaints() has read; is_closed, after close().
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
        self.broken: set[str] = set()
        self.launcher: list[str] = []
        self.lan = False
        self._seen = 0
        self.is_closed = False

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command: nothing of the person's own settings."""
        kept = {name: value for name, value in os.environ.items() if "LIBERNET_" not in name}
        return kept | {
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
            "LIBERNET_LAN": str(self.lan).lower(),
        }

    def mount_command(self, *options: str, mountpoint: Path | None = None) -> list[str]:
        """Return the command line that mounts."""
        place = str(mountpoint or self.mountpoint)
        command = [str(BIN / "mount.libernet"), "--state", str(self.state), place, *options]
        return [*self.launcher, *command]

    def try_mount(self, *options: str, mountpoint: Path | None = None) -> Outcome:
        """Run mount.libernet to its end."""
        return self.command(*self.mount_command(*options, mountpoint=mountpoint))

    def mount(self, *options: str) -> None:
        """Mount, or fail with what the command said, or what the last end left inconsistent."""
        assert_consistent_unless_in_use(self.state, broken=self.broken)
        outcome = self.try_mount(*options)
        assert outcome == Outcome(0, "", ""), outcome

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

    def try_libernet(self, *arguments: str) -> Outcome:
        """Run the command `libernet` for this node."""
        return self.command(BIN / "libernet", "--state", self.state, *arguments)

    def libernet(self, *arguments: str) -> str:
        """Run the command `libernet`, which must succeed; return what it printed."""
        return self.run(BIN / "libernet", "--state", self.state, *arguments)

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
        until(lambda: has_ended(pid))

    def complaints(self) -> list[str]:
        """Return the warnings, errors and tracebacks that came to the log since the last call."""
        older = Path(f"{self.log_file}.1")
        text = "".join(
            log.read_text(errors="replace") for log in (older, self.log_file) if log.exists()
        )
        new, self._seen = text[self._seen :], len(text)
        return [record.rstrip() for record in _RECORD.split(new) if _COMPLAINT.search(record)]

    def close(self) -> None:
        """Unmount if it is mounted; leave nothing behind, also when something is broken."""
        self.is_closed = True
        try:
            if mount_at(self.mountpoint):
                self.unmount()
            else:  # it may have been unmounted a moment ago
                wait_released(self.state, SECONDS)
            assert_consistent_unless_in_use(self.state, broken=self.broken)
        finally:
            self._clear()

    def _clear(self) -> None:
        for mount in reversed(mounts()):
            if mount.mountpoint.is_relative_to(self.folder):
                subprocess.run(["umount", "-i", "-l", mount.mountpoint], check=False)
        if found := holder(self.state):
            os.kill(found.pid, signal.SIGKILL)
            assert wait_released(self.state, SECONDS, pid=found.pid)


def has_ended(pid: int) -> bool:
    """Tell whether a process is no more; one that init did not collect yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* has come true; fail when it does not."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@contextmanager
def running(folder: Path, nodes: list[Node]) -> Iterator[Node]:
    """Make a node in the new *folder* and add it to *nodes*; at the end nothing is left of it."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no FUSE")
    node = Node(folder)
    nodes.append(node)
    try:
        yield node
    finally:
        node.close()
    deadline = time.monotonic() + SECONDS
    while left := _left_behind(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def _left_behind(folder: Path) -> list[str]:
    """List the mounts below *folder* and the processes that were started with a path in it."""
    found = [f"mount {each}" for each in mounts() if each.mountpoint.is_relative_to(folder)]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if os.fsencode(f"{folder}/") in command:
            found.append(f"process {pid}: {os.fsdecode(command)}")
    return found
