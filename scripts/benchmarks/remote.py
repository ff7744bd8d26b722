"""What a second node reads from the first: over loopback, and with a round trip of 50 ms."""

import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BenchError, run, said
from benchmarks.corpus import MEBIBYTE, Corpus
from benchmarks.machine import PROJECT, drop_caches
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import Libernet
from libernet.blocks.store import SMALL_BLOCK_BYTES
from tests.support.hosts import Host, hosts, unfit

ROUND_TRIP_MS = 50.0

NEAR_FILE_PART = 2
FAR_FILE_PART = 4
"""The files read over loopback and far away are these parts of the corpus' file."""

MAX_COMMAND_SECONDS = 120.0
"""Deadline of commands to a node: `share` publishes the whole tree first."""


class Node(Libernet):
    """A node on *host*, or on this machine's loopback if that is None, in the new folder *home*.

    What it reads it asks of *peer*, if any.
    """

    def __init__(self, home: Path, host: Host | None, peer: "Node | None" = None) -> None:
        home.mkdir()
        super().__init__(home)
        self.launcher = tuple(host.entering()) if host else ()
        self.address = host.address if host else "127.0.0.1"
        peers = ("--peer", f"{peer.address}:{peer.port()}") if peer else ()
        self.options = ("--bind", self.address, "--private-network", "--no-lan", *peers)

    def port(self) -> int:
        """Return where it serves its peers."""
        return int(json.loads(self.libernet("peers", "--json"))["listening"])

    def libernet(self, *arguments: str | Path) -> str:
        """Return what the command `libernet` prints for this node."""
        command = (PROJECT / ".venv/bin/libernet", "--state", self.state, *arguments)
        return said(*command, seconds=MAX_COMMAND_SECONDS)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Mount during the block; after an error it stays, as after every step that failed."""
        self.mount()
        yield
        self.unmount()


@dataclass(frozen=True, slots=True)
class _LargeFile:
    """A file that the first node shares."""

    name: str
    bytes: int
    reference: str


class Remote:
    """Runs the steps and collects their figures.

    State: samples; `_home`, the nodes' folder while the steps run. Each figure comes from a second
    node that has nothing yet, with the page cache empty.
    """

    def __init__(self, corpus: Corpus, work: Path) -> None:
        if reason := unfit():
            raise BenchError(f"two nodes cannot be joined: {reason}")
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._home = work / "home"

    def near(self, rounds: int) -> None:
        """Read a large file over loopback, and fetch its blocks with curl, in turns."""
        with Home(self._home):
            first = Node(self._home / "first", None)
            with first.mounted():
                file = self._share_part(first, NEAR_FILE_PART)
                addresses = _list_blocks(first, file, self._home / "addresses")
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}: file from a peer over loopback")
                    drop_caches(self._home)
                    seconds = run("curl", "--silent", "--fail", "--config", addresses)
                    self._record("near.file", file.bytes / seconds, "curl")
                    self._read("near.file", first, None, file)

    def far(self, rounds: int) -> None:
        """Read a tree and a large file with a round trip in between."""
        with Home(self._home), hosts(["first", "second"], round_trip_ms=ROUND_TRIP_MS) as joined:
            first = Node(self._home / "first", joined["first"])
            with first.mounted():
                run("cp", "-a", self._corpus.tree, first.target)
                tree = first.libernet("share", first.target / self._corpus.tree.name)
                file = self._share_part(first, FAR_FILE_PART)
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}: tree and file from a peer far away")
                    self._read_tree(first, joined["second"], tree, check=number == 0)
                    self._read("far.file", first, joined["second"], file)

    def _read_tree(self, first: Node, host: Host, reference: str, *, check: bool) -> None:
        with self._second(first, host, reference) as opened:
            deepest = opened / _deepest_file(self._corpus.tree)
            self._record("far.first", run("head", "-c", "1", deepest))
        with self._second(first, host, reference) as opened:
            self._record("far.listed", run("find", opened, "-ls"))
        with self._second(first, host, reference) as opened:
            copy = self._home / "copy"
            self._record("far.copied", run("cp", "-a", opened, copy))
            if check:
                run("diff", "-rq", "--no-dereference", self._corpus.tree, copy)
            shutil.rmtree(copy)

    def _share_part(self, first: Node, part: int) -> _LargeFile:
        """Copy this part of the corpus' file to the first node, and share it."""
        megabytes = self._corpus.file_bytes // part // MEBIBYTE
        target = first.target / "random"
        run("dd", f"if={self._corpus.file}", f"of={target}", f"bs={MEBIBYTE}", f"count={megabytes}")
        return _LargeFile(target.name, megabytes * MEBIBYTE, first.libernet("share", target))

    @contextlib.contextmanager
    def _second(self, first: Node, host: Host | None, reference: str) -> Iterator[Path]:
        """Give what *reference* opens on a new node that knows the first."""
        home = self._home / "second"
        second = Node(home, host, first)
        with second.mounted():
            opened = Path(second.libernet("open", reference))
            drop_caches(self._home)
            yield opened
        shutil.rmtree(home)

    def _read(self, figure: str, first: Node, host: Host | None, file: _LargeFile) -> None:
        with self._second(first, host, file.reference) as opened:
            seconds = run("dd", f"if={opened / file.name}", "of=/dev/null", f"bs={MEBIBYTE}")
        self._record(figure, file.bytes / seconds)

    def _record(self, figure: str, value: float, system: str = Node.name) -> None:
        self.samples[figure][system].append(value)


def _list_blocks(node: Node, file: _LargeFile, config: Path) -> Path:
    """Write a configuration for curl that fetches the blocks of *file*, all that *node* holds.

    The last one may be too small for a file of its own and is left out.
    """
    blocks = [block for block in (node.state / "store/blocks").glob("*/*") if block.is_file()]
    if sum(block.stat().st_size for block in blocks) < file.bytes - SMALL_BLOCK_BYTES:
        raise BenchError(f"{node.state} does not hold all blocks of {file.name}")
    address = f"http://{node.address}:{node.port()}/sha256"
    config.write_text(
        "".join(f'url = "{address}/{block.name}"\noutput = "/dev/null"\n' for block in blocks)
    )
    return config


def _deepest_file(tree: Path) -> Path:
    """Return the path inside *tree* of a file with the most folders above it."""
    files = (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    return max(files, key=lambda path: (len(path.parts), path)).relative_to(tree)
