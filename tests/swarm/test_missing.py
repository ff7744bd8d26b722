"""What nobody has: an error in time, and a mount that goes on meanwhile."""

import errno
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.swarm import NOBODY_HAS_IT, Member

FILES = 120
"""More than may wait for the network at one time."""

pytestmark = pytest.mark.announces(NOBODY_HAS_IT)

LOOK_SECONDS = 5.0
READ_SECONDS = 30.0
_SLACK_SECONDS = 2.0  # two cores, and other tests' mounts on them
RESPONSIVE_SECONDS = 1.0

_READERS = """
import errno, json, os, sys, threading, time

def look(path):
    began = time.monotonic()
    try:
        os.listdir(path) if path.endswith("/") else open(path, "rb").read()
        name = ""
    except OSError as error:
        name = errno.errorcode[error.errno]
    ended[path] = [name, time.monotonic() - began]

ended = {}
paths = json.load(sys.stdin)
threads = [threading.Thread(target=look, args=[path]) for path in paths]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(ended))
"""
"""Reads files, and lists what ends in a slash, all at the same time; says how each ended and when.
A process of its own: threads of the test could not be ended if the mount were to hang."""

_IN_TIME = {errno.errorcode[each] for each in (errno.ETIMEDOUT, errno.EIO)}


def test_a_reference_nobody_has_fails_in_time(members: dict[str, Member]) -> None:
    members["bootstrap"].join()
    b = members["b"]
    b.join(through=members["bootstrap"])
    ended = _results(_start([_unknown(b) for _ in range(5)]))
    assert {name for name, _ in ended.values()} <= _IN_TIME
    assert max(seconds for _, seconds in ended.values()) < LOOK_SECONDS + _SLACK_SECONDS


def test_the_mount_stays_responsive_while_readers_wait_for_a_node_that_is_gone(
    members: dict[str, Member],
) -> None:
    a, b = members["a"], members["b"]
    members["bootstrap"].join()
    for member in (a, b):
        member.join(through=members["bootstrap"])
    opened = _share_opened(a, b)
    (b.node.backups / "own").mkdir()
    names = sorted(os.listdir(opened))
    a.vanish()

    readers = _start([*(_unknown(b) for _ in range(5)), *(str(opened / name) for name in names)])
    slowest = 0.0
    while readers.poll() is None:
        slowest = max(slowest, _seconds_of_everyday_use(b.node.backups))
    ended = _results(readers)

    assert slowest < RESPONSIVE_SECONDS
    assert {name for name, _ in ended.values()} <= _IN_TIME
    looks = [seconds for path, (_, seconds) in ended.items() if path.endswith("/")]
    assert max(looks) < LOOK_SECONDS + _SLACK_SECONDS
    assert max(seconds for _, seconds in ended.values()) < READ_SECONDS + _SLACK_SECONDS
    failures = b.node.status()["failures"]
    assert any(failure["path"].removeprefix("/") in names for failure in failures)


def _share_opened(a: Member, b: Member) -> Path:
    """Return a folder on `b` of which it has the list of files, and not one of the files."""
    shared = a.node.backups / "shared"
    shared.mkdir()
    for number in range(FILES):
        (shared / f"file {number}").write_bytes(os.urandom(70_000))
    reference = a.node.libernet("share", str(shared)).strip()
    a.until_announced()
    opened = Path(b.node.libernet("open", reference, "shared").strip())
    assert len(os.listdir(opened)) == FILES
    return opened


def _seconds_of_everyday_use(backups: Path) -> float:
    """Return how long the slowest of some calls took that have nothing to do with the network."""
    path = backups / "own" / secrets.token_hex(4)
    slowest = 0.0
    for call in (
        lambda: os.stat(backups / "own"),
        lambda: os.listdir(backups / "own"),
        lambda: path.write_bytes(b"written meanwhile"),
        path.read_bytes,
        path.unlink,
    ):
        began = time.monotonic()
        call()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def _unknown(member: Member) -> str:
    """Return the folder of a reference that leads nowhere."""
    return f"{member.node.mountpoint}/sha256/{secrets.token_hex(32)}/aes256gcm/{_KEY}/"


_KEY = "5e" * 32


def _start(paths: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _READERS]
    readers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert readers.stdin is not None
    readers.stdin.write(json.dumps(paths))
    readers.stdin.close()
    readers.stdin = None  # communicate() would flush it
    return readers


def _results(readers: "subprocess.Popen[str]") -> dict[str, tuple[str, float]]:
    """Return the name of the errno and the seconds, by path."""
    out, _ = readers.communicate(timeout=2 * READ_SECONDS)
    return {path: (name, seconds) for path, (name, seconds) in json.loads(out).items()}
