"""What tests of all levels have: real mounts, and an eye on their logs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.node import Node, left_behind, until


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "announces(pattern, ...): the log of a mount may complain in lines like these"
    )


@pytest.fixture(scope="session")
def nodes() -> list[Node]:
    """Every node that may be running: their logs are looked at after each test."""
    return []


@pytest.fixture(autouse=True)
def no_complaint_that_was_not_announced(
    request: pytest.FixtureRequest, nodes: list[Node]
) -> Iterator[None]:
    """Fail a test during which a mount logged a warning, an error or a traceback.

    The marker `announces` names those that belong to the test.
    """
    yield
    announced = [
        pattern for mark in request.node.iter_markers("announces") for pattern in mark.args
    ]
    complaints = [
        line
        for node in nodes
        for line in node.complaints()
        if not any(re.search(pattern, line) for pattern in announced)
    ]
    if complaints:
        pytest.fail("\n".join(["the log complains:", *complaints]), pytrace=False)


@pytest.fixture
def new_node(
    nodes: list[Node], no_complaint_that_was_not_announced: None, tmp_path: Path
) -> Iterator[Callable[[str], Node]]:
    """Make nodes that end with the test, leaving no mount and no process behind."""
    mine: list[Node] = []

    def make(name: str) -> Node:
        mine.append(running(nodes, tmp_path / name))
        return mine[-1]

    yield make
    try:
        for node in mine:
            node.close()
    finally:
        until(lambda: not left_behind(tmp_path))
