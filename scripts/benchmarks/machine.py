"""The machine that is measured on: its work folder, its page cache, and facts about it."""

import contextlib
import datetime
import os
import platform
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import daemons
from benchmarks.commands import BenchError, output, run

PROJECT = Path(__file__).resolve().parents[2]

NO_DISKS = frozenset({"tmpfs", "ramfs", "overlay", "fuse", "nfs", "nfs4", "9p"})
"""File systems, as findmnt(8) names them, on which the figures would say nothing about a disk."""

MIN_FREE_BYTES = 2_000_000_000
"""Room for the corpus, two copies of the tree, and what stores need beside."""

DROP_CACHES = "echo 3 >/proc/sys/vm/drop_caches"

_UNESCAPED = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


@contextlib.contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """Give a new folder on a disk, inside *chosen* if that is not None; remove it afterwards.

    What is still mounted in it is unmounted, and the processes behind that are ended.
    """
    parent = _on_disk(chosen)
    folder = Path(tempfile.mkdtemp(prefix="libernet-bench-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave all behind
        clean_up(folder)


def clean_up(folder: Path) -> None:
    """Remove *folder*, unmounting and ending what is left in it; a live mount is never entered."""
    for mountpoint in _mounted_in(folder):
        with contextlib.suppress(BenchError):
            run("fusermount3", "-uz", mountpoint, seconds=30)
    daemons.end(daemons.working_in(folder))
    if still := _mounted_in(folder):
        raise BenchError(f"cannot unmount {still[0]}: {folder} is left behind")
    shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """Make everything on the file system of *folder* durable."""
    run("sync", "-f", folder)


def drop_caches(folder: Path) -> None:
    """Empty the page cache of what lies on *folder*'s file system: the next reads are cold."""
    settle(folder)
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        run(*root, "sh", "-c", DROP_CACHES, seconds=120)
    except BenchError as error:
        raise BenchError(
            f"the page cache can be dropped by root only: run scripts/bench as root ({error})"
        ) from error


def facts(folder: Path) -> dict[str, object]:
    """Return what the figures depend on: hardware, versions, commit, date."""
    git = ["git", "-C", str(PROJECT)]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": output(*git, "rev-parse", "HEAD"),
        "changed_since_commit": bool(output(*git, "status", "--porcelain")),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _field("/proc/cpuinfo", "model name"),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "file_system": file_system(folder),
        "load_average_at_start": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "libernet": output(PROJECT / ".venv/bin/libernet", "--version"),
            "gocryptfs": output("gocryptfs", "-version"),
            "fuse": output("fusermount3", "--version"),
        },
    }


def file_system(folder: Path) -> str:
    """Return the name of the type of *folder*'s file system, such as ext4."""
    # Mounts over one another are all listed, the one that is seen last.
    return output("findmnt", "-no", "FSTYPE", "-T", folder).rpartition("\n")[2]


def _on_disk(chosen: Path | None) -> Path:
    """Return *chosen*, or the first usual place for large temporary files, if it is on a disk."""
    candidates = [chosen] if chosen else [Path("/var/tmp"), Path(tempfile.gettempdir())]
    unfit = {candidate: _unfit(candidate) for candidate in candidates}
    for candidate, reason in unfit.items():
        if not reason:
            return candidate
    reasons = "; ".join(f"{candidate} {reason}" for candidate, reason in unfit.items())
    raise BenchError(f"{reasons}: choose a folder on a disk with --work")


def _unfit(folder: Path) -> str:
    if not folder.is_dir():
        return "is not a folder"
    if folder.resolve().is_relative_to(PROJECT):
        return "is inside the project"
    if (kind := file_system(folder)).partition(".")[0] in NO_DISKS:
        return f"is on {kind}, not on a disk"
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        return f"has less than {MIN_FREE_BYTES // 10**9} GB free"
    return ""


def _mounted_in(folder: Path) -> list[Path]:
    """Return the mount points inside *folder*, read from the mount table alone."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        for escape, meant in _UNESCAPED.items():
            point = point.replace(escape, meant)
        if Path(point).is_relative_to(folder):
            points.append(Path(point))
    return points


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
