"""Backing up, restoring and looking into old versions, beside restic."""

import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.commands import BenchError, run
from benchmarks.corpus import READ_ALL, Corpus
from benchmarks.machine import PROJECT, drop_caches, settle
from benchmarks.rounds import Home, Samples, disk_bytes, say
from benchmarks.systems import Libernet

MAX_COMMAND_SECONDS = 300.0

CHANGED_OF = 100
"""One file of so many is changed between two backups."""


class Histories:
    """Backs the tree up twice, restores it and reads it in the mount of its versions.

    State: samples; one folder inside the work folder while a round runs.
    """

    def __init__(self, corpus: Corpus, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._work = work

    def run(self, rounds: int) -> None:
        """Do all of it *rounds* times, step by step with one and the other."""
        for number in range(rounds):
            with Home(self._work / "history") as home:
                tree = home / "tree"
                run("cp", "-a", self._corpus.tree, tree)
                kinds: list[_Restic | _Libernet] = [_Libernet(home, tree), _Restic(home, tree)]
                if number % 2:
                    kinds.reverse()
                for step in ("first", "again", "restored", "read"):
                    if step == "again":
                        _change(tree)
                    for kind in kinds:
                        say(f"round {number + 1} of {rounds}: history, {step}, {kind.name}")
                        self._step(step, kind, home)
                for kind in kinds:
                    kind.end()

    def _step(self, step: str, kind: "_Restic | _Libernet", home: Path) -> None:
        settle(home)
        if step == "read":
            with kind.versions() as newest:
                drop_caches(home)
                self._record(step, kind.name, run("bash", "-c", READ_ALL, "bash", newest))
            return
        if step == "restored":
            target = home / "restored"
            self._record(step, kind.name, run(*kind.restore(target), environment=kind.environment))
            copy = next(path for path in (target / str(kind.tree)[1:], target) if path.exists())
            run("diff", "-r", "--no-dereference", kind.tree, copy)
            shutil.rmtree(target)
            return
        before = disk_bytes(kind.kept)
        self._record(step, kind.name, run(*kind.backup(), environment=kind.environment))
        if step == "again":
            added = (disk_bytes(kind.kept) - before) / self._corpus.tree_bytes * 100
            self.samples["history.added"][kind.name].append(added)

    def _record(self, step: str, name: str, seconds: float) -> None:
        self.samples[f"history.{step}"][name].append(seconds)


class _Restic:
    """A repository whose second version compresses."""

    name = "restic"

    def __init__(self, home: Path, tree: Path) -> None:
        self.tree = tree
        self.kept = home / "repository"
        self._mountpoint = home / "restic"
        self.environment = {**os.environ, "RESTIC_PASSWORD": "correct horse"}
        self._command = ("restic", "-q", "--cache-dir", home / "cache", "-r", self.kept)
        run(*self._command, "init", "--repository-version", "2", environment=self.environment)

    def backup(self) -> tuple[str | Path, ...]:
        return (*self._command, "backup", self.tree)

    def restore(self, target: Path) -> tuple[str | Path, ...]:
        return (*self._command, "restore", "latest", "--target", target)

    def versions(self) -> "_Mounted":
        return _Mounted(self._mount)

    def _mount(self) -> tuple[Path, Callable[[], None]]:
        self._mountpoint.mkdir()
        process = subprocess.Popen(
            [*self._command, "mount", self._mountpoint],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        newest = self._mountpoint / "snapshots" / "latest" / str(self.tree)[1:]
        deadline = time.monotonic() + MAX_COMMAND_SECONDS
        while not newest.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError("restic mount shows no snapshot")
            time.sleep(0.05)

        def end() -> None:
            run("fusermount", "-u", self._mountpoint)
            process.wait(MAX_COMMAND_SECONDS)

        return newest, end

    def end(self) -> None:
        pass


class _Libernet:
    """A mounted node."""

    name = "libernet"

    def __init__(self, home: Path, tree: Path) -> None:
        self.tree = tree
        (home / "libernet").mkdir()
        self._system = Libernet(home / "libernet")
        self._system.mount()
        self.kept = self._system.state
        self.environment = None
        self._command = (PROJECT / ".venv/bin/libernet", "--state", self.kept)

    def backup(self) -> tuple[str | Path, ...]:
        return (*self._command, "backup", self.tree, "tree")

    def restore(self, target: Path) -> tuple[str | Path, ...]:
        return (*self._command, "restore", "snapshots/tree/latest", target)

    def versions(self) -> "_Mounted":
        return _Mounted(self._mount)

    def _mount(self) -> tuple[Path, Callable[[], None]]:
        self._system.unmount()  # neither the kernel nor the process remembers anything
        self._system.mount()
        return self._system.mountpoint / "snapshots" / "tree" / "latest" / "", lambda: None

    def end(self) -> None:
        self._system.unmount()


class _Mounted:
    """The newest version as a folder, while the body runs."""

    def __init__(self, mount: Callable[[], tuple[Path, Callable[[], None]]]) -> None:
        self._mount = mount

    def __enter__(self) -> Path:
        newest, self._end = self._mount()
        return newest.resolve()

    def __exit__(self, *_: object) -> None:
        self._end()


def _change(tree: Path) -> None:
    """Append to one file of each hundred."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    for file in files[::CHANGED_OF]:
        with file.open("ab") as opened:
            opened.write(os.urandom(100))
