"""Many snapshots of one backup: listing them, and forgetting most."""

import os
from collections import defaultdict
from pathlib import Path

from benchmarks.commands import run
from benchmarks.machine import PROJECT, settle
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import Libernet
from libernet.fs.control_client import ask

FOLDERS = 20
FILES_IN_FOLDER = 50
FILE_BYTES = 4000

KEPT_OF = 10
"""One snapshot of so many is kept."""

LISTINGS = 5

MAX_SECONDS = 120.0


class Thinning:
    """Takes snapshots of 1,000 files, one of them changed each time, and forgets nine of ten.

    State: samples; one folder inside the work folder while it measures.
    """

    def __init__(self, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._work = work

    def run(self, snapshots: int) -> None:
        """Measure so many *snapshots*, which take 30 ms each to make."""
        say(f"{snapshots:,} snapshots")
        with Home(self._work / "thinning") as home:
            system = Libernet(home)
            system.mount()
            self._take(system, snapshots)
            command = (PROJECT / ".venv/bin/libernet", "--state", system.state)
            settle(home)
            for _ in range(LISTINGS):
                self._record("listed", run(*command, "snapshots", seconds=MAX_SECONDS))
            kept = str(snapshots // KEPT_OF)
            forget = ("forget", "--keep-last", kept, "--prune")
            self._record("forgotten", run(*command, *forget, seconds=MAX_SECONDS))
            system.unmount()

    def _take(self, system: Libernet, snapshots: int) -> None:
        files = [
            system.target / f"folder {folder}" / f"file {number}"
            for number in range(FILES_IN_FOLDER)
            for folder in range(FOLDERS)
        ]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(os.urandom(FILE_BYTES))
        for number in range(snapshots):
            files[number % len(files)].write_bytes(os.urandom(FILE_BYTES))
            ask(system.state, "snapshot", {"name": system.target.name}, timeout=MAX_SECONDS)

    def _record(self, figure: str, seconds: float) -> None:
        self.samples[f"snapshots.{figure}"]["libernet"].append(seconds)
