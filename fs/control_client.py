"""How a command asks the running mount; `libernet.fs.control` describes the protocol."""

import json
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libernet.blocks import errors
from libernet.blocks.errors import LibernetError
from libernet.fs.places import Places

CONTROL_VERSION = 1

SOCKET_NAME = "control.sock"

PUBLISH_SECONDS = 3600.0
"""How long to wait for what may publish a large backup first."""

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""A status lists each backup, some hundred bytes apiece."""


def ask(
    folder: Path,
    command: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float = 30.0,
    hear: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Let the mount whose control socket lies in *folder* run *command*; return its answer.

    *timeout* is in seconds: for all of it, or until the next note where the command sends some,
    which *hear* is given. Raises the error that the mount reports, as its class
    below LibernetError; LibernetError when nobody is there or no answer comes in time.
    """
    request = {"version": CONTROL_VERSION, "command": command, "arguments": arguments or {}}
    replies = _replies(folder, request, timeout)
    while "note" in (reply := _next(replies, folder, timeout)):
        if hear is not None:
            hear(reply["note"])  # what that raises is not the mount's
    return _answer(reply)


@contextmanager
def short_address(folder: Path) -> Iterator[str]:
    """Provide an address of the socket in *folder* that fits into the 107 bytes of a sun_path."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def _next(replies: Iterator[dict[str, Any]], folder: Path, timeout: float) -> dict[str, Any]:
    """Return what the mount says next, or raise the LibernetError that says why it says nothing."""
    try:
        reply = next(replies, None)
    except (FileNotFoundError, ConnectionRefusedError):
        raise nobody(folder) from None
    except TimeoutError:
        raise LibernetError(
            f"the mount with the state folder {folder} did not answer within {timeout:g} seconds"
        ) from None
    except ConnectionError:
        reply = None
    if reply is None:
        raise LibernetError(
            f"the mount with the state folder {folder} ended before it answered: see its log"
        )
    return reply


def _replies(folder: Path, request: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
    """Send a request; yield notes and the answer until the connection ends."""
    with socket.socket(socket.AF_UNIX) as connection, short_address(folder) as address:
        deadline = time.monotonic() + timeout
        connection.settimeout(_left(deadline))
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        received = bytearray()
        while len(received) < MAX_REPLY_BYTES:
            connection.settimeout(_left(deadline))
            piece = connection.recv(65536)
            if not piece:
                return
            received += piece
            if b"\n" not in piece:
                continue
            *lines, received = received.split(b"\n")
            for line in lines:
                yield json.loads(line)
            deadline = time.monotonic() + timeout


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _answer(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        kind = getattr(errors, str(reply.get("kind")), LibernetError)
        is_ours = isinstance(kind, type) and issubclass(kind, LibernetError)
        raise (kind if is_ours else LibernetError)(reply["error"])
    answer: dict[str, Any] = reply["answer"]
    return answer


def nobody(folder: Path) -> LibernetError:
    """Return the error that says nothing is mounted with the state folder *folder*."""
    is_usual = Places.of(None).runtime == folder
    state = "" if is_usual else f"--state {shlex.quote(str(folder))} "
    return LibernetError(
        f"no Libernet is mounted with the state folder {folder}. "
        f"Mount it with: mount.libernet {state}MOUNTPOINT"
    )
