"""The power goes: what the disk has then is a tree that was, with all fsynced in it."""

import copy
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.disk import Disk, mounted_disk, node_on
from tests.crash.model import Step
from tests.crash.witness import EAGER, Reports, Witness, doomed
from tests.crash.workload import Planner
from tests.support.node import Node

ROUNDS = 5
STEPS = 700
DISK_BYTES = 512 * 1024 * 1024


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Disk]:
    with mounted_disk(tmp_path, DISK_BYTES) as made:
        yield made


@pytest.fixture
def node_on_disk(ext4: Disk, tmp_path: Path) -> Iterator[Node]:
    """A node on the disk; what its log says when the power goes does not matter."""
    with node_on(ext4, tmp_path / "node") as node:
        yield node


def cut_power_while_working(
    witness: Witness, ext4: Disk, steps: list[Step], draw: random.Random, *, syncs: bool
) -> Reports:
    """Cut the power when a random call has begun, or some time after.

    An fsync that was under way then does not count, whatever it returned: ext4's shutdown lets the
    one fdatasync that is under way succeed though its transaction was given up (seen: Linux 6.18, a
    program that does nothing but write and fdatasync, in 27 of 150 cuts, and never more than one).
    But none may cover a call that began when the power was gone.
    """
    with witness.working(steps, syncs=syncs) as child:
        child.until_started(draw.randrange(len(steps)))
        child.during(draw.choice((0.0, 0.005, 0.05)) * draw.random())
        assert not child.reports.failed
        before = child.take()
        with doomed(witness.node.pid):
            ext4.cut_power()
            after = child.take()
            child.during(0.02)  # an fsync must not return as if nothing had happened
        reports = child.to_end()
        assert reports.fsynced < len(after.started)
        return dataclasses.replace(reports, fsynced=before.fsynced)


def check_after_power_cuts(node: Node, ext4: Disk, rounds: range) -> None:
    """Cut the power once for each number in *rounds*, checking each time what is there."""
    witness = Witness(node)
    node.mount()
    witness.make_backup()
    for seed in rounds:
        draw = random.Random(seed)
        steps = Planner(seed, copy.deepcopy(witness.tree)).steps(STEPS)
        reports = cut_power_while_working(witness, ext4, steps, draw, syncs=seed % 2 == 1)
        ext4.unmount()
        ext4.mount()
        node.mount(*draw.choice(((), EAGER)))
        try:
            witness.find_state(steps, reports.possible)
        except AssertionError as exc:
            raise AssertionError(f"round {seed}: {exc}") from exc
    node.remount()
    witness.assert_intact()


def test_a_tree_that_was_is_there_after_each_power_cut(node_on_disk: Node, ext4: Disk) -> None:
    check_after_power_cuts(node_on_disk, ext4, range(ROUNDS))


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 1060, 15))
def test_a_tree_that_was_is_there_after_each_of_60_power_cuts(
    node_on_disk: Node, ext4: Disk, first: int
) -> None:
    check_after_power_cuts(node_on_disk, ext4, range(first, first + 15))
