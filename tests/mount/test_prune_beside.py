"""Blocks are given up while a backup, a restore and a read from another node go on."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.node import BIN, Node, running
from tests.support.tree import assert_same, picture

_QUIET = ("--bind", "127.0.0.1", "--port", "0", "--private-network")
_MIB = 1024 * 1024


def _fill(folder: Path, *, files: int) -> None:
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(12 * _MIB))
    for number in range(files):
        (folder / f"{number:04}").write_bytes(os.urandom(number * 37 % 60_000))


def _start(node: Node, *arguments: str | Path) -> "subprocess.Popen[bytes]":
    command = [BIN / "libernet", "--state", node.state, *arguments]
    return subprocess.Popen(command, env=node.environment, stdout=subprocess.DEVNULL)


def test_nothing_that_is_needed_goes(
    node: Node, nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> None:
    old, new, theirs = (tmp_path / name for name in ("old", "new", "theirs"))
    _fill(old, files=600)
    _fill(new, files=600)
    _fill(theirs, files=50)
    with running(tmp_path / "other", nodes) as other:
        other.mount(*_QUIET)
        other.libernet("backup", str(theirs), "b")
        reference = other.libernet("share", "backups/b").strip()
        port = json.loads(other.libernet("peers", "--json"))["listening"]
        node.mount(*_QUIET, "--peer", f"127.0.0.1:{port}")
        node.libernet("backup", str(old), "old")
        (node.backups / "rubbish").mkdir()
        (node.backups / "rubbish" / "file").write_bytes(os.urandom(5 * _MIB))
        node.libernet("sync")
        (node.backups / "rubbish" / "file").unlink()

        with (node.at(reference) / "large").open("rb") as remote:
            began = remote.read(2 * _MIB)
            going_on = [
                _start(node, "backup", new, "new"),
                _start(node, "restore", "snapshots/old/latest", tmp_path / "restored"),
            ]
            rounds = given_up = 0
            while rounds < 3 or any(each.poll() is None for each in going_on):
                given_up += json.loads(node.libernet("prune", "--json"))["blocks"]
                rounds += 1
            assert [each.wait() for each in going_on] == [0, 0]
            assert began + remote.read() == (theirs / "large").read_bytes()
    assert given_up > 0
    assert_same(picture(old), picture(tmp_path / "restored"))
    assert_same(picture(new), picture(node.backups / "new"))
    node.remount(*_QUIET)
    assert_same(picture(new), picture(node.backups / "new"))
    assert json.loads(node.libernet("check", "--read", "--json"))["findings"] == []


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
def test_a_kill_while_blocks_are_given_up_beside_a_backup(
    node: Node, tmp_path: Path, seconds: float
) -> None:
    source = tmp_path / "source"
    _fill(source, files=400)
    node.mount(*_QUIET)
    (node.backups / "rubbish").mkdir()
    for number in range(20):
        (node.backups / "rubbish" / str(number)).write_bytes(os.urandom(300_000))
    node.libernet("sync")
    for number in range(20):
        (node.backups / "rubbish" / str(number)).unlink()
    going_on = [_start(node, "backup", source, "b"), _start(node, "prune")]
    with contextlib.suppress(subprocess.TimeoutExpired):
        going_on[0].wait(seconds)
    node.kill()
    for each in going_on:
        each.wait()
    subprocess.run(["umount", "-i", "-l", node.mountpoint], check=True)
    node.mount(*_QUIET)
    node.libernet("backup", str(source), "b")
    assert_same(picture(source), picture(node.backups / "b"))
