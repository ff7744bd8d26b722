"""Rounds of what programs do in a mount beside copying, system by system."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import work
from benchmarks.commands import run, said
from benchmarks.corpus import Corpus
from benchmarks.daemons import PeakMemory
from benchmarks.machine import drop_caches, settle
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import System

MAX_WORK_SECONDS = 300.0


class Programs:
    """Runs them and collects their figures.

    State: samples; one folder for the system that is measured inside the work folder.
    """

    def __init__(self, corpus: Corpus, folder: Path, systems: Sequence[type[System]]) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._folder = folder
        self._systems = systems

    def run(self, rounds: int) -> None:
        """Commit, read here and there and remove, *rounds* times, interleaved."""
        for number in range(rounds):
            turn = number % len(self._systems)
            for kind in (*self._systems[turn:], *self._systems[:turn]):
                say(f"round {number + 1} of {rounds}: programs, {kind.name}")
                with Home(self._folder / "home") as home:
                    system = kind(home)
                    self._commits(system)
                    self._reads(system)
                    self._removal(system)

    def _commits(self, system: System) -> None:
        system.mount()
        folder = system.target / "database"
        folder.mkdir()
        settle(system.state)
        with PeakMemory(system.processes()) as memory:
            for mode in ("wal", "delete"):
                before = work.written_bytes(system.processes())
                found = _worked("commits", folder, mode)
                written = work.written_bytes(system.processes()) - before + found["bytes"]
                self._record(system, f"commits.{mode}", found["seconds"])
                self._record(system, f"commits.{mode}_bytes", written)
        self._record_memory(system, "commits.memory", memory)
        system.unmount()

    def _reads(self, system: System) -> None:
        system.mount()
        run("cp", self._corpus.file, system.target)
        system.unmount()
        system.mount()
        drop_caches(system.state)
        with PeakMemory(system.processes()) as memory:
            found = _worked("reads", system.target / self._corpus.file.name)
        self._record(system, "reads.p50", found["p50"])
        self._record(system, "reads.p99", found["p99"])
        self._record_memory(system, "reads.memory", memory)
        system.unmount()

    def _removal(self, system: System) -> None:
        system.mount()
        run("cp", "-a", self._corpus.tree, system.target)
        system.unmount()
        system.mount()
        drop_caches(system.state)
        with PeakMemory(system.processes()) as memory:
            self._record(
                system, "tree.removed", run("rm", "-r", system.target / self._corpus.tree.name)
            )
        self._record_memory(system, "tree.memory_removing", memory)
        system.unmount()

    def _record(self, system: System, figure: str, value: float) -> None:
        self.samples[figure][system.name].append(value)

    def _record_memory(self, system: System, figure: str, memory: PeakMemory) -> None:
        if memory.peak_bytes:
            self._record(system, figure, memory.peak_bytes)


def _worked(*arguments: str | Path) -> dict[str, float]:
    """Return what work.py answers when it is run with *arguments*."""
    answer = said(sys.executable, work.__file__, *arguments, seconds=MAX_WORK_SECONDS)
    found: dict[str, float] = json.loads(answer)
    return found
