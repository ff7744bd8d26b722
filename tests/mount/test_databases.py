"""SQLite in a backup, ended in the middle of its work: the program, or the file system below it."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.node import SECONDS, Node

_ROWS = 200  # of each transaction

# Commits one transaction after the other and prints the number of each once it is through. What it
# says is durable: EXTRA has the folder synced too. The small cache makes SQLite write to the
# database before it commits.
_WRITER = f"""if True:
    import sqlite3, sys
    bank = sqlite3.connect(sys.argv[1], isolation_level=None)
    bank.execute("PRAGMA journal_mode = " + sys.argv[2])
    bank.execute("PRAGMA synchronous = EXTRA")
    bank.execute("PRAGMA cache_size = 8")
    bank.execute("PRAGMA wal_autocheckpoint = 20")
    [(last,)] = bank.execute("SELECT coalesce(max(turn), 0) FROM account")
    while True:
        last += 1
        bank.execute("BEGIN IMMEDIATE")
        for number in range({_ROWS}):
            bank.execute("INSERT INTO account VALUES (?, ?, ?)", (last, number, "x" * 100))
            if sys.argv[3:] and number == {_ROWS} - 10 and last > 3:
                print("middle", flush=True)
                sys.stdin.read()
        bank.execute("COMMIT")
        print(last, flush=True)
"""

_MODES = pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])


def _made(folder: Path, mode: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{mode}.sqlite"
    with closing(sqlite3.connect(path)) as bank, bank:
        assert bank.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        bank.execute("CREATE TABLE account (turn, number, text, PRIMARY KEY (turn, number))")
    return path


def _writer(path: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, path, path.stem, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what it says of the end of the mount
        text=True,
    )


def _line(writer: "subprocess.Popen[str]") -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def _turns(path: Path) -> int:
    """Return how many transactions a sound database has, all of them whole."""
    with closing(sqlite3.connect(path)) as bank:
        assert bank.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = bank.execute("SELECT turn, count(*) FROM account GROUP BY turn ORDER BY turn")
        turns = counts.fetchall()
    assert turns == [(turn + 1, _ROWS) for turn in range(len(turns))]
    return len(turns)


@_MODES
def test_a_transaction_whose_program_is_killed_never_was(shared_node: Node, mode: str) -> None:
    if not os.path.ismount(shared_node.mountpoint):
        shared_node.mount()
    path = _made(shared_node.backups / "killed programs", mode)
    for _ in range(2):
        with _writer(path, "stop in the middle") as writer:
            lines = [_line(writer)]
            while lines[-1] != "middle":
                lines.append(_line(writer))
            writer.kill()
        assert _turns(path) == max(map(int, lines[:-1]), default=3)
        with closing(sqlite3.connect(path)) as bank, bank:
            bank.execute("DELETE FROM account WHERE turn > 3")


@_MODES
def test_what_was_committed_outlives_the_file_system_below(node: Node, mode: str) -> None:
    node.mount()
    path = _made(node.backups / "bank", mode)
    committed = 0
    for enough in (5, 20):
        with _writer(path) as writer:
            try:
                while committed < enough:
                    committed = int(_line(writer))
                node.kill()
                assert writer.stdout is not None
                rest = writer.stdout.read().split()
            finally:
                writer.kill()
        committed = int(rest[-1]) if rest else committed
        node.mount()
        found = _turns(path)
        # One may have been durable when the program was not told so any more.
        assert committed <= found <= committed + 1
        committed = found


def test_a_reader_sees_whole_transactions_while_somebody_writes(node: Node) -> None:
    node.mount()
    path = _made(node.backups / "bank", "wal")
    with _writer(path) as writer:
        assert int(_line(writer)) == 1
        seen = [_turns(path) for _ in range(10)]
        node.libernet("sync")
        last = int(_line(writer))
        writer.kill()
        writer.wait(SECONDS)
    assert seen == sorted(seen)
    assert seen[0] >= 1
    assert _turns(path) >= last
    reference = node.snapshot("bank")
    copy = node.folder / "copy.sqlite"
    # With the log beside it the snapshot is the database as a crash would have left it.
    for name in os.listdir(node.at(reference)):
        copied = copy.with_name(name.replace("wal.sqlite", copy.name))
        copied.write_bytes((node.at(reference) / name).read_bytes())
    assert _turns(copy) >= last
