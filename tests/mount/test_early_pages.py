"""Small files that the kernel is given when they are opened are never stale, and never block."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.node import Node

_SIZES = (1, 4095, 4096, 4097, 100_000, 128 * 1024, 128 * 1024 + 1)


def _content(size: int, version: int) -> bytes:
    return (b"%d " % version * size)[:size]


@pytest.fixture
def files(node: Node) -> list[Path]:
    """Files of a mount whose kernel keeps nothing of them yet."""
    node.mount()
    (node.backups / "b").mkdir()
    paths = [node.backups / "b" / str(size) for size in _SIZES]
    for path, size in zip(paths, _SIZES, strict=True):
        path.write_bytes(_content(size, 0))
    node.remount()
    return paths


def test_files_are_what_they_are_in_backups_and_snapshots(node: Node, files: list[Path]) -> None:
    node.snapshot("b")
    newest = node.snapshots / "b" / "latest"
    for path, size in zip(files, _SIZES, strict=True):
        for each in (path, newest / path.name, path):
            assert each.read_bytes() == _content(size, 0)


def test_what_is_written_after_an_open_is_read_by_the_next(files: list[Path]) -> None:
    for path, size in zip(files, _SIZES, strict=True):
        assert path.read_bytes() == _content(size, 0)
        for version in range(1, 4):
            with path.open("r+b") as file:
                file.write(_content(size, version))
                file.flush()
                assert path.read_bytes() == _content(size, version)
            assert path.read_bytes() == _content(size, version)
        os.truncate(path, size // 2)
        assert path.read_bytes() == _content(size, 3)[: size // 2]
        os.truncate(path, size)
        assert path.read_bytes() == _content(size, 3)[: size // 2].ljust(size, b"\0")


def test_many_open_one_file_while_it_is_replaced(files: list[Path]) -> None:
    path = files[4]
    versions = {_content(100_000, version) for version in range(40)}

    def read(_: int) -> None:
        for _ in range(40):
            assert path.read_bytes() in versions

    with ThreadPoolExecutor(8) as threads:
        reading = [threads.submit(read, number) for number in range(7)]
        for version in range(40):
            new = path.with_name("new")
            new.write_bytes(_content(100_000, version))
            new.rename(path)
        for each in reading:
            each.result(60)


def test_many_open_and_write_one_file_at_once(files: list[Path]) -> None:
    path = files[2]

    def use(number: int) -> None:
        for turn in range(60):
            if (number + turn) % 3:
                assert len(path.read_bytes()) == 4096
            else:
                with path.open("r+b", buffering=0) as file:
                    file.write(_content(4096, turn))

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(use, number) for number in range(8)]:
            each.result(60)
