"""How much room a tree takes, beside a restic repository of it."""

import os
from collections import defaultdict
from pathlib import Path

from benchmarks.commands import run
from benchmarks.corpus import Corpus
from benchmarks.machine import PROJECT
from benchmarks.rounds import Home, Samples, disk_bytes, say
from benchmarks.systems import Libernet

MAX_COMMAND_SECONDS = 300.0


class Space:
    """Stores the tree in both, once, and collects the bytes on the disk.

    State: samples; one folder inside the work folder while it measures.
    """

    def __init__(self, corpus: Corpus, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._work = work

    def measure(self) -> None:
        """Back the tree up with restic, whose second repository version compresses, and with us."""
        say("space: restic")
        with Home(self._work / "space") as home:
            repository = home / "repository"
            environment = {**os.environ, "RESTIC_PASSWORD": "correct horse"}
            for arguments in (("init", "--repository-version", "2"), ("backup", self._corpus.tree)):
                command = ("restic", "-q", "--no-cache", "-r", repository, *arguments)
                run(*command, seconds=MAX_COMMAND_SECONDS, environment=environment)
            for figure in ("space.blocks", "space.all"):
                self.samples[figure]["restic"].append(disk_bytes(repository))
        say("space: libernet")
        with Home(self._work / "space") as home:
            system = Libernet(home)
            system.mount()
            run("cp", "-a", self._corpus.tree, system.target)
            libernet = (PROJECT / ".venv/bin/libernet", "--state", system.state)
            run(*libernet, "snapshot", system.target.name, seconds=MAX_COMMAND_SECONDS)
            system.unmount()
            self.samples["space.blocks"]["libernet"].append(disk_bytes(system.state / "store"))
            self.samples["space.all"]["libernet"].append(disk_bytes(system.state))
