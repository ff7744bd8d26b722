"""The measured steps, and the figures they give."""

import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.commands import run
from benchmarks.corpus import MEBIBYTE, READ_ALL, Corpus
from benchmarks.daemons import PeakMemory
from benchmarks.machine import drop_caches, settle
from benchmarks.systems import PlainFolder, System

SHARED_MEMORY = "/dev/shm"
"""A tmpfs that every Linux has."""

Samples = dict[str, dict[str, list[float]]]
"""What was measured, in the order of the rounds: by figure, such as "file.read", and system.

Times are in seconds, "memory" in bytes, "kept" the state's bytes on the disk by those copied."""


class Rounds:
    """Runs the steps and collects their figures.

    State: samples; one folder per system inside the work folder while a step runs.
    """

    def __init__(self, corpus: Corpus, work: Path, systems: Sequence[type[System]]) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._work = work
        self._systems = systems

    def copy(self, rounds: int, workloads: Sequence[str]) -> None:
        """Copy the workloads ("file", "tree") in and read them back *rounds* times, interleaved."""
        for number in range(rounds):
            # Whoever comes first in one round comes last in another.
            turn = number % len(self._systems)
            for workload in workloads:
                for kind in (*self._systems[turn:], *self._systems[:turn]):
                    say(f"round {number + 1} of {rounds}: {workload}, {kind.name}")
                    with Home(self._work / "home") as home:
                        step = _Copy(kind(home), self._corpus, workload, self._recorder(kind))
                        step.run(check=number == 0)

    def tmpfs(self, reads: int) -> None:
        """Read the file from memory *reads* times: what reading it again is compared with."""
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
            copy = Path(folder, self._corpus.file.name)
            shutil.copyfile(self._corpus.file, copy)
            for _ in range(reads):
                self.samples["file.again"]["tmpfs"].append(run(*_reading(copy)))

    def start(self, starts: int) -> None:
        """Mount file systems that hold the tree *starts* times warm, interleaved, and once cold."""
        kinds = [kind for kind in self._systems if kind is not PlainFolder]
        with Home(self._work / "home") as home:
            mounted = []
            for kind in kinds:
                say(f"starts: {kind.name}")
                (home / kind.name).mkdir()
                system = kind(home / kind.name)
                system.mount()
                run("cp", "-a", self._corpus.tree, system.target)
                system.unmount()
                mounted.append(system)
            for _ in range(starts):
                for system in mounted:
                    self._record_start(system, "start.warm")
            for system in mounted:
                drop_caches(self._work)
                self._record_start(system, "start.cold")

    def _record_start(self, system: System, figure: str) -> None:
        self.samples[figure][system.name].append(system.mount())
        system.unmount()

    def _recorder(self, kind: type[System]) -> Callable[[str, float], None]:
        return lambda figure, value: self.samples[figure][kind.name].append(value)


class _Copy:
    """One source copied into one new file system, and read back from it."""

    def __init__(
        self,
        system: System,
        corpus: Corpus,
        workload: str,
        record: Callable[[str, float], None],
    ) -> None:
        self._system = system
        self._corpus = corpus
        self._workload = workload
        self._record = record
        self._source = corpus.file if workload == "file" else corpus.tree
        self._copy = system.target / self._source.name

    def run(self, *, check: bool) -> None:
        """Measure it all; with *check* compare the copy with its source, too."""
        self._write()
        if check:
            self._compare()
        if self._workload == "file":
            self._read("read", *_reading(self._copy), again="again")
        else:
            self._read("listed", "find", self._copy, "-ls")
            self._read("read", "bash", "-c", READ_ALL, "bash", self._copy)

    def _write(self) -> None:
        system = self._system
        system.mount()
        self._corpus.warm(self._source)
        settle(system.state)
        with PeakMemory(system.processes()) as memory:
            copied = run("cp", "-a", self._source, system.target)
            began = time.perf_counter()
            system.unmount()
            rest = time.perf_counter() - began
        self._figure("copied", copied)
        self._figure("rest", rest)
        self._figure("written", copied + rest)
        if memory.peak_bytes:
            self._figure("memory_writing", memory.peak_bytes)
        self._figure("kept", disk_bytes(system.state) / self._corpus.source_bytes(self._source))

    def _compare(self) -> None:
        self._system.mount()
        run("diff", "-rq", "--no-dereference", self._source, self._copy)
        self._system.unmount()

    def _read(self, figure: str, *command: str | Path, again: str = "") -> None:
        """Time *command* with nothing of the copy in memory, neither the kernel's nor a process's.

        The cache is dropped after mounting: what the start has read is cold again, too. The figure
        *again* is the same command's time directly afterwards.
        """
        self._system.mount()
        drop_caches(self._system.state)
        with PeakMemory(self._system.processes()) as memory:
            self._figure(figure, run(*command))
            if again:
                self._figure(again, run(*command))
        self._system.unmount()
        if figure == "read" and memory.peak_bytes:
            self._figure("memory_reading", memory.peak_bytes)

    def _figure(self, name: str, value: float) -> None:
        self._record(f"{self._workload}.{name}", value)


def _reading(file: Path) -> tuple[str, ...]:
    """Return the command that reads a file from its start to its end."""
    return ("dd", f"if={file}", "of=/dev/null", f"bs={MEBIBYTE}")


class Home:
    """The new folder *folder*; removed, durably, so that the next step finds peace.

    After an error it stays, perhaps mounted: the work folder's own clean-up takes care.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Path:
        self._folder.mkdir()
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self._folder)
            settle(self._folder.parent)


def say(what: str) -> None:
    """Tell the person who waits what is done now."""
    print(f"scripts/bench: {what}", file=sys.stderr, flush=True)


def disk_bytes(folder: Path) -> int:
    """Return the bytes that everything in *folder* takes on the disk."""
    inodes = {
        (status.st_dev, status.st_ino): status.st_blocks * 512
        for path in folder.rglob("*")
        for status in [path.lstat()]
    }
    return sum(inodes.values())
