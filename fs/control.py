"""The door through which commands speak to a running mount: a Unix socket, control.sock.

Each request and each reply is one line of JSON:

    {"version": 1, "command": "snapshot", "arguments": {"name": "photos"}}
    {"version": 1, "answer": {"reference": "/sha256/..."}}
    {"version": 1, "error": "there is no backup 'photos'", "kind": "LibernetError"}

*kind* is the name of the error's class. Before the answer, some commands tell how they get on, a
line each, or what they find, if that would be long for one answer:

    {"version": 1, "note": {"bytes": 1048576}}

Those end when their client does. A connection may carry several requests, one after the
other. The socket has mode 0600 in a folder of mode 0700: who can open it may do everything.
"""

import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from libernet.blocks.errors import FormatError, LibernetError, UnknownVersion
from libernet.fs.beside import beside
from libernet.fs.control_client import CONTROL_VERSION, SOCKET_NAME, short_address

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the arguments of a command and returns the answer; both must be JSON."""

Tell = Callable[[dict[str, Any]], Awaitable[None]]
"""Sends a note to whoever asked; returns when it was taken."""

TellingHandler = Callable[[dict[str, Any], Tell], Awaitable[dict[str, Any]]]
"""A handler that is given the way to send notes, and is cancelled when nobody takes them."""

MAX_REQUEST_BYTES = 64 * 1024
"""A request holds a few names and paths, each at most PATH_MAX = 4096 bytes."""

REQUEST_SECONDS = 30.0
"""How long a client may take to send a request, or to take a reply."""

HANDLER_SECONDS = 24 * 3600.0
"""How long a command may take: reading all blocks again, at a bounded rate, takes hours."""

_log = logging.getLogger(__name__)


class ControlServer:
    """Answer commands on the control socket in *folder*.

    Tasks: `run`, with one task per connection.
    """

    def __init__(
        self,
        folder: Path,
        handlers: Mapping[str, Handler],
        telling: Mapping[str, TellingHandler] | None = None,
    ) -> None:
        """Make one of the *handlers* of commands, and of the commands that send notes."""
        self._folder = folder
        self._handlers = handlers
        self._telling = telling or {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; *task_status* tells when commands are accepted.

        The caller holds the state lock: a socket that is already there belongs to a dead process.
        """
        with _listening(self._folder) as listener:
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection, until it ends or breaks the protocol."""
        lines = _Lines(stream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            async with stream:
                while True:
                    with trio.fail_after(REQUEST_SECONDS):
                        try:
                            line = await lines.next()
                        except FormatError as error:
                            await _send(stream, _failure(error))
                            return
                    if line is None:
                        return
                    reply = await self._reply(line, lines)
                    if reply is None:
                        return
                    await _send(stream, reply)

    async def _reply(self, line: bytes, lines: "_Lines") -> dict[str, Any] | None:
        """Return what to say to a request; None when nobody is there any more."""
        try:
            command, arguments = _parse(line)
            if command in self._telling:
                answer = await _while_heard(self._telling[command], arguments, lines)
                return None if answer is None else {"answer": answer}
            return {"answer": await self._run_command(command, arguments)}
        except (LibernetError, OSError) as error:
            return _failure(error)
        except trio.TooSlowError:
            return _failure(LibernetError(f"this was given up after {HANDLER_SECONDS:g} seconds"))
        except Exception as error:  # noqa: BLE001 - one bad command must not end the mount
            _log.exception("control request %r failed", line[:200])
            return _failure(
                LibernetError(f"this is a fault of Libernet itself: {error!r} (more in its log)")
            )

    async def _run_command(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        handler = self._handlers.get(command)
        if handler is None:
            raise FormatError(
                f"the mounted Libernet does not know the command {command[:80]!r}: "
                "it is of another version than this command"
            )
        with trio.fail_after(HANDLER_SECONDS):
            return await handler(arguments)


async def _while_heard(
    handler: TellingHandler, arguments: dict[str, Any], lines: "_Lines"
) -> dict[str, Any] | None:
    """Return what a handler answers; None when its client ended before."""

    async def tell(note: dict[str, Any]) -> None:
        try:
            await _send(lines.stream, {"note": note})
        except trio.TooSlowError:
            raise trio.BrokenResourceError from None

    try:
        async with beside(lines.end):
            return await handler(arguments, tell)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return None


async def _send(stream: trio.SocketStream, reply: dict[str, Any]) -> None:
    with trio.fail_after(REQUEST_SECONDS):
        await stream.send_all(_line(reply))


class _Lines:
    """Cut what a stream receives into lines of at most MAX_REQUEST_BYTES."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = bytearray()

    async def next(self) -> bytes | None:
        """Return the next line without its end, None at the end of the stream."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > MAX_REQUEST_BYTES:
                raise FormatError(f"a request may have at most {MAX_REQUEST_BYTES} bytes")
            piece = await self.stream.receive_some(MAX_REQUEST_BYTES)
            if not piece:
                return None
            self._received += piece
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    async def end(self) -> None:
        """Raise BrokenResourceError when the stream ends, or says far too much beforehand."""
        while len(self._received) <= MAX_REQUEST_BYTES:
            piece = await self.stream.receive_some(MAX_REQUEST_BYTES)
            if not piece:
                break
            self._received += piece
        raise trio.BrokenResourceError


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError("a request must be one line of JSON") from None
    if not isinstance(request, dict):
        raise FormatError("a request must be a JSON object")
    if request.get("version") != CONTROL_VERSION:
        raise UnknownVersion(
            f"the mounted Libernet speaks version {CONTROL_VERSION} with commands, "
            f"this one {request.get('version')!r}"[:200]
        )
    command, arguments = request.get("command"), request.get("arguments", {})
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise FormatError("a request needs a text 'command' and an object 'arguments'")
    return command, arguments


def _failure(error: LibernetError | OSError) -> dict[str, Any]:
    sentence = str(error)
    if isinstance(error, OSError) and error.strerror:
        sentence = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return {"error": sentence, "kind": type(error).__name__}


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps({"version": CONTROL_VERSION, **reply}).encode() + b"\n"


@contextmanager
def _listening(folder: Path) -> Iterator[trio.socket.SocketType]:
    """Provide a listening socket in *folder*, with mode 0600 from its first moment."""
    path = folder / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives a bound socket the mode it has here
        with short_address(folder) as address:
            listener.bind(address)
        listener.listen()
        yield trio.socket.from_stdlib_socket(listener)
    finally:
        listener.close()
        path.unlink(missing_ok=True)
