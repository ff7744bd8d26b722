"""libernet check, on a state folder at rest and in the running node."""

import json
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import FormatError, StoreError
from libernet.fs.commands import main
from libernet.fs.control import ControlServer
from libernet.fs.journal import Journal
from libernet.fs.lock import Phase, StateLock, holder
from tests.support.sharing import sharing_node
from tests.support.sound_state import BrokenState


def run(state: BrokenState, *arguments: str) -> int:
    return main(["--state", str(state.folder), "check", *arguments])


def test_a_sound_state_is_well(state: BrokenState, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state) == 0
    assert run(state, "--read", "--rate", "1e9") == 0
    assert capsys.readouterr() == ("all is well\nall is well\n", "")


def test_a_fault_is_printed_with_its_path(
    state: BrokenState, capsys: pytest.CaptureFixture[str]
) -> None:
    state.run("UPDATE inode SET nlink = 5 WHERE ino = {b/fifo}")
    assert run(state) == 1
    assert capsys.readouterr().out == (
        "damage: backups/b/fifo: it counts 5 links and has 1\n1 fault found\n"
    )
    assert run(state, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "findings": [
            {
                "rule": "link-count",
                "severity": "damage",
                "where": "backups/b/fifo",
                "sentence": "it counts 5 links and has 1",
                "block": "",
            }
        ],
        "is_all": True,
    }


def test_a_note_is_no_fault(state: BrokenState, capsys: pytest.CaptureFixture[str]) -> None:
    (state.folder / "store" / "blocks" / "07" / ("07" * 32)).write_bytes(b"stray")
    assert run(state) == 0
    assert "note: " in capsys.readouterr().out


def test_what_cannot_be_checked_ends_with_2_and_a_sentence(
    state: BrokenState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state", str(tmp_path / "none"), "check"]) == 2
    assert main(["--state", str(tmp_path), "check"]) == 2
    state.run("PRAGMA user_version = 1")
    assert run(state) == 2
    state.run("PRAGMA user_version = 999")
    assert run(state) == 2
    (state.folder / "journal.sqlite").write_bytes(b"no database at all" * 200)
    assert run(state) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert all(line.startswith("libernet: ") for line in said)


def test_while_somebody_starts_with_the_folder_it_cannot_be_checked(
    state: BrokenState, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateLock.acquire(state.folder, Path("/mnt")):
        assert run(state) == 2
    assert "is in use by pid" in capsys.readouterr().err
    with StateLock.acquire(state.folder, Path("/mnt"), phase=Phase.CHECKING):
        assert run(state) == 2
    assert "is being checked, repaired or read by pid" in capsys.readouterr().err
    assert run(state) == 0
    assert holder(state.folder) is None


async def test_a_running_node_checks_itself_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nursery: trio.Nursery
) -> None:
    folder = tmp_path / "state"
    async with sharing_node(folder) as node:
        await nursery.start(ControlServer(folder, node.handlers).run)
        await node.caller.mkdir("backups/b")
        await node.caller.create("backups/b/file", b"content")
        await node.node.namespace.durable()
        with StateLock.acquire(folder, tmp_path, phase=Phase.MOUNTED):
            assert await trio.to_thread.run_sync(main, ["--state", str(folder), "check"]) == 0
            assert capsys.readouterr().out == "all is well\n"
            await node.caller.create("backups/b/later", b"content")
            _break(node.storage.journal, (await node.caller.stat("backups/b/file")).ino)
            command = ["--state", str(folder), "check", "--read"]
            assert await trio.to_thread.run_sync(main, command) == 1
            assert "backups/b/file: it counts 7 links" in capsys.readouterr().out
            with node.store.collecting():
                assert await trio.to_thread.run_sync(main, command) == 2
            assert "collect" in capsys.readouterr().err
        _break(node.storage.journal, (await node.caller.stat("backups/b/file")).ino, links=1)
        nursery.cancel_scope.cancel()


async def test_a_running_node_refuses_a_rate_that_is_none(tmp_path: Path) -> None:
    async with sharing_node(tmp_path / "state") as node:
        for rate in (0, -1, "fast"):
            with pytest.raises(FormatError):
                await node.command("check", rate=rate)
        with node.store.collecting(), pytest.raises(StoreError):
            await node.command("check")


def _break(journal: Journal, ino: int, *, links: int = 7) -> None:
    with journal.transaction() as connection:
        connection.execute("UPDATE inode SET nlink = ? WHERE ino = ?", (links, ino))
