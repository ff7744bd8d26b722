"""What programs do in a mount beside copying: small commits, reads here and there.

Run as a program it is the work itself, so that no other thread's time is in the figures:
work.py commits FOLDER MODE · work.py reads FILE. The answer is one line of JSON.
"""

import json
import os
import random
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMITS = 1000
READS = 2000
READ_BYTES = 4096


def commits(folder: str, mode: str) -> dict[str, float]:
    """Make COMMITS transactions in a new database in *folder* with the journal mode *mode*.

    Returns the seconds that took, and the bytes that this process had written to a disk.
    """
    before = written_bytes([os.getpid()])
    database = sqlite3.connect(Path(folder, f"{mode}.sqlite"), isolation_level=None)
    database.execute(f"PRAGMA journal_mode={mode}")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE note (number INTEGER PRIMARY KEY, text TEXT)")
    began = time.perf_counter()
    for number in range(COMMITS):
        database.execute("INSERT INTO note VALUES (?, ?)", (number, f"note {number} " * 8))
    seconds = time.perf_counter() - began
    [(verdict,)] = database.execute("PRAGMA integrity_check").fetchall()
    database.close()
    if verdict != "ok":
        raise SystemExit(f"the database is damaged: {verdict}")
    return {"seconds": seconds, "bytes": written_bytes([os.getpid()]) - before}


def reads(file: str) -> dict[str, float]:
    """Read READ_BYTES from READS places of *file*; return the middle and the 99th percentile."""
    descriptor = os.open(file, os.O_RDONLY)
    places = random.Random(1).choices(range(os.fstat(descriptor).st_size // READ_BYTES), k=READS)
    took = []
    for place in places:
        began = time.perf_counter()
        os.pread(descriptor, READ_BYTES, place * READ_BYTES)
        took.append(time.perf_counter() - began)
    took.sort()
    return {"p50": took[READS // 2], "p99": took[READS * 99 // 100]}


def written_bytes(pids: Sequence[int]) -> int:
    """Return how many bytes these processes have had written to disks until now."""
    written = 0
    for pid in pids:
        fields: Mapping[str, str] = dict(
            line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines()
        )
        written += int(fields["write_bytes"])
    return written


def main(name: str, *arguments: str) -> None:
    """Do the work *name* and print its answer."""
    print(json.dumps(commits(*arguments) if name == "commits" else reads(*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
