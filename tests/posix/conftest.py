"""What every case has: a new folder in a backup or outside of the mount, and three users.

A case holds for both folders: one that the machine's own file system does not meet is wrong. What
the mount cannot meet is marked `unmet` with the reason, and fails when it is met after all.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.actors import CAN_CHANGE_USER, Actor
from tests.support.node import Node, running

_NUMBERS = itertools.count()
_SHARED_GROUP = 60_003


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "unmet(reason): why the mount cannot do what a case says")


@pytest.fixture(scope="package")
def cases_node(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The mount that all cases share, open to all users, with one backup."""
    with running(tmp_path_factory.mktemp("posix") / "node", nodes) as made:
        made.mount("-o", "allow_other")
        (made.backups / "cases").mkdir()
        yield made
    assert made.complaints() == []


@pytest.fixture(params=["mount", "native"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A new folder that everybody may use, once in the mount and once outside."""
    unmet = request.node.get_closest_marker("unmet")
    if request.param == "mount":
        node: Node = request.getfixturevalue("cases_node")
        folder = node.backups / "cases" / str(next(_NUMBERS))
        if unmet is not None:
            request.applymarker(pytest.mark.xfail(strict=True, reason=unmet.args[0]))
    else:
        folder = tmp_path / "case"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="package")
def everybody() -> Iterator[dict[str, Actor]]:
    """Root, Ann, and Bob, who shares a group with Ann that is neither's first."""
    if not CAN_CHANGE_USER:
        pytest.skip("acting as several users needs root")
    actors = {
        "root": Actor(0, 0),
        "ann": Actor(60_001, 60_001, (_SHARED_GROUP,)),
        "bob": Actor(60_002, 60_002, (_SHARED_GROUP,)),
    }
    yield actors
    for actor in actors.values():
        actor.close()


@pytest.fixture
def root(everybody: dict[str, Actor], place: Path) -> Iterator[Actor]:
    yield from _at(everybody["root"], place)


@pytest.fixture
def ann(everybody: dict[str, Actor], place: Path) -> Iterator[Actor]:
    yield from _at(everybody["ann"], place)


@pytest.fixture
def bob(everybody: dict[str, Actor], place: Path) -> Iterator[Actor]:
    yield from _at(everybody["bob"], place)


@pytest.fixture
def shared_group() -> int:
    """The group that Ann and Bob are both in."""
    return _SHARED_GROUP


def _at(actor: Actor, place: Path) -> Iterator[Actor]:
    """Let the actor stand in the place; nobody keeps the mount busy afterwards."""
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        actor.fchdir(folder)
        yield actor
    finally:
        os.close(folder)
        actor.chdir("/")
