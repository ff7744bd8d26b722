"""Programs that keep versions of a tree: restic, borg and Libernet, told to in their own words."""

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.commands import BenchError, output, run
from benchmarks.machine import PROJECT
from benchmarks.systems import Libernet

MAX_COMMAND_SECONDS = 300.0

PASSPHRASE = "correct horse"

Command = tuple[str | Path, ...]


class Keeper(ABC):
    """Keeps versions of the folder *tree*, and all that it needs inside the folder *home*.

    `kept` is where the versions lie; their bytes on the disk are what they cost.
    """

    name: str
    kept: Path
    environment: Mapping[str, str] | None = None

    def __init__(self, home: Path, tree: Path) -> None:
        self.tree = tree
        self._home = home

    @staticmethod
    def is_here() -> bool:
        """Say whether the program is installed."""
        return True

    @abstractmethod
    def backup(self) -> Command:
        """Return what keeps the tree as it is now."""

    @abstractmethod
    def restore(self, target: Path) -> Command:
        """Return what writes the newest version to the folder *target*."""

    @abstractmethod
    def newest(self) -> AbstractContextManager[Path]:
        """Provide the newest version as a folder, of which no process remembers anything."""

    def end(self) -> None:  # noqa: B027 - most have nothing that runs
        """End what is running."""

    @contextmanager
    def _mounted(self, command: Command, shown: Path) -> Iterator[Path]:
        """Run what mounts at `_mountpoint` in the foreground; provide *shown* once it is there."""
        self._mountpoint.mkdir()
        process = subprocess.Popen(
            [*command, self._mountpoint],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + MAX_COMMAND_SECONDS
        while not shown.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name} shows no version of the tree")
            time.sleep(0.05)
        try:
            yield shown
        finally:
            run("fusermount", "-u", self._mountpoint)
            process.wait(MAX_COMMAND_SECONDS)

    @property
    def _mountpoint(self) -> Path:
        return self._home / f"{self.name}-mounted"


class Restic(Keeper):
    """A repository whose second version compresses."""

    name = "restic"

    def __init__(self, home: Path, tree: Path) -> None:
        super().__init__(home, tree)
        self.kept = home / "restic"
        self.environment = {**os.environ, "RESTIC_PASSWORD": PASSPHRASE}
        self._command = ("restic", "-q", "--cache-dir", home / "restic-cache", "-r", self.kept)
        run(*self._command, "init", "--repository-version", "2", environment=self.environment)

    def backup(self) -> Command:
        return (*self._command, "backup", self.tree)

    def restore(self, target: Path) -> Command:
        return (*self._command, "restore", "latest", "--target", target)

    def newest(self) -> AbstractContextManager[Path]:
        shown = self._mountpoint / "snapshots" / "latest" / str(self.tree)[1:]
        return self._mounted((*self._command, "mount"), shown)


class Borg(Keeper):
    """A repository with its defaults, encrypted."""

    name = "borg"

    def __init__(self, home: Path, tree: Path) -> None:
        super().__init__(home, tree)
        self.kept = home / "borg"
        self.environment = {
            **os.environ,
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(home / "borg-cache"),
        }
        self._versions = 0
        run("borg", "init", "-e", "repokey-blake2", self.kept, environment=self.environment)

    @staticmethod
    def is_here() -> bool:
        mounts = output("/usr/bin/python3", "-c", "import pyfuse3; print('it can')")
        return shutil.which("borg") is not None and bool(mounts)

    def backup(self) -> Command:
        self._versions += 1
        return ("borg", "create", self._version, self.tree)

    def restore(self, target: Path) -> Command:
        target.mkdir()
        return ("env", "-C", target, "borg", "extract", self._version)

    def newest(self) -> AbstractContextManager[Path]:
        shown = self._mountpoint / str(self.tree)[1:]
        return self._mounted(("borg", "mount", "--foreground", self._version), shown)

    @property
    def _version(self) -> str:
        return f"{self.kept}::{self._versions}"


class OurKeeper(Keeper):
    """A mounted node."""

    name = "libernet"

    def __init__(self, home: Path, tree: Path) -> None:
        super().__init__(home, tree)
        (home / "libernet").mkdir()
        self._system = Libernet(home / "libernet")
        self._system.mount()
        self.kept = self._system.state
        self._command = (PROJECT / ".venv/bin/libernet", "--state", self.kept)

    def backup(self) -> Command:
        return (*self._command, "backup", self.tree, "tree")

    def restore(self, target: Path) -> Command:
        return (*self._command, "restore", "snapshots/tree/latest", target)

    @contextmanager
    def newest(self) -> Iterator[Path]:
        self._system.unmount()
        self._system.mount()
        yield (self._system.mountpoint / "snapshots" / "tree" / "latest").resolve()

    def end(self) -> None:
        self._system.unmount()


KEEPERS = (OurKeeper, Restic, Borg)
