"""What one does in a tree of a million files, beside the same in a tree of a thousand."""

import os
import random
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.commands import run
from benchmarks.daemons import PeakMemory
from benchmarks.machine import PROJECT, drop_caches
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import Libernet
from tests.support.million import FILES_IN_FOLDER, deep_path, fill

_FOLDERS = 10  # looked into, with a hundred files each: a thousand's tree has no more
_MAX_COMMAND_SECONDS = 600.0


class Many:
    """Fills the two trees, lives in them and collects the figures.

    State: samples, of the million's tree as "libernet", of the other as "thousand"; one folder
    inside the work folder while it measures.
    """

    def __init__(self, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._work = work

    def run(self, files: int, rounds: int) -> None:
        """Measure beside a tree of so many *files*, interleaved; 90 s for a million, 5 *rounds*."""
        with Home(self._work / "home") as home:
            systems = {}
            for name, count in (("thousand", 1000), ("libernet", files)):
                say(f"a tree of {count:,} files")
                (home / name).mkdir()
                systems[name] = self._filled(home / name, name, count)
            for number in range(rounds):
                for name, count in (("thousand", 1000), ("libernet", files)):
                    self._live(systems[name], name, count, random.Random(number))
            for system in systems.values():
                system.unmount()

    def _filled(self, home: Path, name: str, files: int) -> Libernet:
        """Return a mounted node whose tree was gone through and published."""
        system = Libernet(home)
        fill(system.state, system.target.name, files, wide=False)
        system.mount()
        with PeakMemory(system.processes()) as memory:
            run("find", system.target, "-size", "+1")
            self._publish(system)
        self._record("many.memory", name, memory.peak_bytes)
        self._remount(system, drops=False)
        snapshot = (self._snapshots(system) / "latest").resolve()
        with PeakMemory(system.processes()) as memory:
            self._record("many.walked", name, run("find", snapshot, "-size", "+1", seconds=600))
        self._record("many.walked_memory", name, memory.peak_bytes)
        self._remount(system, drops=False)
        with PeakMemory(system.processes()) as memory:
            self._record("many.checked", name, self._command(system, "check"))
        self._record("many.checked_memory", name, memory.peak_bytes)
        return system

    def _live(self, system: Libernet, name: str, files: int, play: random.Random) -> None:
        firsts = [
            folder * FILES_IN_FOLDER
            for folder in play.sample(range(files // FILES_IN_FOLDER), _FOLDERS)
        ]
        for figure, drops in (("", False), ("_cold", True)):
            self._remount(system, drops=drops)
            self._record(f"many.stat{figure}", name, _stat_seconds(system.target, firsts))
            self._remount(system, drops=drops)
            folders = [(system.target / deep_path(first)).parent for first in firsts]
            self._record(f"many.ls{figure}", name, run("ls", "-l", *folders))
        (system.target / deep_path(firsts[0])).write_text(f"changed {play.random()}")
        before = (self._snapshots(system) / "latest").resolve()
        self._record("many.published", name, self._publish(system))
        after = (self._snapshots(system) / "latest").resolve()
        self._record("many.diff", name, self._command(system, "diff", before, after))

    def _remount(self, system: Libernet, *, drops: bool) -> None:
        """Have kernel and process know nothing of the tree, nor of the disk if it *drops*."""
        system.unmount()
        system.mount()
        if drops:
            drop_caches(system.state)
            run("ls", system.target.parent)  # the program itself is no part of the tree

    def _publish(self, system: Libernet) -> float:
        return self._command(system, "snapshot", system.target.name)

    def _command(self, system: Libernet, *words: str | Path) -> float:
        command = (PROJECT / ".venv/bin/libernet", "--state", system.state)
        return run(*command, *words, seconds=_MAX_COMMAND_SECONDS)

    def _snapshots(self, system: Libernet) -> Path:
        return system.mountpoint / "snapshots" / system.target.name

    def _record(self, figure: str, name: str, value: float) -> None:
        self.samples[figure][name].append(value)


def _stat_seconds(top: Path, firsts: list[int]) -> float:
    """Return the time that looking at all files takes of the folders that begin with *firsts*."""
    began = time.perf_counter()
    for first in firsts:
        for number in range(first, first + FILES_IN_FOLDER):
            os.stat(top / deep_path(number))
    return time.perf_counter() - began
