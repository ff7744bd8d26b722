"""libernet restore: trees come back as they were, past the kernel, and go on where they were."""

import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine_tree import make_odd_tree
from tests.support.node import BIN, Node, Outcome, running, until
from tests.support.tree import assert_same, picture

_ALONE = ("--bind", "127.0.0.1", "--port", "0")
_MIB = 1024 * 1024


def _restore(node: Node, *arguments: str | Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(node.libernet("restore", *map(str, arguments), "--json"))
    return answer


@pytest.fixture
def source(node: Node, tmp_path: Path) -> Path:
    """A folder that was backed up as `b`."""
    folder = tmp_path / "source"
    (folder / "docs" / "empty").mkdir(parents=True)
    (folder / "docs" / "small").write_bytes(b"small")
    (folder / "large").write_bytes(os.urandom(5 * _MIB))
    os.link(folder / "large", folder / "docs" / "large too")
    (folder / "link").symlink_to("nowhere")
    os.utime(folder / "docs", ns=(10**18, 10**18 + 1))
    (folder / "docs").chmod(0o711)
    node.mount(*_ALONE)
    node.libernet("backup", str(folder), "b")
    return folder


def test_an_odd_tree_comes_back_as_it_was(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    make_odd_tree(source)
    (source / "with xattrs").write_bytes(b"x")
    os.setxattr(source / "with xattrs", "user.small", b"value")
    os.setxattr(source / "with xattrs", "user.large", b"v" * 3000)
    os.setxattr(source / "names", "user.of a folder", b"value")
    node.mount(*_ALONE)
    node.libernet("backup", str(source), "b")
    target = tmp_path / "new" / "target"
    target.parent.mkdir()
    answer = _restore(node, "snapshots/b/latest", target, "--verify")
    assert answer["errors"] == {}
    assert answer["files_verified"] == answer["files_restored"] > 0
    assert_same(picture(source), picture(target))
    for path, names in {
        "with xattrs": ["user.large", "user.small"],
        "names": ["user.of a folder"],
    }.items():
        assert sorted(os.listxattr(target / path)) == names
        for name in names:
            assert os.getxattr(target / path, name) == os.getxattr(source / path, name)
    sparse = [path for path in (source / "contents").iterdir() if _is_sparse(path)]
    assert sparse
    assert all(_is_sparse(target / "contents" / path.name) for path in sparse)


def _is_sparse(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_blocks * 512 < status.st_size - 65536


def test_what_is_there_is_left_alone_and_what_differs_replaced(
    node: Node, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    _restore(node, "snapshots/b/latest", target)
    inode = (target / "large").stat().st_ino
    (target / "docs" / "small").write_bytes(b"wrong")
    (target / "docs" / "beside").write_bytes(b"stays")
    (target / "link").unlink()
    (target / "link").mkdir()
    (target / "docs" / "empty").rmdir()
    (target / "docs" / "empty").symlink_to("/etc")
    answer = _restore(node, "snapshots/b/latest", target)
    assert (answer["files_restored"], answer["files_unchanged"], answer["bytes_restored"]) == (
        *(1, 1),
        5,
    )
    assert (target / "large").stat().st_ino == inode
    assert (target / "docs" / "beside").read_bytes() == b"stays"
    (target / "docs" / "beside").unlink()
    os.utime(target / "docs", ns=(10**18, 10**18 + 1))
    assert_same(picture(source), picture(target))
    assert not (set(os.listdir(target)) - set(os.listdir(source)))


def test_verify_finds_what_has_the_right_size_and_time(
    node: Node, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    _restore(node, "backups/b", target)
    status = (target / "large").stat()
    with (target / "large").open("r+b") as file:
        file.seek(4 * _MIB)
        file.write(b"one wrong byte"[:1])
    os.utime(target / "large", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert _restore(node, "backups/b", target)["files_restored"] == 0
    answer = _restore(node, "backups/b", target, "--verify")
    assert (answer["files_restored"], answer["files_verified"]) == (1, 2)
    assert_same(picture(source), picture(target))


def test_a_dry_run_writes_nothing(node: Node, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    answer = _restore(node, "backups/b", target, "--dry-run")
    assert (answer["files_restored"], answer["bytes_restored"]) == (2, 5 * _MIB + 5)
    assert not target.exists()
    _restore(node, "backups/b", target)
    (target / "docs" / "small").unlink()
    answer = _restore(node, "backups/b", target, "--dry-run")
    assert (answer["files_restored"], answer["files_unchanged"]) == (1, 1)
    assert not (target / "docs" / "small").exists()


def test_a_part_of_a_tree_and_what_a_reference_opens(
    node: Node, source: Path, tmp_path: Path
) -> None:
    _restore(node, "snapshots/b/latest/docs", tmp_path / "docs")
    assert sorted(os.listdir(tmp_path / "docs")) == ["empty", "large too", "small"]
    _restore(node, str(node.backups / "b" / "docs" / "small"), tmp_path / "file")
    assert (tmp_path / "file" / "small").read_bytes() == b"small"
    reference = node.libernet("share", "backups/b").strip()
    _restore(node, reference, tmp_path / "by reference")
    assert (tmp_path / "by reference" / "large").read_bytes() == (source / "large").read_bytes()
    _restore(node, f"{reference}/docs/small", tmp_path / "file by reference")
    assert (tmp_path / "file by reference" / "small").read_bytes() == b"small"
    node.libernet("open", reference, "opened")
    _restore(node, "bundles/opened/docs", tmp_path / "opened")
    assert (tmp_path / "opened" / "small").read_bytes() == b"small"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices, and give files away")
def test_what_others_made_gets_no_rights(node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "setuid").write_bytes(b"#!/bin/sh")
    os.chown(source / "setuid", 7, 8)
    (source / "setuid").chmod(0o6755)
    os.mknod(source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    node.mount(*_ALONE)
    node.libernet("backup", str(source), "b")
    reference = node.libernet("share", "backups/b").strip()
    outcome = node.try_libernet("restore", reference, str(tmp_path / "theirs"))
    assert outcome.exit_code == 3
    assert outcome.err == (
        f"not restored: {tmp_path}/theirs/device: is a device that somebody else made\n"
    )
    found = (tmp_path / "theirs" / "setuid").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o755, 0, 0)
    _restore(node, "snapshots/b/latest", tmp_path / "ours")
    assert_same(picture(source), picture(tmp_path / "ours"))


def test_what_cannot_be_done_is_told(node: Node, source: Path, tmp_path: Path) -> None:
    outcome = node.try_libernet("restore", "snapshots/none/latest", str(tmp_path / "x"))
    assert outcome == Outcome(1, "", "libernet: there is no 'snapshots/none/latest' in the mount\n")
    outcome = node.try_libernet("restore", "backups/b", str(node.backups / "b"))
    assert outcome.exit_code == 1
    assert "Libernet's own" in outcome.err
    (tmp_path / "file").write_bytes(b"")
    assert node.try_libernet("restore", "backups/b", str(tmp_path / "file")).exit_code == 2
    assert node.try_libernet("restore", f"/sha256/{'0' * 64}", str(tmp_path)).exit_code == 3


@pytest.mark.announces("is missing", "failed")
def test_a_block_that_is_gone_costs_one_file(node: Node, source: Path, tmp_path: Path) -> None:
    node.unmount()
    (node.state / "origins.sqlite").unlink()
    shutil.rmtree(node.state / "store" / "blocks")
    (node.state / "store" / "blocks").mkdir()
    node.broken |= {"store-missing", "block-missing", "document"}
    node.mount(*_ALONE)
    target = tmp_path / "target"
    outcome = node.try_libernet("restore", "snapshots/b/latest", str(target))
    assert outcome.exit_code == 3
    assert f"not restored: {target}/" in outcome.err
    assert (target / "docs" / "small").read_bytes() == b"small"
    assert not (target / "large").exists()


def test_a_tree_of_another_node_is_restored_from_there(
    node: Node, source: Path, tmp_path: Path, nodes: list[Node]
) -> None:
    port = json.loads(node.libernet("peers", "--json"))["listening"]
    reference = node.libernet("share", "backups/b").strip()
    with running(tmp_path / "other", nodes) as other:
        other.mount(*_ALONE, "--private-network", "--peer", f"127.0.0.1:{port}")
        answer = _restore(other, reference, tmp_path / "target", "--verify")
        assert answer["errors"] == {}
    found = picture(tmp_path / "target", top=False, links=False)
    assert {path: look.content for path, look in found.items()} == {
        path: look.content for path, look in picture(source, top=False, links=False).items()
    }


def test_nothing_has_to_be_mounted(node: Node, source: Path, tmp_path: Path) -> None:
    (node.backups / "late").mkdir()
    (node.backups / "late" / "file").write_bytes(b"not published yet")
    asked = (
        ("snapshots", "b"),
        ("find", "small", "--backup", "b"),
        ("diff", "backups/b", "backups/b"),
    )
    answers = [node.libernet(*each) for each in asked]
    node.unmount()
    assert [node.libernet(*each) for each in asked] == answers
    target = tmp_path / "target"
    answer = _restore(node, "snapshots/b/latest", target, "--verify")
    assert (answer["errors"], answer["files_verified"]) == ({}, 2)
    assert_same(picture(source), picture(target))
    _restore(node, "backups/late", tmp_path / "late")
    assert (tmp_path / "late" / "file").read_bytes() == b"not published yet"
    for wrong, exit_code, why in (
        ("snapshots/b/never", 1, "there is no"),
        (f"/sha256/{'0' * 64}/aes256gcm/{'0' * 64}", 3, "is not in the store"),
        (f"{node.mountpoint}/snapshots/b/latest", 1, "no Libernet is mounted"),
    ):
        outcome = node.try_libernet("restore", wrong, str(target))
        assert (outcome.exit_code, why in outcome.err) == (exit_code, True), outcome
        assert "Traceback" not in outcome.err
    node.mount(*_ALONE)
    assert (node.snapshots / "late" / "latest" / "file").read_bytes() == b"not published yet"


def test_without_a_mount_it_can_be_interrupted(node: Node, source: Path, tmp_path: Path) -> None:
    with (source / "larger").open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(_MIB))
    node.libernet("backup", str(source), "b")
    node.unmount()
    target = tmp_path / "target"
    command = [BIN / "libernet", "--state", node.state, "restore", "snapshots/b/latest", target]
    with subprocess.Popen(
        command, env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as begun:
        until(lambda: any(target.glob(".libernet-*")))
        begun.send_signal(signal.SIGINT)
        _, said = begun.communicate(timeout=30)
        assert (begun.returncode, said.strip()) == (130, b"")
    assert _restore(node, "snapshots/b/latest", target)["errors"] == {}
    assert_same(picture(source), picture(target))
    node.mount(*_ALONE)


def test_a_large_file_goes_on_where_a_kill_left_it(
    nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> None:
    content = os.urandom(24 * _MIB)
    target = tmp_path / "target"
    with running(tmp_path / "first", nodes) as first, running(tmp_path / "second", nodes) as second:
        first.mount(*_ALONE, "--private-network")
        (first.backups / "b").mkdir()
        (first.backups / "b" / "large").write_bytes(content)
        reference = first.libernet("share", "backups/b").strip()
        port = json.loads(first.libernet("peers", "--json"))["listening"]
        joining = (*_ALONE, "--private-network", "--peer", f"127.0.0.1:{port}")
        second.state.mkdir()
        config = second.state / "config.toml"
        config.write_text(f"cache_bytes = {_MIB}\ndownload_bytes_per_second = {8 * _MIB}\n")
        second.mount(*joining)
        command = [BIN / "libernet", "--state", second.state, "restore", reference, target]
        with subprocess.Popen(command, env=second.environment, stderr=subprocess.DEVNULL) as begun:
            until(lambda: sum(each.stat().st_size for each in target.glob(".*")) > 10 * _MIB)
            second.kill()
            assert begun.wait(30) == 1
        assert not (target / "large").exists()
        config.write_text(f"cache_bytes = {_MIB}\n")
        second.mount(*joining)
        assert _restore(second, reference, target)["errors"] == {}
        assert second.status()["network"]["fetched"]["bytes"] < 16 * _MIB
        assert (target / "large").read_bytes() == content
        assert os.listdir(target) == ["large"]
