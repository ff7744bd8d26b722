import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from libernet.blocks.errors import FormatError, LibernetError, StoreFull, UnknownVersion
from libernet.fs.control import MAX_REQUEST_BYTES, REQUEST_SECONDS, ControlServer, Tell
from libernet.fs.control_client import ask, short_address

TEXTS = {"a": ["b", 1, None], "ü\udcff": {}}


async def _echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


async def _full(arguments: dict[str, Any]) -> dict[str, Any]:
    raise StoreFull("no space is left")


async def _missing(arguments: dict[str, Any]) -> dict[str, Any]:
    raise FileNotFoundError(2, "No such file or directory", "backups/x")


async def _bug(arguments: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("oh")


class _Counting:
    """A command that sends notes; `was_cancelled` when its client ended before it did."""

    def __init__(self) -> None:
        self.was_cancelled = trio.Event()

    async def __call__(self, arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
        for number in range(arguments["notes"]):
            await tell({"number": number, "padding": "x" * arguments.get("padding", 0)})
        try:
            if arguments.get("forever"):
                await trio.sleep_forever()
        except trio.Cancelled:
            self.was_cancelled.set()
            raise
        if arguments.get("fails"):
            raise StoreFull("no space is left")
        return {"counted": arguments["notes"]}


@pytest.fixture
def counting() -> _Counting:
    return _Counting()


@pytest.fixture
async def folder(tmp_path: Path, nursery: trio.Nursery, counting: _Counting) -> Path:
    """A folder with a running server, deeper than the 107 bytes of a socket's address."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    handlers = {"echo": _echo, "full": _full, "missing": _missing, "bug": _bug}
    await nursery.start(ControlServer(deep, handlers, {"count": counting}).run)
    return deep


async def _ask(folder: Path, command: str, arguments: dict[str, Any] | None = None) -> Any:
    return await trio.to_thread.run_sync(ask, folder, command, arguments)


async def _say(folder: Path, line: bytes) -> dict[str, Any]:
    """Send raw bytes and return the reply's object."""
    async with await _connected(folder) as stream:
        await stream.send_all(line)
        received = b""
        with trio.fail_after(10):
            while not received.endswith(b"\n"):
                received += await stream.receive_some()
    reply: dict[str, Any] = json.loads(received)
    return reply


async def _connected(folder: Path) -> trio.SocketStream:
    connection = socket.socket(socket.AF_UNIX)
    with short_address(folder) as address:
        connection.connect(address)
    return trio.SocketStream(trio.socket.from_stdlib_socket(connection))


async def test_a_command_gets_its_arguments_and_the_caller_the_answer(folder: Path) -> None:
    assert await _ask(folder, "echo", TEXTS) == TEXTS
    assert await _ask(folder, "echo") == {}


@pytest.mark.parametrize("padding", [0, 100_000])
async def test_notes_come_in_order_before_the_answer(folder: Path, padding: int) -> None:
    notes: list[dict[str, Any]] = []
    arguments = {"notes": 20, "padding": padding}
    answer = await trio.to_thread.run_sync(
        lambda: ask(folder, "count", arguments, hear=notes.append)
    )
    assert answer == {"counted": 20}
    assert [note["number"] for note in notes] == list(range(20))
    assert await _ask(folder, "count", {"notes": 3}) == {"counted": 3}


async def test_an_error_comes_behind_notes(folder: Path) -> None:
    with pytest.raises(StoreFull, match="no space is left"):
        await _ask(folder, "count", {"notes": 1, "fails": True})


async def test_a_command_with_notes_ends_with_its_client(folder: Path, counting: _Counting) -> None:
    stream = await _connected(folder)
    request = {"version": 1, "command": "count", "arguments": {"notes": 1, "forever": True}}
    await stream.send_all(json.dumps(request).encode() + b"\n")
    assert b"note" in await stream.receive_some()
    await stream.aclose()
    with trio.fail_after(10):
        await counting.was_cancelled.wait()


async def test_a_request_may_come_while_another_tells(folder: Path) -> None:
    async with await _connected(folder) as stream:
        for _ in range(2):
            request = {"version": 1, "command": "count", "arguments": {"notes": 2}}
            await stream.send_all(json.dumps(request).encode() + b"\n")
        received = b""
        with trio.fail_after(10):
            while received.count(b"\n") < 6:
                received += await stream.receive_some()
    assert [list(json.loads(line))[1] for line in received.splitlines()] == [
        *("note", "note", "answer"),
        *("note", "note", "answer"),
    ]


async def test_an_error_of_ours_arrives_as_the_same_class(folder: Path) -> None:
    with pytest.raises(StoreFull, match="no space is left"):
        await _ask(folder, "full")


async def test_an_error_of_the_system_arrives_with_its_file(folder: Path) -> None:
    with pytest.raises(LibernetError, match="backups/x: No such file or directory"):
        await _ask(folder, "missing")


async def test_a_bug_in_a_command_is_logged_and_the_server_goes_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LibernetError, match=r"fault of Libernet itself: ZeroDivisionError"):
        await _ask(folder, "bug")
    assert "Traceback" in caplog.text
    assert await _ask(folder, "echo", {"still": "here"}) == {"still": "here"}


async def test_an_unknown_command_is_refused(folder: Path) -> None:
    with pytest.raises(FormatError, match="does not know the command 'fly'"):
        await _ask(folder, "fly")


async def test_only_the_owner_may_open_the_socket(folder: Path) -> None:
    mode = (folder / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"\n", "FormatError"),
        (b"[]\n", "FormatError"),
        (b"\xff\n", "FormatError"),
        (b"[" * 50_000 + b"\n", "FormatError"),
        (b"{}\n", "UnknownVersion"),
        (b'{"version": 2, "command": "echo"}\n', "UnknownVersion"),
        (b'{"version": 1}\n', "FormatError"),
        (b'{"version": 1, "command": ["echo"]}\n', "FormatError"),
        (b'{"version": 1, "command": "echo", "arguments": []}\n', "FormatError"),
        (b"x" * (2 * MAX_REQUEST_BYTES), "FormatError"),
    ],
)
async def test_a_malformed_request_is_answered_with_what_is_wrong(
    folder: Path, line: bytes, kind: str
) -> None:
    reply = await _say(folder, line)
    assert reply["kind"] == kind
    assert await _ask(folder, "echo") == {}


