"""What tests of all levels have: real mounts, and an eye on their logs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import Node, running


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "announces(pattern, ...): the log of a mount may complain in words like these"
    )


@pytest.fixture(scope="session")
def nodes() -> list[Node]:
    """The nodes whose logs are looked at after each test."""
    return []


@pytest.fixture(autouse=True)
def no_complaint_unannounced(request: pytest.FixtureRequest, nodes: list[Node]) -> Iterator[None]:
    """Fail a test during which a mount logged a warning, an error or a traceback.

    The marker `announces` names those that belong to the test.
    """
    yield
    announced = [
        pattern for mark in request.node.iter_markers("announces") for pattern in mark.args
    ]
    complaints = [
        complaint
        for node in nodes
        for complaint in node.complaints()
        if not any(re.search(pattern, complaint) for pattern in announced)
    ]
    nodes[:] = [node for node in nodes if not node.is_closed]
    if complaints:
        pytest.fail("\n".join(["the log complains:", *complaints]), pytrace=False)


@pytest.fixture
def node(nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path) -> Iterator[Node]:
    """A node that the test mounts; afterwards nothing is left of it."""
    with running(tmp_path / "node", nodes) as made:
        yield made


@pytest.fixture(scope="module")
def shared_node(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that all tests of a module use, for what needs no state of its own."""
    with running(tmp_path_factory.mktemp("shared") / "node", nodes) as made:
        yield made
    assert made.complaints() == []
