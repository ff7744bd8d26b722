"""Who has seen what was written to a node, and says what must be there after a crash."""

import contextlib
import copy
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libernet.fs.lock import holder, wait_released
from tests.crash import child
from tests.crash.model import Step, Tree
from tests.support.node import SECONDS, Node

EAGER = ("--checkpoint-seconds", "0.05", "--publish-after-seconds", "0")
"""Options of a mount that commits and publishes all the time: else a workload is over before."""

BACKUP = "crash"
"""The backup that workloads run in."""


@dataclass(slots=True)
class Reports:
    """What the child told of its calls."""

    started: list[int] = field(default_factory=list)
    """When each call began, in nanoseconds of the monotonic clock."""
    fsynced: int = -1
    """The last call that an fsync which returned has covered."""
    failed: int = 0
    """The errno of the call that failed."""
    finished: bool = False

    def take(self, line: bytes) -> None:
        word, *numbers = line.split()
        match word:
            case b"started":
                self.started.append(int(numbers[1]))
            case b"fsynced":
                self.fsynced = max(self.fsynced, int(numbers[0]))
            case b"failed":
                self.failed = int(numbers[1])
            case b"finished":
                self.finished = True

    @property
    def possible(self) -> range:
        """How many of the calls may be in the recovered tree."""
        return range(self.fsynced + 1, len(self.started) + 1)


class Child:
    """The process that makes the calls of a workload.

    State: reports, what it told so far; _rest, the beginning of its next line.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._pipe = process.stdout.fileno()
        self._rest = b""
        self.reports = Reports()

    def until_started(self, count: int) -> None:
        """Take reports until so many calls have begun, or the child has ended."""
        deadline = time.monotonic() + SECONDS
        while len(self.reports.started) < count and self._read(deadline):
            assert time.monotonic() < deadline, f"call {len(self.reports.started)} does not return"

    def take(self) -> Reports:
        """Return what was told until now."""
        while select.select([self._pipe], [], [], 0)[0] and self._read(time.monotonic()):
            pass
        return dataclasses.replace(self.reports, started=list(self.reports.started))

    def during(self, seconds: float) -> None:
        """Take reports for some time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._read(deadline):
            pass

    def to_end(self) -> Reports:
        """Take all reports; the child must end by itself."""
        self.until_started(1 << 60)
        return self.reports

    def _read(self, deadline: float) -> bool:
        """Take what the child tells before *deadline*; return whether it may tell more."""
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._pipe], [], [], left)[0]:
            return True
        told = os.read(self._pipe, 1 << 16)
        *lines, self._rest = (self._rest + told).split(b"\n")
        for line in lines:
            self.reports.take(line)
        return bool(told)


class Witness:
    """Make calls in a backup of *node*, and compare what is there with the model.

    State: tree, the model of what was there when it was compared last.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.folder = node.backups / BACKUP
        self.tree = Tree()
        self._steps_file = node.folder / "steps.json"

    def make_backup(self) -> None:
        """Make the folder that workloads run in, durably."""
        self.folder.mkdir()
        self.node.libernet("sync")

    @contextlib.contextmanager
    def working(
        self, steps: list[Step], *, pause_seconds: float = 0.0, syncs: bool = False
    ) -> Iterator[Child]:
        """Run the child that makes the calls; at the end it is killed, if it still lives."""
        child.save(steps, self._steps_file)
        words = [str(self._steps_file), str(self.folder), str(pause_seconds)]
        if syncs:
            words.append("--sync")
        command = [sys.executable, child.__file__, "run", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                yield Child(process)
            finally:
                process.kill()

    def observe(self, folder: Path | None = None) -> dict[str, dict[str, Any]]:
        """Return how a folder looks; a child asks, since a hanging mount would hang it."""
        command = [sys.executable, child.__file__, "observe", str(folder or self.folder)]
        outcome = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=SECONDS)
        seen: dict[str, dict[str, Any]] = json.loads(outcome.stdout)
        return seen

    def find_state(self, steps: list[Step], possible: range) -> int:
        """Return after how many of *steps* the tree was as it is; fail unless *possible* has it.

        The model stands there afterwards.
        """
        seen = self.observe()
        tree = copy.deepcopy(self.tree)
        nearest: list[str] = []
        for done in range(possible.stop):
            if done:
                tree.apply(steps[done - 1])
            if done not in possible:
                continue
            differences = tree.differences(seen)
            if not differences:
                self.tree = tree
                return done
            if not nearest or len(differences) < len(nearest):
                nearest = [f"nearest after {done} steps", *differences]
        last = steps[max(0, possible.start - 3) : possible.stop]
        raise AssertionError(
            f"the tree was never so in {possible}: {nearest[:12]}; the last steps were {last}"
        )

    def assert_intact(self) -> None:
        """Check that the backup is exactly the model's tree."""
        assert self.tree.differences(self.observe()) == []

    def assert_published(self, folder: Path, tree: Tree | None = None) -> None:
        """Check that a snapshot shows *tree*, by default the model's; each link is a file there."""
        seen = self.observe(folder)
        assert (tree or self.tree).differences(seen, hard_links=False) == []


def kill(node: Node) -> None:
    """Kill whatever holds the state folder, in whatever phase; return when it is dead."""
    while (found := holder(node.state)) is not None:
        with contextlib.suppress(ProcessLookupError), doomed(found.pid):
            pass
        assert wait_released(node.state, SECONDS, pid=found.pid)


@contextlib.contextmanager
def doomed(pid: int) -> Iterator[None]:
    """Kill a process at the end of the body, and return when it is dead."""
    process = os.pidfd_open(pid)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(process, signal.SIGKILL)
        is_dead, _, _ = select.select([process], [], [], SECONDS)
        os.close(process)
        assert is_dead
