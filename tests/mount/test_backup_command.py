"""libernet backup in a real mount: what the kernel shows, what it skips, and what survives."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine_tree import make_odd_tree
from tests.support.node import BIN, Node, until
from tests.support.tree import assert_same, picture

_ALONE = ("--bind", "127.0.0.1", "--port", "0")


def _backup(node: Node, *arguments: str | Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(node.libernet("backup", *map(str, arguments), "--json"))
    return answer


def test_an_odd_folder_is_in_the_mount_as_it_is(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    make_odd_tree(source)
    node.mount(*_ALONE)
    _backup(node, source, "b")
    assert_same(picture(source), picture(node.backups / "b"))
    node.remount(*_ALONE)
    assert _backup(node, source, "b")["bytes_read"] == 0
    assert_same(picture(source), picture(node.backups / "b"))


def test_the_kernel_shows_what_changed_although_it_was_looked_at(
    node: Node, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "kept").mkdir(parents=True)
    (source / "gone").mkdir()
    for name in ("kept/file", "gone/file", "grows", "shrinks"):
        (source / name).write_bytes(b"before" * 10_000)
    node.mount(*_ALONE)
    _backup(node, source)
    copy = node.backups / "source"
    assert_same(picture(source), picture(copy))  # all is in the kernel's caches now
    assert not (copy / "new").exists()
    assert not (copy / "kept" / "new").exists()
    with (copy / "grows").open("rb") as held:
        (source / "grows").write_bytes(b"after" * 20_000)
        (source / "shrinks").write_bytes(b"less")
        (source / "new").write_bytes(b"new")
        (source / "kept" / "new").write_bytes(b"new")
        (source / "gone" / "file").unlink()
        (source / "gone").rmdir()
        _backup(node, source)
        assert held.read() == b"after" * 20_000
    assert_same(picture(source), picture(copy))
    assert (node.snapshots / "source" / "latest" / "shrinks").read_bytes() == b"less"


def test_of_a_mount_in_a_folder_only_the_folder_is_kept(node: Node, tmp_path: Path) -> None:
    node.mount(*_ALONE)
    (tmp_path / "file").write_bytes(b"content")
    outcome = node.try_libernet("backup", str(tmp_path), "b")
    assert outcome.exit_code == 0
    assert f"skipped: {node.mountpoint}: is a mount of Libernet's" in outcome.err
    assert (node.backups / "b" / "file").read_bytes() == b"content"
    assert os.listdir(node.backups / "b" / "node" / "Libernet") == []
    outcome = node.try_libernet("restore", "snapshots/b/latest", str(tmp_path))
    assert (outcome.exit_code, str(node.mountpoint) in outcome.err) == (0, True)
    outcome = node.try_libernet("backup", str(node.backups / "b"), "c")
    assert outcome.exit_code == 1
    assert "Libernet's own" in outcome.err


def test_a_backup_gets_tags_and_a_note(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    node.mount(*_ALONE)
    _backup(node, source, "--tag", "before-move,work", "--note", "as it was")
    _backup(node, source, "--tag", "again")  # nothing changed: the same snapshot
    (source / "file").write_bytes(b"new")
    _backup(node, source)
    found = json.loads(node.libernet("snapshots", "--json"))
    assert [(each["tags"], each["note"]) for each in found] == [
        (["again", "before-move", "work"], "as it was"),
        ([], ""),
    ]
    (source / "more").write_bytes(b"more")
    outcome = node.try_libernet("backup", str(source), "--tag", "x" * 256)
    assert (outcome.exit_code, "can be no tag" in outcome.err) == (1, True)
    assert not (node.backups / "source" / "more").exists()  # it was refused before anything began


def test_a_file_of_patterns_holds_bytes(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = {b"caf\xe9", b"form\x0cfeed", b"feed", b"first", b"last", b"kept"}
    for name in names:
        (source / os.fsdecode(name)).write_bytes(b"content")
    patterns = tmp_path / "patterns"
    patterns.write_bytes(b"\xef\xbb\xbffirst\r\ncaf\xe9\nform\x0cfeed\nlast")
    node.mount(*_ALONE)
    _backup(node, source, "b", "--exclude-file", patterns)
    assert set(os.listdir(os.fsencode(node.backups / "b"))) == {b"feed", b"kept"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_of_another_file_system_only_the_folder_is_kept_when_asked(
    node: Node, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "other").mkdir(parents=True)
    (source / "file").write_bytes(b"here")
    node.mount(*_ALONE)
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "other"], check=True)
    try:
        (source / "other" / "file").write_bytes(b"there")
        _backup(node, source, "-x")
        assert sorted(os.listdir(node.backups / "source")) == ["file", "other"]
        assert os.listdir(node.backups / "source" / "other") == []
        _backup(node, source)
        assert (node.backups / "source" / "other" / "file").read_bytes() == b"there"
        _backup(node, source, "-x")
        assert os.listdir(node.backups / "source" / "other") == []
    finally:
        subprocess.run(["umount", source / "other"], check=True)


def test_options_are_read_and_wrong_ones_told(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.o", "b.c", "large", "secret"):
        (source / name).write_bytes(b"x" * (2000 if name == "large" else 10))
    (tmp_path / "patterns").write_text("# what nobody needs\n\nsecret\n")
    node.mount(*_ALONE)
    rules = ["-e", "*.o", "--exclude-file", str(tmp_path / "patterns")]
    dry = _backup(node, source, "b", *rules, "--exclude-larger-than", "1k", "--dry-run")
    assert (dry["files_new"], dry["left_out"]) == (1, 3)
    assert os.listdir(node.backups) == []
    _backup(node, source, "b", *rules, "--exclude-larger-than", "1k")
    assert os.listdir(node.backups / "b") == ["b.c"]
    shown = node.libernet("backup", str(source), "b")
    assert "3 new, 0 changed, 1 unmodified" in shown
    assert f"snapshot    {os.readlink(node.snapshots / 'b' / 'latest')}" in shown
    for wrong in (["--exclude-larger-than", "much"], ["x", "y", "z"]):
        outcome = node.try_libernet("backup", str(source), *wrong)
        assert (outcome.exit_code, outcome.out) == (2, "")


def _many(source: Path) -> None:
    source.mkdir()
    for number in range(3000):
        (source / f"{number:04}").write_bytes(os.urandom(5000))


def test_an_interrupted_backup_goes_on(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _many(source)
    node.mount(*_ALONE)
    command = [BIN / "libernet", "--state", node.state, "backup", source]
    with subprocess.Popen(command, env=node.environment, stdout=subprocess.DEVNULL) as client:
        folder = node.backups / "source"
        until(lambda: folder.exists() and len(os.listdir(folder)) > 100)
        client.send_signal(signal.SIGINT)
    until(lambda: _is_idle(node, source))
    assert_same(picture(source), picture(node.backups / "source"))


def _is_idle(node: Node, source: Path) -> bool:
    """Back up again, which is refused while the first is still being ended."""
    outcome = node.try_libernet("backup", str(source), "--json")
    assert outcome.exit_code == 0 or "already" in outcome.err
    return outcome.exit_code == 0


def test_a_kill_in_the_middle_costs_what_was_not_durable(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _many(source)
    node.mount(*_ALONE)
    command = [BIN / "libernet", "--state", node.state, "backup", source]
    with subprocess.Popen(
        command, env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as client:
        time.sleep(0.5)
        node.kill()
        client.communicate()
    subprocess.run(["umount", "-i", "-l", node.mountpoint], check=True)
    node.mount(*_ALONE)
    _backup(node, source)
    assert_same(picture(source), picture(node.backups / "source"))


def test_a_pattern_may_begin_with_the_path_and_one_without_effect_is_told(
    node: Node, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("#draft", "kept", "sub/gone", "sub/kept"):
        (source / name).write_bytes(b"content")
    node.mount(*_ALONE)
    patterns = ("#draft", f"{source}/sub/*", f"!{source}/sub/kept", "source/kept", "kept/")
    arguments = [each for pattern in patterns for each in ("-e", pattern)]
    shown = node.libernet("backup", str(source), "b", *arguments)
    assert shown.splitlines()[-2:] == ["unmatched   kept/", "unmatched   source/kept"]
    assert {*os.listdir(node.backups / "b"), *os.listdir(node.backups / "b" / "sub")} == {
        *("kept", "sub")
    }
    answer = _backup(node, source, "b", *arguments)
    assert answer["unmatched"] == ["source/kept", "kept/"]
