"""What goes on beside a step that is measured: reads of a file nearby, requests to the DHT.

Run as a program it is that work, until its input ends; the answer is one line of JSON.
companions.py reads FILE · companions.py asks PORT · companions.py serves HOST PORT
"""

import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.wire import CLIENT_ONLY, Envelope, Find, encode

READ_BYTES = 4096
PAUSE_SECONDS = 0.01

REQUESTS_PER_SECOND = 1000
ASKING_ADDRESSES = 20
"""Of loopback: a node answers one address 100 requests a second."""

BURST_SECONDS = 0.02

SECONDS = 30.0
"""Longer than a companion takes to answer."""


@contextmanager
def beside(
    *arguments: str | int | Path, launcher: Sequence[str] = ()
) -> Iterator[dict[str, float]]:
    """Let a companion work during the block; afterwards the dict has its answer."""
    answer: dict[str, float] = {}
    project = Path(__file__).resolve().parents[2]
    command = [*launcher, sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{project}:{project / 'scripts'}"},
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()  # it has begun
            yield answer
        finally:
            said, _ = process.communicate(timeout=SECONDS)
    answer.update(json.loads(said))


def reads(file: str) -> dict[str, float]:
    """Read here and there in *file*, each time what the kernel does not have in memory."""
    descriptor = os.open(file, os.O_RDONLY)
    pages = os.fstat(descriptor).st_size // READ_BYTES
    took = []
    while not _is_over(PAUSE_SECONDS):
        place = random.randrange(pages) * READ_BYTES
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        os.pread(descriptor, READ_BYTES, place)
        took.append(time.perf_counter() - began)
    took.sort()
    return {"reads": len(took), "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def asks(port: str) -> dict[str, float]:
    """Ask the DHT node at *port* of loopback for what nobody announced."""
    find = Find(os.urandom(KEY_BYTES), 8)
    datagram = encode(Envelope(bytes(8), os.urandom(KEY_BYTES), CLIENT_ONLY, 0, find))
    sockets = []
    for number in range(ASKING_ADDRESSES):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.bind((f"127.0.1.{number + 1}", 0))
        asking.setblocking(False)
        sockets.append(asking)
    sent = answered = 0
    began = time.perf_counter()
    while not _is_over(BURST_SECONDS):
        due = (time.perf_counter() - began) * REQUESTS_PER_SECOND
        while sent < due:
            sockets[sent % len(sockets)].sendto(datagram, ("127.0.0.1", int(port)))
            sent += 1
        for asking in sockets:
            with suppress(BlockingIOError):
                while asking.recv(2048):
                    answered += 1
    seconds = time.perf_counter() - began
    return {"sent": sent / seconds, "answered": answered / seconds}


def serves(host: str, port: str) -> dict[str, float]:
    """Send zeros to whoever connects, as many as its line of text says."""
    zeros = bytes(1 << 20)

    def send(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            left = int(connection.makefile().readline())
            while left:
                connection.sendall(zeros[: min(left, len(zeros))])
                left -= min(left, len(zeros))

    listener = socket.create_server((host, int(port)), backlog=64)
    while not _is_over(0, listener):
        connection, _ = listener.accept()
        threading.Thread(target=send, args=(connection,), daemon=True).start()
    return {}


def _is_over(seconds: float, *others: socket.socket) -> bool:
    """Wait so long for the end of the input; for one of *others*, too, however long that takes."""
    readable, _, _ = select.select([sys.stdin, *others], [], [], None if others else seconds)
    return sys.stdin in readable


def main(name: str, *arguments: str) -> None:
    """Do the work *name* and print its answer."""
    print("begun", flush=True)
    works: dict[str, Callable[..., dict[str, float]]] = {
        "reads": reads,
        "asks": asks,
        "serves": serves,
    }
    print(json.dumps(works[name](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
