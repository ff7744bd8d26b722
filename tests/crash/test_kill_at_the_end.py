"""SIGKILL while a backup is published, blocks are collected or the mount ends: nothing is lost."""

import copy
import json
import os
import random
import subprocess
import time

from tests.crash.model import Step, Tree
from tests.crash.witness import BACKUP, Reports, Witness, doomed, kill
from tests.crash.workload import Planner
from tests.support.node import BIN, SECONDS, Node

ROUNDS = 5
STEPS = 250


def work(witness: Witness, seed: int) -> tuple[list[Step], Reports]:
    """Make the calls of a round, all of them."""
    steps = Planner(seed, copy.deepcopy(witness.tree)).steps(STEPS)
    with witness.working(steps) as child:
        reports = child.to_end()
    assert reports.finished
    return steps, reports


def killed_amid(node: Node, seconds: float, *command: str) -> tuple[bool, str]:
    """Kill the node so long after the start of *command*; return whether it succeeded, its words.

    The command may have ended before.
    """
    line = [str(BIN / "libernet"), "--state", str(node.state), *command]
    with (
        doomed(node.pid),
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill(node)
            said, _ = process.communicate(timeout=SECONDS)
    return process.returncode == 0, said.decode()


def test_a_kill_amid_publishing_loses_nothing_and_no_snapshot(node: Node) -> None:
    witness = Witness(node)
    node.mount("--publish-after-seconds", "86400")
    witness.make_backup()
    steps, reports = work(witness, ROUNDS)
    witness.find_state(steps, reports.possible)
    begun = time.monotonic()
    published = {node.snapshot(BACKUP): copy.deepcopy(witness.tree)}
    usual_seconds = time.monotonic() - begun
    for seed in range(ROUNDS):
        steps, reports = work(witness, seed)
        seconds = random.Random(seed).uniform(0, usual_seconds)
        succeeded, reference = killed_amid(node, seconds, "snapshot", BACKUP)
        possible = reports.possible if not succeeded else range(len(steps), len(steps) + 1)

        node.mount("--publish-after-seconds", "86400")

        witness.find_state(steps, possible)
        if succeeded:
            published[reference.strip()] = copy.deepcopy(witness.tree)
    for reference, tree in published.items():
        witness.assert_published(node.at(reference), tree)
    for snapshot in os.listdir(node.snapshots / BACKUP):
        assert witness.observe(node.snapshots / BACKUP / snapshot)
    reference = node.snapshot(BACKUP)
    witness.assert_published(node.at(reference))
    witness.assert_published((node.snapshots / BACKUP / "latest").resolve())


def test_a_kill_amid_collecting_loses_nothing_and_the_next_one_finds_all_again(node: Node) -> None:
    witness = Witness(node)
    node.mount("--publish-after-seconds", "86400")
    witness.make_backup()
    published: dict[str, Tree] = {}
    for seed in range(ROUNDS):
        steps, reports = work(witness, seed)
        witness.find_state(steps, reports.possible)
        published[node.snapshot(BACKUP)] = copy.deepcopy(witness.tree)
        garbage = node.backups / BACKUP / "garbage"
        garbage.write_bytes(os.urandom(6_000_000))
        node.libernet("sync")
        garbage.unlink()
        node.libernet("sync")
        killed_amid(node, random.Random(seed).uniform(0.1, 0.6), "gc")
        kill(node)

        node.mount("--publish-after-seconds", "86400")

        witness.assert_intact()
    node.libernet("gc")
    again = json.loads(node.libernet("gc", "--json"))
    assert (again["blocks"], again["stray_files"]) == (0, 0)
    node.remount()
    witness.assert_intact()
    for reference, tree in published.items():
        witness.assert_published(node.at(reference), tree)


def test_a_kill_amid_unmounting_loses_nothing(node: Node) -> None:
    witness = Witness(node)
    node.mount()
    witness.make_backup()
    steps, reports = work(witness, ROUNDS)
    witness.find_state(steps, reports.possible)
    begun = time.monotonic()
    node.unmount()
    usual_seconds = time.monotonic() - begun
    node.mount()
    for seed in range(ROUNDS):
        steps, reports = work(witness, seed)
        seconds = random.Random(seed).uniform(0, usual_seconds)
        succeeded, _ = killed_amid(node, seconds, "unmount")
        possible = reports.possible if not succeeded else range(len(steps), len(steps) + 1)

        node.mount()

        witness.find_state(steps, possible)
