"""libernet check and repair, beside a mount and without one."""

import contextlib
import json
import os
import sqlite3

import pytest

from tests.support.node import Node


def found(node: Node, *options: str) -> tuple[int, set[tuple[str, str]]]:
    """Return how the check ended, and which rules it found broken where."""
    outcome = node.try_libernet("check", "--json", *options)
    findings = json.loads(outcome.out)["findings"]
    return outcome.exit_code, {(each["rule"], each["where"]) for each in findings}


def test_a_node_is_checked_while_it_is_written_to_and_when_it_is_not_mounted(node: Node) -> None:
    node.mount("--checkpoint-seconds", "0.05", "--publish-after-seconds", "0")
    (node.backups / "b").mkdir()
    for number in range(20):
        (node.backups / "b" / f"file {number}").write_bytes(os.urandom(150_000))
        assert found(node, "--read", "--rate", "1e9") == (0, set())
    file = os.open(node.backups / "b" / "open", os.O_RDWR | os.O_CREAT)
    os.unlink(node.backups / "b" / "open")
    os.write(file, b"without a name")
    assert found(node) == (0, set())
    node.libernet("sync")
    node.kill()
    with contextlib.suppress(OSError):
        os.close(file)
    assert found(node, "--read") == (0, set())
    assert node.libernet("repair") == "nothing to do\n"
    node.mount()
    assert len(os.listdir(node.backups / "b")) == 20


def test_what_is_damaged_is_found_while_mounted_and_repaired_when_not(node: Node) -> None:
    node.mount()
    (node.backups / "b" / "sub").mkdir(parents=True)
    (node.backups / "b" / "sub" / "file").write_bytes(b"content")
    node.unmount()
    with sqlite3.connect(node.state / "journal.sqlite") as journal:
        journal.execute("DELETE FROM entry WHERE name = CAST('sub' AS BLOB)")
    journal.close()
    node.broken |= {"unreachable", "link-count"}
    node.mount()
    exit_code, broken = found(node)
    assert exit_code == 1
    assert {rule for rule, _ in broken} == {"unreachable", "link-count"}
    refused = node.try_libernet("repair")
    assert refused.exit_code == 1
    assert "Unmount it with" in refused.err
    node.unmount()

    assert "found again" in node.libernet("repair")

    node.broken.clear()
    node.mount()
    [folder] = (node.backups / "b" / "lost+found").iterdir()
    assert (folder / "file").read_bytes() == b"content"
    assert found(node, "--read") == (0, set())


@pytest.mark.announces("is damaged", "sealing .* failed")
def test_a_block_that_rots_is_found_beside_the_mount_with_the_files_that_need_it(
    node: Node,
) -> None:
    node.mount()
    (node.backups / "b").mkdir()
    (node.backups / "b" / "file").write_bytes(os.urandom(300_000))
    node.snapshot("b")
    [block] = (node.state / "store" / "blocks").glob("*/*")
    block.write_bytes(bytes(block.stat().st_size))
    assert found(node) == (0, set())
    node.broken |= {"store-damaged", "block-missing"}
    exit_code, broken = found(node, "--read")
    assert exit_code == 1
    assert ("block-missing", "backups/b/file") in broken
    assert ("store-damaged", f"block {block.name}") in broken
