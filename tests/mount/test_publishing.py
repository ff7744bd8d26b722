"""What is not durable or not published yet, how a person sees it, and how it becomes both."""

import os
from pathlib import Path

from tests.support.node import Node, until

_NEVER_BY_ITSELF = ("--checkpoint-seconds", "4", "--publish-after-seconds", "86400")


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_status_tells_what_is_not_durable_and_not_published(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    status = node.status()
    assert status["mountpoint"] == str(node.mountpoint)
    assert status["pid"] == node.pid
    assert status["backups"] == []

    (node.backups / "a").mkdir()
    (node.backups / "a" / "file").write_bytes(b"x" * 5000)
    status = node.status()
    assert status["not_durable"] == {"changes": True, "files": 1, "bytes": 5000}
    assert [backup["name"] for backup in status["backups"]] == ["a"]

    node.libernet("sync")
    status = node.status()
    assert status["not_durable"] == {"changes": False, "files": 0, "bytes": 0}
    assert status["backups"] == [
        {"name": "a", "published": None, "reference": None, "unpublished": True}
    ]

    reference = node.snapshot("a")
    status = node.status()
    [name] = [name for name in _names(node.snapshots / "a") if name != "latest"]
    assert status["backups"] == [
        {"name": "a", "published": name, "reference": reference, "unpublished": False}
    ]
    assert status["store"]["blocks"] >= 2

    (node.backups / "a" / "file").chmod(0o600)
    node.libernet("sync")
    [backup] = node.status()["backups"]
    assert (backup["published"], backup["unpublished"]) == (name, True)
    assert "changed since" in node.libernet("status")


def test_a_change_is_durable_after_a_while_without_any_sync(node: Node) -> None:
    node.mount("--checkpoint-seconds", "0.1")
    (node.backups / "a").mkdir()
    (node.backups / "a" / "file").write_text("durable in time")
    until(lambda: not node.status()["not_durable"]["changes"])
    node.kill()
    node.mount()
    assert (node.backups / "a" / "file").read_text() == "durable in time"


def test_a_quiet_backup_publishes_itself_each_time_it_changed(node: Node) -> None:
    node.state.mkdir(mode=0o700)
    config = "publish_after_seconds = 0.1\ncheckpoint_seconds = 0.1\n"
    (node.state / "config.toml").write_text(config)
    node.mount()
    (node.backups / "a").mkdir()
    (node.backups / "a" / "file").write_text("first")
    shown = node.snapshots / "a" / "latest" / "file"
    until(lambda: shown.exists() and shown.read_text() == "first")
    (node.backups / "a" / "file").write_text("second")
    until(lambda: shown.read_text() == "second")
    assert _names(node.snapshots) == ["a"]


def test_a_snapshot_of_what_did_not_change_is_the_one_there_is(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    (node.backups / "a").mkdir()
    (node.backups / "a" / "file").write_text("once")
    reference = node.snapshot("a")
    assert node.snapshot("a") == reference
    names = _names(node.snapshots / "a")
    node.remount()
    assert node.snapshot("a") == reference
    assert _names(node.snapshots / "a") == names


def test_equal_content_is_stored_once(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    content = os.urandom(3_000_000)
    for name in ("a", "b"):
        (node.backups / name).mkdir()
        for number in range(3):
            (node.backups / name / str(number)).write_bytes(content)
        node.snapshot(name)
    assert 3_000_000 < node.status()["store"]["bytes"] < 3_100_000


def test_a_removed_or_renamed_backup_keeps_its_snapshots(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    for name in ("renamed", "removed"):
        (node.backups / name).mkdir()
        (node.backups / name / "file").write_text(name)
        node.snapshot(name)
    (node.backups / "renamed").rename(node.backups / "new name")
    (node.backups / "removed" / "file").unlink()
    (node.backups / "removed").rmdir()
    node.remount()
    assert _names(node.backups) == ["new name"]
    assert _names(node.snapshots) == ["new name", "removed"]
    assert (node.snapshots / "new name" / "latest" / "file").read_text() == "renamed"
    first, *_ = _names(node.snapshots / "removed")
    assert (node.snapshots / "removed" / first / "file").read_text() == "removed"


def test_a_snapshot_of_an_unknown_backup_names_those_that_are(node: Node) -> None:
    node.mount()
    (node.backups / "photos").mkdir()
    refused = node.try_libernet("snapshot", "fotos")
    assert (refused.exit_code, refused.out) == (1, "")
    assert refused.err == "libernet: there is no backup 'fotos'; the backups are: photos\n"


def test_a_backup_whose_name_is_no_text_can_be_published(node: Node) -> None:
    node.mount()
    name = os.fsdecode(b"caf\xe9")
    (node.backups / name).mkdir()
    (node.backups / name / "file").write_text("x")
    reference = node.snapshot(name)
    assert (node.at(reference) / "file").read_text() == "x"
    assert node.status()["backups"][0]["name"] == name
    assert "caf" in node.libernet("status")
