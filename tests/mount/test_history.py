"""Snapshots as a person uses them: listed, compared, searched, thinned out, copied from."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.support.node import BIN, SECONDS, Node
from tests.support.tree import assert_same, picture

_BY_HAND = ("--publish-after-seconds", "86400")

_COUNTING = """
import os, sys
files = [os.open(name, os.O_WRONLY) for name in sys.argv[1:]]
print("ready", flush=True)
number = 0
while True:
    number += 1
    for file in files:
        os.pwrite(file, b"%012d" % number, 0)
"""


def _snapshots(node: Node, *names: str) -> list[str]:
    """Return the paths of snapshots, oldest first."""
    found = json.loads(node.libernet("snapshots", *names, "--json"))
    return [f"{each['backup']}/{each['name']}" for each in found]


def _versions(node: Node, count: int, name: str = "b", size: int = 1000) -> list[str]:
    """Make a backup with *count* snapshots, each with a file of its own; return their paths."""
    folder = node.backups / name
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"file {number}").write_bytes(os.urandom(size))
        if number:
            (folder / f"file {number - 1}").unlink()
        node.snapshot(name)
    return _snapshots(node, name)


def test_an_unchanged_file_costs_nothing_in_a_new_snapshot(node: Node) -> None:
    node.mount(*_BY_HAND)
    (node.backups / "b").mkdir()
    (node.backups / "b" / "large").write_bytes(os.urandom(6_000_000))
    (node.backups / "b" / "small").write_bytes(b"first")
    node.snapshot("b")
    before = node.status()["store"]["bytes"]
    (node.backups / "b" / "small").write_bytes(b"second")
    node.snapshot("b")
    assert 0 < node.status()["store"]["bytes"] - before < 3000
    assert len(_snapshots(node)) == 2


def test_a_deletion_by_mistake_is_undone_by_copying_from_a_snapshot(node: Node) -> None:
    node.mount(*_BY_HAND)
    top = node.backups / "photos"
    (top / "2026" / "summer").mkdir(parents=True)
    for number in range(20):
        photo = top / "2026" / "summer" / f"{number}.jpg"
        photo.write_bytes(os.urandom(20_000))
        os.utime(photo, ns=(0, 1_700_000_000_123_456_789 + number))
    (top / "2026" / "best").symlink_to("summer/3.jpg")
    node.snapshot("photos")
    expected = picture(top)
    shutil.rmtree(top / "2026")
    (top / "written since").write_bytes(b"stays")
    node.snapshot("photos")
    [good, _] = _snapshots(node)
    told = node.libernet("diff", f"snapshots/{good}", "snapshots/photos/latest")
    assert "-    /2026/summer/7.jpg\n" in told
    assert "+    /written since\n" in told
    node.run("cp", "-a", node.snapshots / good / "2026", top)
    found = picture(top)
    assert found.pop(b"written since").size == 5
    del found[b"."], expected[b"."]
    assert_same(expected, found)


def test_a_snapshot_shows_one_moment_of_all_files_while_they_are_written(node: Node) -> None:
    node.mount("--checkpoint-seconds", "0.1", *_BY_HAND)
    (node.backups / "b").mkdir()
    names = [node.backups / "b" / str(number) for number in range(5)]
    for name in names:
        name.write_bytes(b"%012d" % 0)
    with subprocess.Popen(
        [sys.executable, "-c", _COUNTING, *names], stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            for _ in range(8):
                node.snapshot("b")
        finally:
            writer.kill()
    moments = []
    for path in _snapshots(node):
        shown = [int((node.snapshots / path / name.name).read_bytes()) for name in names]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] - shown[-1] <= 1
        moments.append(shown[-1])
    assert len(moments) >= 3
    assert moments == sorted(moments)


def test_snapshots_are_listed_and_labelled_from_the_command_line(node: Node) -> None:
    node.mount(*_BY_HAND)
    assert node.libernet("snapshots") == "0 snapshots\n"
    [path] = _versions(node, 1)
    (node.backups / "b" / "more").touch()
    node.libernet("snapshot", "b", "--tag", "good,home", "--note", "before the move")
    lines = node.libernet("snapshots").splitlines()
    assert lines[0].split() == ["ID", "Snapshot", "Files", "Size", "Tags", "Note"]
    assert lines[1].split()[1:3] == [path, "1"]
    assert lines[2].endswith("good,home  before the move")
    assert lines[3:] == ["2 snapshots"]
    latest = str(node.snapshots / "b" / _snapshots(node)[-1].removeprefix("b/"))
    node.libernet("tag", latest, "--add", "new", "--remove", "home")
    node.libernet("note", "b/latest", "after it")
    [found] = json.loads(node.libernet("snapshots", "b", "--tag", "new", "--json"))
    assert (found["tags"], found["note"]) == (["good", "new"], "after it")
    node.remount(*_BY_HAND)
    assert json.loads(node.libernet("snapshots", "--tag", "new", "--json")) == [found]


@pytest.mark.parametrize("asked", [("find", "*"), ("diff", "snapshots/b/{}", "snapshots/b/latest")])
def test_who_reads_no_further_is_no_trouble(node: Node, asked: tuple[str, ...]) -> None:
    node.mount(*_BY_HAND)
    folder = node.backups / "b"
    folder.mkdir()
    first = node.snapshot("b") and _snapshots(node)[0].removeprefix("b/")
    for number in range(20_000):
        (folder / f"a name that takes some room in a pipe {number}").touch()
    node.snapshot("b")
    command = [BIN / "libernet", "--state", node.state, *(each.format(first) for each in asked)]
    with subprocess.Popen(
        command, env=node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        running.wait(60)


def test_names_are_found_from_the_command_line(node: Node) -> None:
    node.mount(*_BY_HAND)
    [first, second, third] = (path.removeprefix("b/") for path in _versions(node, 3))
    (node.backups / "b" / "sub").mkdir()
    (node.backups / "b" / "sub" / os.fsdecode(b"\xff file")).touch()
    node.snapshot("b")
    last = _snapshots(node)[-1].removeprefix("b/")
    assert node.libernet("find", "*file*", "--backup", "b").splitlines() == [
        f"{first}..{first}  1 snapshot  b/file 0",
        f"{second}..{second}  1 snapshot  b/file 1",
        f"{third}..{last}  2 snapshots  b/file 2",
        f"{last}..{last}  1 snapshot  b/sub/{os.fsdecode(bytes([255]))} file",
        "4 paths in 4 snapshots",
    ]
    [found] = node.libernet("find", "sub", "--snapshot", f"b/{last}", "--json").splitlines()
    assert json.loads(found)["type"] == "dir"


def test_forgetting_and_pruning_free_the_room_and_leave_the_rest(node: Node) -> None:
    node.mount(*_BY_HAND)
    paths = _versions(node, 5, size=400_000)
    before = node.status()["store"]["bytes"]
    dry = node.libernet("forget", "b", "--keep-last", "2", "--dry-run", "--prune")
    assert "b: would keep 2 snapshots" in dry
    assert "b: would forget 3 snapshots" in dry
    assert _snapshots(node) == paths
    idle = node.libernet("forget", "b", "--keep-last", "2", "--tag", "nobody has it")
    assert "nothing to forget" in idle
    told = node.libernet("forget", "b", "--keep-last", "2")
    assert all(path in told for path in paths)
    assert "last snapshot" in told
    assert node.status()["store"]["bytes"] == before
    assert _snapshots(node) == paths[3:]
    assert "freed" in node.libernet("prune")
    assert before - node.status()["store"]["bytes"] > 1_150_000
    assert os.readlink(node.snapshots / "b" / "latest") == paths[4].removeprefix("b/")
    node.remount(*_BY_HAND)
    shown = sorted(os.listdir(node.snapshots / "b"))
    assert shown == [*(path.removeprefix("b/") for path in paths[3:]), "latest"]
    assert len((node.snapshots / paths[3] / "file 3").read_bytes()) == 400_000
    node.libernet("check", "--read")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["forget"], 1, "no policy says which snapshots to keep"),
        (["forget", "--keep-last", "-1"], 2, "is neither a number nor 'unlimited'"),
        (["forget", "--keep-within", "2w"], 1, "is no length of time"),
        (["forget", "none", "--keep-last", "1"], 1, "there is no snapshot 'none'"),
        (["forget", "b/2001-01-01T00.00.00Z"], 1, "there is no snapshot"),
        (["forget", "--keep-tag", "none"], 1, "keeps none of the snapshots of 'b'"),
        (["snapshots", "none"], 1, "there are no snapshots of 'none'"),
        (["tag", "b/latest"], 2, "say either what to --set"),
        (["tag", "b/latest", "--add", "a\tb"], 1, "can be no tag"),
        (["note", "none", "text"], 1, "there is no snapshot 'none'"),
        (["diff", "snapshots/b/latest", "snapshots/b/none"], 1, "there is no 'snapshots/b/none'"),
        (["diff", "snapshots/b/latest", "/sha256/12"], 1, "truncated"),
        (["diff", "snapshots/b/latest", "snapshots/b/latest/file 0"], 1, "is no folder"),
        (["find", "a//b"], 1, "is no pattern"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    shared_node: Node, arguments: list[str], exit_code: int, sentence: str
) -> None:
    if not shared_node.state.exists():
        shared_node.mount(*_BY_HAND)
        _versions(shared_node, 1)
    outcome = shared_node.try_libernet(*arguments)
    assert (outcome.exit_code, outcome.out) == (exit_code, "")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert len(_snapshots(shared_node)) == 1


@pytest.mark.parametrize("after_seconds", [0.1, 0.15, 0.25])
def test_a_kill_while_forgetting_or_pruning_loses_nothing_that_was_kept(
    node: Node, after_seconds: float
) -> None:
    node.mount(*_BY_HAND)
    paths = _versions(node, 6, size=300_000)
    kept = picture(node.snapshots / paths[-1])
    command = [BIN / "libernet", "--state", node.state]
    options = ["forget", "b", "--keep-last", "1", "--prune"]
    with subprocess.Popen(
        [*command, *options],
        env=node.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as forgetting:
        time.sleep(after_seconds)  # any moment will do
        node.kill()
        forgetting.wait(SECONDS)
    node.mount(*_BY_HAND)
    assert _snapshots(node) in (paths, paths[-1:])
    for path in _snapshots(node):
        picture(node.snapshots / path)
    assert_same(kept, picture(node.snapshots / paths[-1]))
    node.libernet(*options)
    assert _snapshots(node) == paths[-1:]
    assert_same(kept, picture(node.snapshots / paths[-1]))
    node.libernet("check", "--read")
