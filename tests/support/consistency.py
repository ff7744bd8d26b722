"""The consistency check, as every test that wrote ends with it."""

from pathlib import Path

from libernet.fs.check.consistency import at_rest, check
from libernet.fs.check.findings import Finding

_SMALL_BYTES = 2_000_000
"""What is read again in no time."""


def faults(folder: Path, *, read: bool = True) -> list[Finding]:
    """Return what is wrong with a state folder that nobody uses."""
    with at_rest(folder) as state:
        return [finding for finding in check(state, read=read) if finding.is_fault]


def assert_consistent(folder: Path) -> None:
    """Fail when the check finds a fault in a state folder; every byte of a small one is read."""
    if not (folder / "journal.sqlite").exists():
        return  # nothing was ever opened there
    stored_bytes = sum(
        path.stat().st_size for top in ("store", "log") for path in (folder / top).rglob("*.*")
    )
    found = faults(folder, read=stored_bytes < _SMALL_BYTES)
    assert found == [], "\n".join(["the consistency check finds:", *map(str, found)])
