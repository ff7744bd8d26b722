"""libernet repair, as a person types it."""

import json
from pathlib import Path

import pytest

from libernet.fs.commands import main
from libernet.fs.lock import StateLock, holder
from tests.support.sound_state import BrokenState


def run(state: BrokenState, *words: str) -> int:
    return main(["--state", str(state.folder), *words])


def test_repair_tells_what_it_does_and_check_is_clean_then(
    state: BrokenState, capsys: pytest.CaptureFixture[str]
) -> None:
    state.run("UPDATE inode SET nlink = 5 WHERE ino = {b/fifo}")
    told = "backups/b/fifo: it counted 5 links, now 1\n"
    assert run(state, "repair", "--dry-run") == 0
    assert capsys.readouterr().out == f"{told}1 thing would be repaired\n"
    assert run(state, "check") == 1
    capsys.readouterr()
    assert run(state, "repair") == 0
    assert capsys.readouterr().out == f"{told}1 thing was repaired\n"
    assert run(state, "repair") == 0
    assert run(state, "check") == 0
    assert capsys.readouterr().out == "nothing to do\nall is well\n"
    assert holder(state.folder) is None


def test_repair_answers_in_json_too(state: BrokenState, capsys: pytest.CaptureFixture[str]) -> None:
    state.run("UPDATE inode SET nlink = 5 WHERE ino = {b/fifo}")
    assert run(state, "repair", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "deeds": [{"where": "backups/b/fifo", "sentence": "it counted 5 links, now 1"}],
        "dry_run": False,
    }


def test_what_is_mounted_is_not_repaired(
    state: BrokenState, capsys: pytest.CaptureFixture[str]
) -> None:
    state.run("UPDATE inode SET nlink = 5 WHERE ino = {b/fifo}")
    with StateLock.acquire(state.folder, Path("/mnt")):
        assert run(state, "repair") == 1
    assert "Unmount it with" in capsys.readouterr().err
    assert state.broken() != set()


def test_there_must_be_something_to_repair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state", str(tmp_path / "none"), "repair"]) == 1
    assert main(["--state", str(tmp_path), "repair"]) == 1
    assert capsys.readouterr().err.count("there is nothing to") == 2
