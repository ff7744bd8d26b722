import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import libernet
from libernet.blocks.errors import LibernetError
from libernet.fs.amounts import seconds_text, size_text
from libernet.fs.commands import main
from libernet.fs.control import ControlServer, Handler
from libernet.fs.lock import StateLock

REFERENCE = f"/sha256/{'1' * 64}/aes256gcm/{'2' * 64}"

STATUS: dict[str, Any] = {
    "mountpoint": "/home/ada/Libernet",
    "pid": 4711,
    "version": "1.2",
    "not_durable": {"files": 2, "bytes": 1536},
    "backups": [
        {
            "name": "photos",
            "published": "2026-11-21T20.31.05Z",
            "reference": REFERENCE,
            "unpublished": True,
        },
        {
            "name": "tax",
            "published": "2026-11-21T20.31.06Z",
            "reference": REFERENCE,
            "unpublished": False,
        },
        {"name": "new", "published": None, "reference": None, "unpublished": True},
    ],
    "store": {"blocks": 1, "bytes": 3 * 1024**3},
}


async def _snapshot(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments != {"name": "photos"}:
        raise LibernetError(f"there is no backup {arguments['name']!r}")
    return {"reference": REFERENCE}


async def _sync(arguments: dict[str, Any]) -> dict[str, Any]:
    return {}


async def _status(arguments: dict[str, Any]) -> dict[str, Any]:
    return STATUS


HANDLERS: dict[str, Handler] = {"snapshot": _snapshot, "sync": _sync, "status": _status}


@pytest.fixture
async def mounted(tmp_path: Path, nursery: trio.Nursery) -> Path:
    await nursery.start(ControlServer(tmp_path, HANDLERS).run)
    return tmp_path


async def _run(state: Path, *arguments: str) -> int:
    return await trio.to_thread.run_sync(main, ["--state", str(state), *arguments])


async def test_snapshot_prints_the_reference_and_nothing_else(
    mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _run(mounted, "snapshot", "photos") == 0
    assert capsys.readouterr() == (f"{REFERENCE}\n", "")


async def test_snapshot_of_an_unknown_backup_fails_in_one_sentence(
    mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _run(mounted, "snapshot", "none") == 1
    assert capsys.readouterr() == ("", "libernet: there is no backup 'none'\n")


async def test_sync_says_nothing_when_all_is_well(
    mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _run(mounted, "sync") == 0
    assert capsys.readouterr() == ("", "")


async def test_status_is_readable(mounted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await _run(mounted, "status") == 0
    assert capsys.readouterr().out == (
        "mounted     /home/ada/Libernet (pid 4711, version 1.2)\n"
        "durable     all but 2 files, 1.5 KiB\n"
        "store       1 block, 3.0 GiB\n"
        "backups     3\n"
        "  photos  published 2026-11-21T20.31.05Z, changed since\n"
        "  tax     published 2026-11-21T20.31.06Z\n"
        "  new     not yet published\n"
    )


async def test_names_move_no_cursor_where_people_read_them(
    tmp_path: Path, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2J\nall is well\udcff"

    async def status(arguments: dict[str, Any]) -> dict[str, Any]:
        return STATUS | {"backups": [{"name": name, "published": None}]}

    await nursery.start(ControlServer(tmp_path, {"status": status}).run)
    assert await _run(tmp_path, "status") == 0
    assert "  ?[2J?all is well?  not yet published\n" in capsys.readouterr().out
    assert await _run(tmp_path, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backups"][0]["name"] == name


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["status"], STATUS),
        (["snapshot", "photos"], {"reference": REFERENCE}),
        (["sync"], {}),
    ],
)
async def test_each_command_answers_in_json_too(
    mounted: Path, arguments: list[str], answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _run(mounted, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize("command", [["status"], ["sync"], ["snapshot", "x"], ["unmount"]])
def test_without_a_mount_each_command_says_how_to_make_one(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state", str(tmp_path), *command]) == 1
    assert capsys.readouterr().err == (
        f"libernet: no Libernet is mounted with the state folder {tmp_path}. "
        f"Mount it with: mount.libernet --state {tmp_path} MOUNTPOINT\n"
    )


def test_unmount_of_a_mount_that_is_gone_waits_for_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited_for = []

    def released(data: Path, seconds: float, *, pid: int | None = None) -> bool:
        waited_for.append(data)
        return False

    monkeypatch.setattr("libernet.fs.unmount_command.wait_released", released)
    with StateLock.acquire(tmp_path, tmp_path / "mnt"):
        assert main(["--state", str(tmp_path), "unmount"]) == 1
    assert waited_for == [tmp_path]
    assert re.fullmatch(
        r"libernet: .* is unmounted, but pid \d+ is still writing to disk\. .*\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("arguments", [[], ["stattus"], ["snapshot"], ["sync", "--fast"]])
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("libernet: ")
    assert said.count("\n") == 1
    assert said.endswith("--help\n")


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"libernet {libernet.__version__}\n"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1024**4, "1.0 TiB")],
)
def test_sizes_are_written_in_the_largest_unit_that_fits(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.0004, "0.4 ms"), (0.012, "12 ms"), (1.0, "1 s"), (59.0, "59 s"), (60.0, "1 min")),
        *((7200.0, "2 h"), (86400.0 * 3, "3 d")),
    ],
)
def test_durations_are_too(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_every_command_of_the_list_can_be_imported_and_has_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^  ([a-z]+) ", capsys.readouterr().out.partition("Commands:")[2], re.M)
    assert {"gc", "open", "snapshot", "unmount"} <= set(listed)
    for name in listed:
        assert main([name, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: libernet {name} ")


def test_a_command_that_only_asks_imports_nothing_of_the_mount(tmp_path: Path) -> None:
    asked = f"main(['--state', {str(tmp_path)!r}, 'sync'])"
    code = f"import sys; from libernet.fs.commands import main; {asked}; print(*sys.modules)"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    imported = set(outcome.stdout.decode().split())
    assert "libernet.fs.control_client" in imported
    assert imported.isdisjoint({"trio", "cryptography", "msgspec", "libernet.fs.node"})
