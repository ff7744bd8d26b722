"""Finding the others, whoever was there first."""

from pathlib import Path

import pytest

from tests.support.node import until
from tests.support.swarm import NOBODY_HAS_IT, Member

pytestmark = pytest.mark.announces(NOBODY_HAS_IT)


def test_nodes_that_came_before_the_bootstrap_node_find_each_other_later(
    members: dict[str, Member],
) -> None:
    a, b, bootstrap = members["a"], members["b"], members["bootstrap"]
    for member in (a, b):
        member.join(through=bootstrap)
    reference = _publish(a)
    assert a.node.status()["not_announced"] != []

    bootstrap.join()
    a.until_announced()
    opened = Path(b.node.libernet("open", reference, "early").strip())
    until(lambda: _reads(opened / "file", "published early"))


def test_a_node_that_was_off_the_network_comes_back(members: dict[str, Member]) -> None:
    a, b, bootstrap = members["a"], members["b"], members["bootstrap"]
    b.host.unplug()
    for member in (bootstrap, a, b):
        member.join(through=None if member is bootstrap else bootstrap)
    reference = _publish(a)
    a.until_announced()
    b.host.plug_in()
    opened = Path(b.node.libernet("open", reference, "late").strip())
    until(lambda: _reads(opened / "file", "published early"))


def _publish(member: Member) -> str:
    backup = member.node.backups / "early"
    backup.mkdir()
    (backup / "file").write_text("published early")
    return member.node.snapshot("early")


def _reads(file: Path, text: str) -> bool:
    """Tell whether *file* can be read; what nobody has right now is an error and comes later."""
    try:
        return file.read_text() == text
    except OSError:
        return False
