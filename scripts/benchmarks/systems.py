"""What is compared. Each promises the same after write-out: a power cut takes nothing away."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks import daemons
from benchmarks.commands import MAX_STEP_SECONDS, run
from benchmarks.machine import PROJECT, settle

MAX_MOUNT_SECONDS = 60.0


class System(ABC):
    """One empty file system in a folder of its own, *home*, which exists and is empty.

    State: `home/state`, what it keeps on the disk, and `home/mount`, where it is mounted.
    """

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.mountpoint = home / "mount"
        self.state.mkdir()
        self.mountpoint.mkdir()

    @property
    @abstractmethod
    def target(self) -> Path:
        """The folder to copy into; it is there while mounted."""

    @abstractmethod
    def mount(self) -> float:
        """Make the files visible; return the seconds that took."""

    @abstractmethod
    def unmount(self) -> None:
        """Return when nothing is mounted, no process is left, and everything is durable."""

    def processes(self) -> list[int]:
        """Return the processes that serve the mount."""
        return daemons.serving(self.mountpoint)

    def _unmount_and_await_end(self) -> None:
        with daemons.awaited(self.processes(), MAX_STEP_SECONDS):
            run("fusermount3", "-u", self.mountpoint)


class PlainFolder(System):
    """A folder on the disk that the others keep their state on."""

    name = "plain"

    @property
    def target(self) -> Path:
        return self.state

    def mount(self) -> float:
        return 0.0

    def unmount(self) -> None:
        settle(self.state)


class Gocryptfs(System):
    """gocryptfs with its defaults, over a folder on the same disk."""

    name = "gocryptfs"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        password = home / "password"
        password.write_text("correct horse battery staple\n")
        self._command = ("gocryptfs", "-q", "-passfile", password)
        run(*self._command, "-init", self.state, seconds=MAX_MOUNT_SECONDS)

    @property
    def target(self) -> Path:
        return self.mountpoint

    def mount(self) -> float:
        return run(*self._command, self.state, self.mountpoint, seconds=MAX_MOUNT_SECONDS)

    def unmount(self) -> None:
        self._unmount_and_await_end()
        settle(self.state)


class Libernet(System):
    """Libernet with its defaults, speaking to no other node; its process's end means durable.

    *launcher* stands before the command that mounts, *options* behind it.
    """

    name = "libernet"
    launcher: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--bind", "127.0.0.1", "--no-lan")

    @property
    def target(self) -> Path:
        return self.mountpoint / "backups" / "bench"

    def mount(self) -> float:
        took = run(
            *self.launcher,
            *(PROJECT / ".venv/bin/mount.libernet", self.mountpoint, "--state", self.state),
            *self.options,
            seconds=MAX_MOUNT_SECONDS,
            environment=_without_settings(),
        )
        self.target.mkdir(exist_ok=True)
        return took

    def unmount(self) -> None:
        self._unmount_and_await_end()


def _without_settings() -> dict[str, str]:
    """Return the environment without what would configure Libernet, or Python for the benchmark."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LIBERNET_") and name != "PYTHONPATH"
    }
