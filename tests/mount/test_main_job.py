"""The main job: a real tree is copied in, unmounted, mounted, and all of it is there."""

import os
from pathlib import Path

import pytest

from libernet.blocks.reference import Reference
from tests.support.machine_tree import MIN_BYTES, MIN_FILES, make_machine_tree
from tests.support.node import Node
from tests.support.tree import Picture, assert_same, picture, published

NAME = "my machine"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of this machine's files, and of everything odd that a folder can hold."""
    root = tmp_path_factory.mktemp("tree") / NAME
    make_machine_tree(root)
    return root


@pytest.fixture(scope="module")
def original(tree: Path) -> Picture:
    looks = picture(tree)
    files = [look for look in looks.values() if look.type == "-"]
    assert len(files) >= MIN_FILES
    assert sum(look.size for look in files) >= MIN_BYTES
    return looks


@pytest.fixture(scope="module")
def kept(shared_node: Node, tree: Path) -> Node:
    """The node after the tree was copied in, unmounted, and mounted again."""
    shared_node.mount()
    shared_node.run("cp", "-a", tree, shared_node.backups)
    shared_node.remount()
    return shared_node


@pytest.fixture(scope="module")
def reference(kept: Node) -> str:
    return kept.snapshot(NAME)


def test_after_a_remount_the_backup_is_what_was_copied_in(kept: Node, original: Picture) -> None:
    assert_same(original, picture(kept.backups / NAME))


def test_its_snapshot_shows_the_same(kept: Node, reference: str, original: Picture) -> None:
    found = picture(kept.snapshots / NAME / "latest", links=False, top=False)
    assert_same(published(original), found)


def test_its_reference_opens_the_same(kept: Node, reference: str, original: Picture) -> None:
    assert str(Reference.parse(reference)) == reference
    assert_same(published(original), picture(kept.at(reference), links=False, top=False))


def test_the_snapshot_made_at_the_unmount_is_still_the_newest(kept: Node, reference: str) -> None:
    snapshots = kept.snapshots / NAME
    latest = os.readlink(snapshots / "latest")
    assert sorted(os.listdir(snapshots)) == sorted([latest, "latest"])
    assert [backup["reference"] for backup in kept.status()["backups"]] == [reference]


@pytest.mark.parametrize("where", ["backups/{}", "snapshots/{}/latest"])
def test_find_walks_through_all_of_it(
    kept: Node, reference: str, original: Picture, where: str
) -> None:
    root = kept.mountpoint / where.format(NAME)
    found = kept.run("find", f"{root}/", "-type", "f", "-printf", "x")
    assert len(found) == sum(look.type == "-" for look in original.values())
