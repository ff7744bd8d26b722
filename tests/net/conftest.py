"""What several tests of the network need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.blocks.store import Store

_MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the machine has that: nothing here is about what a disk keeps."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="libernet-test-") as name:
        yield Path(name)


@pytest.fixture
def store(quick_folder: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(quick_folder / "store", reserve_bytes=0) as opened:
        yield opened