async def test_one_connection_carries_several_requests(folder: Path) -> None:
    request = b'{"version": 1, "command": "echo", "arguments": {"n": 1}}\n'
    async with await _connected(folder) as stream:
        await stream.send_all(request * 2)
        received = b""
        while received.count(b"\n") < 2:
            received += await stream.receive_some()
    assert received == b'{"version": 1, "answer": {"n": 1}}\n' * 2


async def test_a_client_that_leaves_early_does_no_harm(folder: Path) -> None:
    async with await _connected(folder) as stream:
        await stream.send_all(b'{"version": 1, "comm')
    assert await _ask(folder, "echo") == {}


async def test_a_client_that_says_nothing_is_hung_up_on(
    folder: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with await _connected(folder) as stream:
        assert await stream.receive_some() == b""
    assert trio.current_time() >= REQUEST_SECONDS


async def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left, short_address(tmp_path) as address:
        left.bind(address)
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(tmp_path, {"echo": _echo}).run)
        assert await _ask(tmp_path, "echo") == {}
        nursery.cancel_scope.cancel()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("left_behind", [True, False])
def test_without_a_server_the_person_is_told_how_to_mount(
    tmp_path: Path, left_behind: bool
) -> None:
    if left_behind:
        with socket.socket(socket.AF_UNIX) as left, short_address(tmp_path) as address:
            left.bind(address)
    expected = (
        f"no Libernet is mounted with the state folder {tmp_path}. "
        f"Mount it with: mount.libernet --state {tmp_path} MOUNTPOINT"
    )
    with pytest.raises(LibernetError) as caught:
        ask(tmp_path, "status")
    assert str(caught.value) == expected


def test_a_missing_state_folder_is_told_the_same(tmp_path: Path) -> None:
    with pytest.raises(LibernetError, match="no Libernet is mounted"):
        ask(tmp_path / "none", "status")


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent, short_address(tmp_path) as address:
        silent.bind(address)
        silent.listen()
        with pytest.raises(LibernetError, match=r"did not answer within 0\.05 seconds"):
            ask(tmp_path, "status", timeout=0.05)


async def test_a_version_from_the_future_is_named(folder: Path) -> None:
    reply = await _say(folder, b'{"version": 9, "command": "echo"}\n')
    assert reply["kind"] == UnknownVersion.__name__
    assert "speaks version 1 with commands, this one 9" in reply["error"]
