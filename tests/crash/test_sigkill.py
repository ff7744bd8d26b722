"""SIGKILL at random moments: afterwards there is a tree that was, with all fsynced in it."""

import contextlib
import copy
import random
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.model import Step
from tests.crash.witness import EAGER, Reports, Witness, kill
from tests.crash.workload import Planner, copying
from tests.support.node import BIN, Node

ROUNDS = 20
STEPS = 700
COPIED = Path(sysconfig.get_path("stdlib"), "email")

OPTIONS = ((), EAGER, ("--checkpoint-seconds", "0.2", "--publish-after-seconds", "0.1"))


def plan(witness: Witness, seed: int, *, copies: bool) -> list[Step]:
    """Return what a round does: random calls, or copying a folder in their midst."""
    tree = copy.deepcopy(witness.tree)
    planner = Planner(seed, tree)
    if not copies:
        return planner.steps(STEPS)
    return [*planner.steps(50), *copying(COPIED, tree, f"copy-{seed}"), *planner.steps(50)]


def kill_while_working(
    witness: Witness, steps: list[Step], draw: random.Random, *, syncs: bool
) -> Reports:
    """Kill the node when a random call has begun, or some time after."""
    with witness.working(steps, syncs=syncs) as child:
        child.until_started(draw.randrange(len(steps)))
        child.during(draw.choice((0.0, 0.005, 0.05)) * draw.random())
        assert not child.reports.failed
        kill(witness.node)
        return child.to_end()


@contextlib.contextmanager
def collecting(node: Node) -> Iterator[None]:
    """Collect again and again while the block runs, as long as the node lives."""
    command = [BIN / "libernet", "--state", node.state, "gc"]
    loop = 'while "$@" >/dev/null 2>&1; do :; done'
    with subprocess.Popen(["sh", "-c", loop, "sh", *command], env=node.environment) as process:
        try:
            yield
        finally:
            process.terminate()


def kill_while_recovering(node: Node, draw: random.Random) -> None:
    """Kill the node at a random moment of its start, or just after."""
    with node.start() as starting:
        with contextlib.suppress(subprocess.TimeoutExpired):
            starting.wait(0.8 * draw.random())
        starting.kill()  # first: it may not have locked anything yet
        starting.wait()
        kill(node)


def check_after_kills(node: Node, rounds: range) -> None:
    """Kill the node once for each number in *rounds*, on one state folder, checking each time."""
    witness = Witness(node)
    node.mount()
    witness.make_backup()
    for seed in rounds:
        draw = random.Random(seed)
        steps = plan(witness, seed, copies=seed % 3 == 2)
        with collecting(node) if seed % 5 < 3 else contextlib.nullcontext():
            reports = kill_while_working(witness, steps, draw, syncs=seed % 2 == 1)
        if seed % 4 == 3:
            kill_while_recovering(node, draw)
        node.mount(*draw.choice(OPTIONS))
        try:
            witness.find_state(steps, reports.possible)
        except AssertionError as exc:
            raise AssertionError(f"round {seed}: {exc}") from exc
    node.remount()
    witness.assert_intact()


def test_a_tree_that_was_is_there_after_each_of_20_kills(node: Node) -> None:
    check_after_kills(node, range(ROUNDS))


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 1300, 30))
def test_a_tree_that_was_is_there_after_each_of_300_kills(node: Node, first: int) -> None:
    check_after_kills(node, range(first, first + 30))
