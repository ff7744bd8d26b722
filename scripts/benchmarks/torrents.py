"""The same file by BitTorrent: seeded on one host, read on another through btfs."""

import shutil
import subprocess
import time
from pathlib import Path

from benchmarks import daemons
from benchmarks.commands import BenchError, output, run
from benchmarks.corpus import MEBIBYTE
from tests.support.hosts import Host

SYSTEM_PYTHON = "/usr/bin/python3"
MOUNT_SECONDS = 20.0


def lacking() -> str:
    """Return what is not installed, empty if nothing."""
    if shutil.which("btfs") is None:
        return "btfs"
    has_seed = output(SYSTEM_PYTHON, "-c", "import libtorrent; print(libtorrent.version)")
    return "" if has_seed else "python3-libtorrent"


def read(file: Path, seed: Host, reader: Host, home: Path) -> float:
    """Return the seconds in which *reader* reads *file* from *seed*, from its first byte on.

    The new folder *home* is for the mount and what btfs keeps.
    """
    torrent, mountpoint, kept = home / "torrent", home / "mount", home / "kept"
    for folder in (home, mountpoint, kept):
        folder.mkdir()
    seeding = Path(__file__).with_name("seeding.py")
    command = [*seed.entering(), SYSTEM_PYTHON, str(seeding), str(file), str(torrent)]
    with subprocess.Popen(
        [*command, seed.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdout.readline()  # it seeds
            run(*reader.entering(), "btfs", f"--data-directory={kept}", torrent, mountpoint)
            with daemons.awaited(daemons.serving(mountpoint), MOUNT_SECONDS):
                _await(mountpoint / file.name)
                took = run("dd", f"if={mountpoint / file.name}", "of=/dev/null", f"bs={MEBIBYTE}")
                run("fusermount3", "-u", mountpoint)
        finally:
            process.stdin.close()
    shutil.rmtree(home)
    return took


def _await(file: Path) -> None:
    """Wait until btfs shows a file: that is a moment after it was mounted."""
    end = time.monotonic() + MOUNT_SECONDS
    while not file.exists():
        if time.monotonic() > end:
            raise BenchError(f"btfs does not show {file}")
        time.sleep(0.05)
