"""Backing up, restoring and looking into old versions, beside restic and borg."""

import os
import shutil
from collections import defaultdict
from pathlib import Path

from benchmarks.commands import run
from benchmarks.corpus import READ_ALL, Corpus
from benchmarks.keepers import KEEPERS, Keeper
from benchmarks.machine import drop_caches, settle
from benchmarks.rounds import Home, Samples, disk_bytes, say

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
        """Do all of it *rounds* times, step by step with one and the others."""
        kinds = [kind for kind in KEEPERS if kind.is_here()]
        for number in range(rounds):
            # Whoever comes first in one round comes last in another.
            turn = number % len(kinds)
            with Home(self._work / "history") as home:
                tree = home / "tree"
                run("cp", "-a", self._corpus.tree, tree)
                keepers = [kind(home, tree) for kind in (*kinds[turn:], *kinds[:turn])]
                for step in ("first", "again", "restored", "read"):
                    if step == "again":
                        _change(tree)
                    for keeper in keepers:
                        say(f"round {number + 1} of {rounds}: history, {step}, {keeper.name}")
                        self._step(step, keeper, home)
                for keeper in keepers:
                    keeper.end()

    def _step(self, step: str, keeper: Keeper, home: Path) -> None:
        settle(home)
        if step == "read":
            with keeper.newest() as newest:
                drop_caches(home)
                self._record(step, keeper, "bash", "-c", READ_ALL, "bash", newest)
        elif step == "restored":
            target = home / "restored"
            self._record(step, keeper, *keeper.restore(target))
            copy = next(path for path in (target / str(keeper.tree)[1:], target) if path.exists())
            run("diff", "-r", "--no-dereference", keeper.tree, copy)
            shutil.rmtree(target)
        else:
            before = disk_bytes(keeper.kept)
            self._record(step, keeper, *keeper.backup())
            if step == "again":
                added = (disk_bytes(keeper.kept) - before) / self._corpus.tree_bytes * 100
                self.samples["history.added"][keeper.name].append(added)

    def _record(self, step: str, keeper: Keeper, *command: str | Path) -> None:
        seconds = run(*command, environment=keeper.environment)
        self.samples[f"history.{step}"][keeper.name].append(seconds)


def _change(tree: Path) -> None:
    """Append to one file of each hundred."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    for file in files[::CHANGED_OF]:
        with file.open("ab") as opened:
            opened.write(os.urandom(100))
