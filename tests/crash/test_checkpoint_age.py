"""Without any fsync, a crash loses at most the last five seconds."""

import bisect
import copy
import random
import time

import pytest

from tests.crash.model import Step
from tests.crash.witness import Reports, Witness, kill
from tests.crash.workload import Planner
from tests.support.node import Node, until

LOST_NS = 5_000_000_000


def plan(witness: Witness, seed: int, count: int) -> list[Step]:
    """Return a workload that syncs nothing."""
    steps = Planner(seed, copy.deepcopy(witness.tree)).steps(count)
    return [step for step in steps if not step.call.startswith("fsync")]


def work_until_killed(
    witness: Witness, steps: list[Step], *, seconds: float, pause_seconds: float
) -> range:
    """Kill the node so long after the first step; return how many steps may be there then."""
    with witness.working(steps, pause_seconds=pause_seconds) as child:
        child.until_started(1)
        child.during(seconds)
        assert not child.reports.finished
        assert not child.reports.failed
        killed_ns = time.monotonic_ns()
        kill(witness.node)
        return may_be_there(child.to_end(), killed_ns)


def may_be_there(reports: Reports, killed_ns: int) -> range:
    """Return how many steps may be there: all that had returned 5 s before; the next had begun."""
    assert reports.fsynced == -1
    returned = bisect.bisect_right(reports.started, killed_ns - LOST_NS) - 1
    return range(max(0, returned), len(reports.started) + 1)


def test_a_kill_amid_steady_work_loses_at_most_five_seconds(node: Node) -> None:
    witness = Witness(node)
    node.mount()
    witness.make_backup()
    steps = plan(witness, 1, 1000)

    possible = work_until_killed(
        witness, steps, seconds=random.Random(2).uniform(5.5, 7), pause_seconds=0.01
    )

    assert possible.start > 0
    node.mount()
    witness.find_state(steps, possible)


def test_what_status_calls_durable_survives_a_kill(node: Node) -> None:
    witness = Witness(node)
    node.mount("--checkpoint-seconds", "0.2")
    witness.make_backup()
    steps = plan(witness, 3, 300)
    with witness.working(steps) as child:
        assert child.to_end().finished

        until(lambda: not node.status()["not_durable"]["changes"])
        kill(node)

    node.mount()
    witness.find_state(steps, range(len(steps), len(steps) + 1))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_a_kill_amid_writing_at_full_speed_loses_at_most_five_seconds(
    node: Node, seed: int
) -> None:
    witness = Witness(node)
    node.mount()
    witness.make_backup()
    steps = plan(witness, seed, 60_000)

    possible = work_until_killed(
        witness, steps, seconds=random.Random(seed).uniform(6, 12), pause_seconds=0.0
    )

    assert possible.start > 0
    node.mount()
    witness.find_state(steps, possible)
