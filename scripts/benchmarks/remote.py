"""What a node reads from others: over loopback, from four slow ones, and at a round trip of 50 ms.

Beside each read a local file of the same mount is read here and there.
"""

import contextlib
import json
import os
import shlex
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import daemons, torrents
from benchmarks.commands import BenchError, run, said
from benchmarks.companions import beside
from benchmarks.corpus import MEBIBYTE, Corpus
from benchmarks.machine import PROJECT, drop_caches
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import Libernet
from libernet.blocks.store import SMALL_BLOCK_BYTES
from tests.support.hosts import Host, hosts, unfit

ROUND_TRIP_MS = 50.0

NEAR_FILE_PART = 2
FAR_FILE_PART = 1
SLOW_FILE_PART = 2
"""The files read over loopback, far away and from slow peers: parts of the corpus' file."""

FAR_CONNECTIONS = 16
"""Over which as many bytes are sent without Libernet: what the link with the delay carries."""

RAW_PORT = 9000

SLOW_PEERS = 4
SLOW_RATE = ("rate", "80mbit", "burst", "256kb", "latency", "100ms")
"""What tc(8) holds each of them to: 10 MB/s."""

ID_DIGITS = 64

DEVICE = "lbn0"  # of a host, as tests.support.hosts makes it

LOCAL_FILE = "local"
LOCAL_BYTES = 8 * MEBIBYTE
ASKED_SECONDS = 10.0
LEAST_ANSWERED = 0.95

MAX_COMMAND_SECONDS = 120.0
"""Deadline of commands to a node: `share` publishes the whole tree first."""


class Node(Libernet):
    """A node on *host*, or on this machine's loopback if that is None, in the new folder *home*.

    What it reads it asks of *peers*.
    """

    def __init__(self, home: Path, host: Host | None, *peers: "Node") -> None:
        home.mkdir()
        super().__init__(home)
        self.launcher = tuple(host.entering()) if host else ()
        self.address = host.address if host else "127.0.0.1"
        known = [word for peer in peers for word in ("--peer", f"{peer.address}:{peer.port()}")]
        self.options = ("--bind", self.address, "--private-network", "--no-lan", *known)

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
                    self._read("near.file", file, None, first)
                    self._read_torrent(file)
                self._read_while_asked(first)

    def far(self, rounds: int) -> None:
        """Read a tree and a large file with a round trip in between."""
        with Home(self._home), hosts(["first", "second"], round_trip_ms=ROUND_TRIP_MS) as joined:
            sender, receiver = joined["first"], joined["second"]
            first = Node(self._home / "first", sender)
            with first.mounted():
                run("cp", "-a", self._corpus.tree, first.target)
                tree = first.libernet("share", first.target / self._corpus.tree.name)
                file = self._share_part(first, FAR_FILE_PART)
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}: tree and file from a peer far away")
                    self._read_tree(first, receiver, tree, check=number == 0)
                    seconds = _send_raw(file.bytes, sender, receiver)
                    self._record("far.file", file.bytes / seconds, "tcp")
                    self._read("far.file", file, receiver, first)

    def _read_tree(self, first: Node, host: Host, reference: str, *, check: bool) -> None:
        with self._second(reference, host, first) as opened:
            deepest = opened / _deepest_file(self._corpus.tree)
            self._record("far.first", run("head", "-c", "1", deepest))
        with self._second(reference, host, first) as opened:
            self._record("far.listed", run("find", opened, "-ls"))
        with self._second(reference, host, first) as opened, self._beside("far.copied"):
            copy = self._home / "copy"
            self._record("far.copied", run("cp", "-a", opened, copy))
            if check:
                run("diff", "-rq", "--no-dereference", self._corpus.tree, copy)
            shutil.rmtree(copy)

    def slow(self, rounds: int) -> None:
        """Read a large file from four slow peers at once, and fetch its blocks with four curls."""
        names = [f"peer{number}" for number in range(SLOW_PEERS)]
        with (
            Home(self._home),
            hosts([*names, "reader"]) as joined,
            contextlib.ExitStack() as mounts,
        ):
            peers: list[Node] = []
            for name in names:
                peers.append(Node(self._home / name, joined[name], *peers[:1]))
                mounts.enter_context(peers[-1].mounted())
            file = self._share_part(peers[0], SLOW_FILE_PART)
            for peer in peers[1:]:
                peer.libernet("fetch", file.reference)
            for name in names:
                joined[name].run("tc", "qdisc", "add", "dev", DEVICE, "root", "tbf", *SLOW_RATE)
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}: file from {SLOW_PEERS} slow peers")
                seconds = self._curl_from(peers, file, joined["reader"])
                self._record("slow.file", file.bytes / seconds, "curl")
                self._read("slow.file", file, joined["reader"], *peers)

    def _curl_from(self, peers: Sequence[Node], file: _LargeFile, reader: Host) -> float:
        """Return the seconds in which a curl for each peer fetches its share of the blocks."""
        drop_caches(self._home)
        commands = []
        for number, peer in enumerate(peers):
            config = self._home / f"addresses{number}"
            _list_blocks(peer, file, config, slice(number, None, len(peers)))
            words = [*reader.entering(), "curl", "--silent", "--fail", "--config", str(config)]
            commands.append(f"{shlex.join(words)} & fetching+=($!)")
        ends = 'for each in "${fetching[@]}"; do wait "$each" || exit; done'
        return run("bash", "-c", "; ".join([*commands, ends]))

    def _share_part(self, first: Node, part: int) -> _LargeFile:
        """Copy this part of the corpus' file to the first node, and share it."""
        size_bytes = self._corpus.file_bytes // part // MEBIBYTE * MEBIBYTE
        target = first.target / "random"
        _copy_part(self._corpus.file, target, size_bytes)
        return _LargeFile(target.name, size_bytes, first.libernet("share", target))

    @contextlib.contextmanager
    def _second(self, reference: str, host: Host | None, *peers: Node) -> Iterator[Path]:
        """Give what *reference* opens on a new node that knows *peers*."""
        home = self._home / "second"
        second = Node(home, host, *peers)
        with second.mounted():
            _write(second.target / LOCAL_FILE, LOCAL_BYTES)
            second.libernet("sync")
            opened = Path(second.libernet("open", reference))
            drop_caches(self._home)
            yield opened
        shutil.rmtree(home)

    def _read(self, figure: str, file: _LargeFile, host: Host | None, *peers: Node) -> None:
        with self._second(file.reference, host, *peers) as opened, self._beside(figure):
            seconds = run("dd", f"if={opened / file.name}", "of=/dev/null", f"bs={MEBIBYTE}")
        self._record(figure, file.bytes / seconds)

    @contextlib.contextmanager
    def _beside(self, figure: str) -> Iterator[None]:
        """Read a local file of the second node during the block, and watch its memory."""
        mountpoint = self._home / "second" / "mount"
        local = mountpoint / "backups" / "bench" / LOCAL_FILE
        serving = daemons.serving(mountpoint)
        with daemons.PeakMemory(serving) as memory, beside("reads", local) as answer:
            yield
        self._record(f"{figure}_beside", answer["p99"])
        self._record(f"{figure}_memory", memory.peak_bytes)

    def _read_torrent(self, file: _LargeFile) -> None:
        """Read the same by btfs, where that is installed; no node takes part."""
        if missing := torrents.lacking():
            say(f"not measured beside btfs: {missing} is not installed")
            return
        part = self._home / file.name
        _copy_part(self._corpus.file, part, file.bytes)
        with hosts(["seed", "reader"]) as joined:
            home = self._home / "torrent"
            seconds = torrents.read(part, joined["seed"], joined["reader"], home)
        part.unlink()
        self._record("near.file", file.bytes / seconds, "btfs")

    def _read_while_asked(self, node: Node) -> None:
        """Read a local file of a node that serves many requests of the DHT."""
        say("local reads beside requests of the DHT")
        local = node.target / LOCAL_FILE
        _write(local, LOCAL_BYTES)
        node.libernet("sync")
        with beside("asks", node.port()) as asked, beside("reads", local) as answer:
            time.sleep(ASKED_SECONDS)
        if asked["answered"] < asked["sent"] * LEAST_ANSWERED:
            raise BenchError("not all requests of the DHT were answered")
        self._record("asked.beside", answer["p99"])

    def _record(self, figure: str, value: float, system: str = Node.name) -> None:
        self.samples[figure][system].append(value)


