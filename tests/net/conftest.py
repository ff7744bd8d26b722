"""What several tests of the network need."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.store import Store
from tests.support.fetching import World

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


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.002  # the store's threads take no time on this clock
    return autojump_clock


@pytest.fixture
async def world(store: Store, nursery: trio.Nursery) -> AsyncIterator[World]:
    made = World(store, nursery)
    await nursery.start(made.run)
    yield made
    made.run_scope.cancel()
