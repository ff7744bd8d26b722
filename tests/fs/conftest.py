"""What several tests of the core need."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.fs.journal import Journal
from libernet.fs.overlay import Overlay
from tests.support.miniature import quick_folder, small_sizes
from tests.support.small_tree import SmallTree
from tests.support.sound_state import BrokenState, make_sound_state


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture(params=["uncommitted", "committed"])
def small(request: pytest.FixtureRequest, journal: Journal) -> Iterator[SmallTree]:
    """Everything is done twice: while the tree is in memory, and while it is in the journal."""
    with journal.reader() as reader:
        overlay = Overlay(reader)
        small = SmallTree(overlay)
        if request.param == "committed":
            journal.apply(overlay.freeze())
            overlay.committed()
        yield small


@pytest.fixture(scope="module")
def sound() -> Iterator[Path]:
    """A state folder in which everything agrees with itself."""
    with small_sizes(), quick_folder() as folder:
        made = make_sound_state(folder)
        (made / "version").write_text("1\n")
        yield made


@pytest.fixture
def state(sound: Path) -> Iterator[BrokenState]:
    """A copy of it, to be broken."""
    with quick_folder() as folder:
        shutil.copytree(sound, folder / "state")
        yield BrokenState(folder / "state")