def _list_blocks(node: Node, file: _LargeFile, config: Path, part: slice = slice(None)) -> Path:
    """Write a configuration for curl that fetches the blocks of *file*, all that *node* holds.

    The last one may be too small for a file of its own and is left out. *part* of them only.
    """
    store = node.state / "store"
    found = (*store.glob("blocks/*/*"), *store.glob("cached/*"))
    blocks = sorted(block for block in found if block.is_file() and len(block.name) == ID_DIGITS)
    if sum(block.stat().st_size for block in blocks) < file.bytes - SMALL_BLOCK_BYTES:
        raise BenchError(f"{node.state} does not hold all blocks of {file.name}")
    address = f"http://{node.address}:{node.port()}/sha256"
    config.write_text(
        "".join(f'url = "{address}/{block.name}"\noutput = "/dev/null"\n' for block in blocks[part])
    )
    return config


def _send_raw(size_bytes: int, sender: Host, receiver: Host) -> float:
    """Return the seconds in which so many bytes come over FAR_CONNECTIONS, without Libernet."""
    each = size_bytes // FAR_CONNECTIONS
    receive = f"exec 3<>/dev/tcp/{sender.address}/{RAW_PORT}; echo {each} >&3; cat <&3 >/dev/null"
    together = " & ".join([f"({receive})"] * FAR_CONNECTIONS) + " & wait"
    with beside("serves", sender.address, RAW_PORT, launcher=sender.entering()):
        return run(*receiver.entering(), "bash", "-c", together)


def _write(file: Path, size_bytes: int) -> None:
    file.write_bytes(os.urandom(size_bytes))


def _copy_part(source: Path, target: Path, size_bytes: int) -> None:
    run("dd", f"if={source}", f"of={target}", f"bs={MEBIBYTE}", f"count={size_bytes // MEBIBYTE}")


def _deepest_file(tree: Path) -> Path:
    """Return the path inside *tree* of a file with the most folders above it."""
    files = (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    return max(files, key=lambda path: (len(path.parts), path)).relative_to(tree)
