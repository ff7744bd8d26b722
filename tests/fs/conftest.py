"""What several tests of the core need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.fs.journal import Journal
from libernet.fs.overlay import Overlay
from tests.support.small_tree import SmallTree


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
