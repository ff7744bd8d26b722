"""A state folder with something of everything in it, to be broken in some way."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.fs.check.consistency import at_rest, check
from libernet.fs.check.findings import Finding
from tests.support.sharing import sharing_node

LOGGED = b"not sealed yet " * 200
"""What the file backups/b/logged holds, in the data log."""

LARGE_BYTES = 60_000
"""Size of backups/b/large, which begins with a hole: chunks of at most miniature.CHUNK_BYTES."""


async def _make(folder: Path, copy: Path) -> None:
    async with sharing_node(folder) as node:
        caller = node.caller
        await caller.mkdir("backups/b")
        await caller.mkdir("backups/b/sub")
        await caller.mkdir("backups/b/sub/deep")
        await caller.mkdir("backups/c")
        await caller.create("backups/b/small", b"small")
        await caller.create("backups/b/sub/deep/file", b"deep down")
        await caller.link("backups/b/small", "backups/b/sub/again")
        await caller.symlink("backups/b/link", "sub/deep")
        await caller.make("backups/b/fifo", stat.S_IFIFO | 0o600)
        await caller.create("backups/b/empty")
        await caller.create("backups/b/large")
        await caller.write("backups/b/large", 10_000, os.urandom(LARGE_BYTES - 10_000))
        async with caller.at("backups/b/sub/deep/file") as ino:
            await node.node.namespace.set_xattr(ino, b"user.colour", b"blue")
        published = await node.command("snapshot", name="b")
        snapshot = f"b/{published['published']}"
        await node.command("tag", snapshots=[snapshot], add=["keep", "me"], remove=[])
        await node.share("backups/b/sub")
        await node.command("publish-flat", path="backups/b/sub")
        (folder / "outside").write_bytes(b"for all " * 1000)
        await node.command("publish-stream", path=str(folder / "outside"))
        (folder / "outside").unlink()
        reference = Reference(BlockId(bytes(32)), Suite.AES256GCM, bytes(32))
        await node.open(reference, "other")
        await caller.create("backups/b/logged", LOGGED)
        await caller.write("backups/b/logged", 500, b"over")
        await node.node.namespace.durable()
        shutil.copytree(folder, copy)


class BrokenState:
    """A copy of the sound state, to be broken; `inos` are by path below backups/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inos = {"": 2}
        with self.journal() as journal:
            entries = journal.execute("SELECT parent, name, ino FROM entry").fetchall()
        paths = {2: ""}
        while len(paths) < len({ino for *_, ino in entries}) + 1:
            for parent, name, ino in entries:
                if parent in paths:
                    path = f"{paths[parent]}/{os.fsdecode(name)}".lstrip("/")
                    self.inos[path] = ino
                    paths.setdefault(ino, path)

    @contextmanager
    def journal(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection to the journal; what was done is committed."""
        with sqlite3.connect(self.folder / "journal.sqlite") as connection:
            yield connection
        connection.close()

    def run(self, statement: str) -> None:
        """Run SQL on the journal, with `{path}` standing for the inode of a path."""
        for path, ino in self.inos.items():
            statement = statement.replace("{" + path + "}", str(ino))
        with self.journal() as journal:
            journal.executescript(statement)

    def findings(self, *, read: bool = False) -> list[Finding]:
        """Return all that the check finds."""
        with at_rest(self.folder) as state:
            return list(check(state, read=read))

    def broken(self, *, read: bool = False) -> set[tuple[str, str]]:
        """Return which rules are broken, and where."""
        found = self.findings(read=read)
        return {(finding.rule, finding.where) for finding in found if finding.is_fault}


def make_sound_state(work: Path) -> Path:
    """Make the state folder, in *work*, and return where it is."""
    copy = work / "sound"
    trio.run(_make, work / "node", copy)
    shutil.rmtree(work / "node")
    return copy
