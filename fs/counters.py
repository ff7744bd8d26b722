"""What a node counts, for programs that watch it over time.

Nothing here names a file, a block or a peer: whoever may look at the counters learns how much went
on, and no more. The labels of each family are words of this program, and therefore few.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import trio

from libernet import __version__
from libernet.blocks.store import Store
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.chunks import ChunkCache
from libernet.fs.files import Files
from libernet.fs.outside import Outside
from libernet.fs.publisher import Publisher

Number = int | float


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a family, told apart by *labels*."""

    value: Number
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers that are measured alike. A counter only grows, from the node's start on."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[Sample, ...]


class Counters:
    """Ask the parts of a node for their counts."""

    def __init__(
        self,
        *,
        store: Store,
        files: Files,
        checkpointer: Checkpointer,
        publisher: Publisher,
        chunks: ChunkCache,
        outside: Outside,
    ) -> None:
        self._store = store
        self._files = files
        self._checkpointer = checkpointer
        self._publisher = publisher
        self._chunks = chunks
        self._outside = outside

    async def families(self) -> list[Family]:
        """Return all that is counted, as it is now; StoreError when the store cannot say."""
        stored = await trio.to_thread.run_sync(self._store.totals_by_class)
        blocks = {each.name.lower(): totals.blocks for each, totals in stored.items()}
        sizes = {each.name.lower(): totals.bytes for each, totals in stored.items()}
        return [
            _one("gauge", "build_info", "What runs here.", 1, version=__version__),
            _by_label("gauge", "store_blocks", "Blocks kept durably.", "class", blocks),
            _by_label("gauge", "store_bytes", "Bytes of blocks kept durably.", "class", sizes),
            *self._here(),
            *_network(self._outside.status()),
        ]

    def _here(self) -> Iterator[Family]:
        files, size_bytes = self._files.pending()
        yield _one("gauge", "not_durable_bytes", "Bytes written and not durable yet.", size_bytes)
        yield _one("gauge", "not_durable_files", "Files with such bytes.", files)
        checkpoints = {"done": self._checkpointer.done, "failed": self._checkpointer.failed}
        yield _by_label(
            "counter", "checkpoints_total", "Checkpoints tried.", "outcome", checkpoints
        )
        yield _one("counter", "snapshots_total", "Snapshots published.", self._publisher.published)
        asked = {"hit": self._chunks.hits, "miss": self._chunks.misses}
        yield _by_label(
            "counter", "chunk_reads_total", "Chunks asked of the cache in memory.", "outcome", asked
        )


def _network(status: Mapping[str, Any]) -> Iterator[Family]:
    """Yield what is counted outside, nothing where there is no network."""
    if not status:
        return
    yield _one("gauge", "listening", "Whether peers can connect.", int(bool(status["listening"])))
    yield _one("gauge", "connections", "Connections from peers.", status["connections"])
    for way, text in (("fetched", "that came from peers"), ("served", "read for peers")):
        traffic = status[way]
        yield _one("counter", f"{way}_blocks_total", f"Blocks {text}.", traffic["blocks"])
        yield _one("counter", f"{way}_bytes_total", f"Bytes of blocks {text}.", traffic["bytes"])
    text = "Blocks that others put here, by what came of it."
    yield _by_label("counter", "put_blocks_total", text, "outcome", status["put"])
    text = "Times that peers did not do what they should."
    yield _by_label("counter", "peer_failures_total", text, "kind", status["failed"])
    resting = sum(peer["rests_seconds"] > 0 for peer in status["peers"])
    peers = {"resting": resting, "ready": len(status["peers"]) - resting}
    yield _by_label("gauge", "peers", "Peers that were asked lately.", "state", peers)
    roots = len(status["not_announced"])
    yield _one("gauge", "unannounced_roots", "Roots that nobody can know of.", roots)
    if sweep := status["sweep"]:
        text = "Blocks that others were told of in the present round."
        yield _one("gauge", "announced_blocks", text, sweep["blocks"])
    missing = len(status["failures"])
    yield _one("gauge", "missing_blocks", "Blocks that could not be had lately.", missing)
    members = status["discovery"]["members"]
    neighbours = sum(len(each["peers"]) for each in members if each["kind"] == "lan")
    yield _one("gauge", "neighbours", "Nodes found on the local network.", neighbours)
    yield from _dht([each for each in members if each["kind"] == "dht" and each["is_running"]])


def _dht(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Family]:
    """Yield what this machine's nodes of the DHT count together."""
    for name, text in (
        ("contacts", "Nodes of the DHT that are known."),
        ("records", "Records kept for others."),
        ("announced", "Keys announced from here."),
    ):
        yield _one("gauge", f"dht_{name}", text, sum(node[name] for node in nodes))
    outcomes: Counter[str] = Counter()
    for node in nodes:
        outcomes.update(node["requests"])
    requests = {name.replace(" ", "_"): count for name, count in outcomes.items()}
    text = "Requests of the DHT, made and received, by what came of them."
    yield _by_label("counter", "dht_requests_total", text, "outcome", requests)
    dropped = sum(sum(node["dropped"].values()) for node in nodes)
    yield _one("counter", "dht_dropped_datagrams_total", "Datagrams of no use.", dropped)


def _one(
    kind: Literal["counter", "gauge"], name: str, text: str, value: Number, **labels: str
) -> Family:
    return Family(f"libernet_{name}", kind, text, (Sample(value, labels),))


def _by_label(
    kind: Literal["counter", "gauge"],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, Number],
) -> Family:
    samples = tuple(Sample(value, {label: key}) for key, value in values.items())
    return Family(f"libernet_{name}", kind, text, samples)
