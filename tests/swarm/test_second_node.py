"""The main job of a swarm: what was published on one machine is a local folder on others."""

from pathlib import Path

import pytest

from tests.support.machine_tree import MIN_FILES, make_machine_tree
from tests.support.swarm import Member
from tests.support.tree import Picture, assert_same, picture, published

NAME = "my machine"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of this machine's files, and of everything odd that a folder can hold."""
    root = tmp_path_factory.mktemp("tree") / NAME
    make_machine_tree(root)
    return root


@pytest.fixture(scope="module")
def expected(tree: Path) -> Picture:
    looks = published(picture(tree))
    assert sum(look.type == "-" for look in looks.values()) >= MIN_FILES
    return looks


@pytest.fixture(scope="module")
def reference(shared_members: dict[str, Member], tree: Path) -> str:
    """What `a` published. All know one node at first, which has nothing."""
    bootstrap, a = shared_members["bootstrap"], shared_members["a"]
    bootstrap.join()
    for name in ("a", "b", "c"):
        shared_members[name].join(through=bootstrap)
    a.node.run("cp", "-a", tree, a.node.backups)
    made = a.node.snapshot(NAME)
    a.until_announced()
    return made


@pytest.fixture(scope="module")
def seen_by_b(shared_members: dict[str, Member], reference: str) -> Picture:
    return _opened(shared_members["b"], reference)


@pytest.fixture(scope="module")
def seen_by_c(shared_members: dict[str, Member], reference: str, seen_by_b: Picture) -> Picture:
    """What `c` sees after `a` is gone for good."""
    shared_members["b"].until_announced()
    shared_members["a"].vanish()
    return _opened(shared_members["c"], reference)


@pytest.fixture(scope="module")
def seen_by_b_alone(shared_members: dict[str, Member], seen_by_c: Picture) -> Picture:
    """What `b` sees after a new start without any network."""
    b = shared_members["b"]
    b.node.unmount()
    b.host.unplug()
    b.join(through=shared_members["bootstrap"])
    return _look(b)


def test_a_second_node_sees_all_that_was_published(expected: Picture, seen_by_b: Picture) -> None:
    assert_same(expected, seen_by_b)


def test_a_third_node_has_it_from_the_second_when_the_first_is_gone(
    expected: Picture, seen_by_c: Picture
) -> None:
    assert_same(expected, seen_by_c)


def test_the_node_through_which_they_met_has_none_of_the_blocks(
    shared_members: dict[str, Member], seen_by_c: Picture
) -> None:
    assert shared_members["bootstrap"].node.status()["store"] == {"blocks": 0, "bytes": 0}


def test_what_was_read_once_is_readable_without_any_network(
    expected: Picture, seen_by_b_alone: Picture
) -> None:
    assert_same(expected, seen_by_b_alone)


def _opened(member: Member, reference: str) -> Picture:
    member.node.libernet("open", reference, NAME)
    return _look(member)


def _look(member: Member) -> Picture:
    return picture(member.node.mountpoint / "bundles" / NAME, links=False, top=False)
