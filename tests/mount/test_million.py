"""A million files, in one folder or in ten thousand: everything works, and memory stays small."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.million import content_of, deep_path, fill, wide_path
from tests.support.node import Node

_FILES = 1_000_000
_SHAPES = {"wide": wide_path, "deep": deep_path}

_MOST_BYTES = 200 * 1024 * 1024
"""What the process may hold at any time, so that a million Python objects find no room in it."""


def _peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell")


def _count(*command: str | Path) -> int:
    """Return how many lines a program prints, without keeping them."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        lines = sum(piece.count(b"\n") for piece in iter(lambda: program.stdout.read(1 << 20), b""))
    assert program.returncode == 0
    return lines


@pytest.mark.long
@pytest.mark.parametrize("path_of", _SHAPES.values(), ids=_SHAPES)
def test_a_million_files_are_lived_with(node: Node, path_of: Callable[[int], str]) -> None:
    fill(node.state, "big", _FILES, wide=path_of is wide_path)
    node.mount("--publish-after-seconds", "86400")
    big, pid = node.backups / "big", node.pid
    folders = 0 if path_of is wide_path else _FILES // 100 + _FILES // 10_000

    # Everything is listed, looked at and known to the kernel.
    assert _count("find", big) == 1 + folders + _FILES
    assert _count("find", big, "-type", "f", "-size", "-2") == _FILES
    play = random.Random(5)
    chosen = [play.randrange(_FILES) for _ in range(2000)]
    for number in chosen:
        assert (big / path_of(number)).read_bytes() == content_of(number)
    assert not (big / path_of(_FILES)).exists()

    # Some of it changes, all over the tree.
    replaced, removed, renamed, linked = (sorted({*chosen[i::4]}) for i in range(4))
    renamed = [number for number in renamed if number not in {*replaced, *removed}]
    linked = [number for number in linked if number not in {*replaced, *removed, *renamed}]
    removed = [number for number in removed if number not in replaced]
    for number in replaced:
        (big / path_of(number)).write_text("changed")
    for number in removed:
        (big / path_of(number)).unlink()
    (big / "aside").mkdir()
    for number in renamed:
        (big / path_of(number)).rename(big / "aside" / str(number))
    for number in linked:
        (big / "aside" / f"twin {number}").hardlink_to(big / path_of(number))
    assert _count("find", big, "-type", "f") == _FILES - len(removed) + len(linked)
    node.libernet("sync")
    assert _peak_bytes(pid) < _MOST_BYTES

    # And is so after a kill.
    node.kill()
    node.mount("--publish-after-seconds", "86400")
    assert _count("find", big, "-type", "f") == _FILES - len(removed) + len(linked)
    for number in replaced:
        assert (big / path_of(number)).read_text() == "changed"
    for number in removed:
        assert not (big / path_of(number)).exists()
    for number in renamed:
        assert (big / "aside" / str(number)).read_bytes() == content_of(number)
    for number in linked:
        assert (big / path_of(number)).stat().st_nlink == 2
    shown = node.at(node.snapshot("big"))
    for number in replaced:
        assert (shown / path_of(number)).read_text() == "changed"
    for number in renamed:
        assert (shown / "aside" / str(number)).read_bytes() == content_of(number)
    assert _peak_bytes(node.pid) < _MOST_BYTES


def test_a_folder_of_many_goes_in_any_order(node: Node) -> None:
    files = 20_000
    fill(node.state, "many", files, wide=True)
    node.mount()
    many = node.backups / "many"
    names = os.listdir(many)
    assert sorted(names) == [wide_path(number) for number in range(files)]
    random.Random(1).shuffle(names)
    for count, name in enumerate(names[: files // 2]):
        (many / name).unlink()
        if count % 2500 == 0:
            assert len(os.listdir(many)) == files - count - 1
    assert sorted(os.listdir(many)) == sorted(names[files // 2 :])
    shutil.rmtree(many)
    assert os.listdir(node.backups) == []
    node.libernet("check")
