"""Setuid and setgid bits in the mount, beside a folder of the machine's own file system."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.node import Node

_Change = Callable[[Path], object]


@pytest.fixture
def places(shared_node: Node, request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """A new folder in a backup, and one outside."""
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    folder = shared_node.backups / re.sub(r"\W+", " ", request.node.name)[:100]
    folder.mkdir()
    return [folder, tmp_path]


def _mode_after(folder: Path, mode: int, change: _Change) -> int:
    file = folder / "file"
    file.write_bytes(b"content")
    file.chmod(mode)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    change(file)
    return stat.S_IMODE(file.stat().st_mode)


def _append(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


_CHANGES: dict[str, _Change] = {
    "chown": lambda file: os.chown(file, 1, 1),
    "chgrp": lambda file: os.chown(file, -1, 1),
    "chmod": lambda file: file.chmod(0o6711),
    "utimes": lambda file: os.utime(file, (1, 1)),
    "rename": lambda file: file.rename(file.with_name("other")).rename(file),
    "link": lambda file: file.with_name("other").hardlink_to(file),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o2745, 0o6644, 0o755])
@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_bits_are_lost_and_kept_as_on_the_machines_own_disk(
    places: list[Path], mode: int, change: _Change
) -> None:
    in_mount, outside = (_mode_after(place, mode, change) for place in places)
    assert in_mount == outside


@pytest.mark.parametrize(
    "change",
    [_append, lambda file: os.truncate(file, 2), lambda file: file.write_bytes(b"new")],
    ids=["append", "truncate", "overwrite"],
)
@pytest.mark.parametrize(
    ("mode", "left"),
    [(0o4755, 0o755), (0o2755, 0o755), (0o6755, 0o755), (0o2745, 0o2745), (0o755, 0o755)],
)
def test_a_changed_file_runs_as_nobody_else_any_more(
    places: list[Path], mode: int, left: int, change: _Change
) -> None:
    """The machine's own file systems leave root's bits alone; here they go, as FUSE has it."""
    assert _mode_after(places[0], mode, change) == left
