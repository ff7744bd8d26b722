"""Swarms for the tests, where the machine lets them be made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import unfit, unfit_for_delay
from tests.support.node import Node
from tests.support.swarm import Member, swarm

NAMES = ("a", "b", "c", "bootstrap")


@pytest.fixture(scope="session")
def _fit() -> None:
    if reason := unfit():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def _fit_for_delay() -> None:
    if reason := unfit_for_delay():
        pytest.skip(reason)


@pytest.fixture
def members(
    _fit: None, nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[dict[str, Member]]:
    """Four nodes on hosts of their own, not mounted yet."""
    with swarm(tmp_path / "swarm", nodes, NAMES) as made:
        yield made


@pytest.fixture
def far_members(
    _fit_for_delay: None, nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[dict[str, Member]]:
    """Three nodes with a round trip of 50 ms between any two of them, not mounted yet."""
    names = ("a", "b", "bootstrap")
    with swarm(tmp_path / "swarm", nodes, names, round_trip_ms=50) as made:
        yield made


@pytest.fixture(scope="module")
def shared_members(
    _fit: None, nodes: list[Node], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Member]]:
    """Four nodes on hosts of their own that all tests of a module use; not mounted yet."""
    with swarm(tmp_path_factory.mktemp("shared") / "swarm", nodes, NAMES) as made:
        yield made
