"""The consistency check, as every test that wrote ends with it."""

import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from libernet.fs.check.consistency import at_rest, check
from libernet.fs.check.findings import Finding
from libernet.fs.lock import LOCK_NAME

_SMALL_BYTES = 2_000_000
"""What is read again in no time."""


def faults(folder: Path, *, read: bool = True) -> list[Finding]:
    """Return what is wrong with a state folder that nobody uses."""
    with at_rest(folder) as state:
        return [finding for finding in check(state, read=read) if finding.is_fault]


def assert_consistent(folder: Path, *, broken: Collection[str] = ()) -> None:
    """Fail when the check finds a fault in a state folder; every byte of a small one is read.

    The rules in *broken* are those that the test broke itself.
    """
    if not (folder / "journal.sqlite").exists():
        return  # nothing was ever opened there
    is_small = _stored_bytes(folder) < _SMALL_BYTES
    found = [fault for fault in faults(folder, read=is_small) if fault.rule not in broken]
    assert found == [], "\n".join(["the consistency check finds:", *map(str, found)])


def assert_consistent_unless_in_use(folder: Path, *, broken: Collection[str] = ()) -> None:
    """Check a state folder unless a process has it, whose own end is the time for that.

    One that starts meanwhile waits, and the lock goes on telling who had it last.
    """
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert_consistent(folder, broken=broken)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _stored_bytes(folder: Path) -> int:
    return sum(
        os.stat(os.path.join(above, name)).st_size
        for top in ("store", "log")
        for above, _, names in os.walk(folder / top)
        for name in names
    )
