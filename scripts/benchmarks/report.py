"""What the samples say: medians, ratios, and whether the marks are met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.rounds import Samples

MEBIBYTE = 1024 * 1024

UNITS = {"s": 1.0, "MB/s": 1e6, "MiB": MEBIBYTE, "%": 1.0, "KiB": 1024, "": 1.0}
"""What is divided by to tell a figure in that unit."""

Medians = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: the figure it shows, and what it is called."""

    figure: str
    label: str
    unit: str = "s"


ROWS = (
    Row("file.written", "file: written, durable"),
    Row("file.copied", "  of that: cp -a"),
    Row("file.rest", "  of that: until durable"),
    Row("file.read", "file: read, cold"),
    Row("file.again", "file: read again"),
    Row("file.memory_writing", "file: memory, writing", "MiB"),
    Row("file.memory_reading", "file: memory, reading", "MiB"),
    Row("file.kept", "file: disk / bytes copied", "x"),
    Row("tree.written", "tree: written, durable"),
    Row("tree.copied", "  of that: cp -a"),
    Row("tree.rest", "  of that: until durable"),
    Row("tree.read", "tree: read, cold"),
    Row("tree.listed", "tree: find -ls, cold"),
    Row("tree.removed", "tree: rm -r"),
    Row("tree.memory_writing", "tree: memory, writing", "MiB"),
    Row("tree.memory_reading", "tree: memory, reading", "MiB"),
    Row("tree.kept", "tree: disk / bytes copied", "x"),
    Row("tree.memory_removing", "tree: memory, removing", "MiB"),
    Row("commits.wal", "1,000 commits, WAL"),
    Row("commits.wal_bytes", "  bytes written", "MiB"),
    Row("commits.delete", "1,000 commits, rollback"),
    Row("commits.delete_bytes", "  bytes written", "MiB"),
    Row("commits.memory", "commits: memory", "MiB"),
    Row("reads.p50", "random 4 KiB, cold: p50", "ms"),
    Row("reads.p99", "random 4 KiB, cold: p99", "ms"),
    Row("reads.memory", "random reads: memory", "MiB"),
    Row("like.p50", "ids like another: p50", "ms"),
    Row("like.p99", "ids like another: p99", "ms"),
    Row("start.warm", "start to mounted"),
    Row("start.cold", "start to mounted, cold"),
)

ENGINE_ROWS = (
    Row("engine.seal", "seal 1 MiB, random", "ms"),
    Row("engine.unseal", "unseal it, both checks", "ms"),
    Row("engine.seal.public", "seal it for everybody", "ms"),
    Row("engine.put", "store 1 MiB, durable", "ms"),
    Row("engine.put_small", "store 4 KiB, in groups", "us"),
    Row("engine.lookup", "look up among a million", "us"),
    Row("engine.lookup_memory", "  memory", "MiB"),
    Row("space.blocks", "tree: blocks on the disk", "MiB"),
    Row("space.all", "  with the journal", "MiB"),
    Row("snapshots.listed", "1,000 snapshots: listed", "ms"),
    Row("snapshots.forgotten", "  900 forgotten and pruned"),
    Row("listing.wide.opened", "10^6 in a folder: open", "ms"),
    Row("listing.wide.opened_memory", "  memory", "MiB"),
    Row("listing.wide.listed", "  listed, per second", ""),
    Row("listing.wide.changed", "  one changed: new", "KiB"),
    Row("listing.deep.opened", "10^6 in 20s: open", "ms"),
    Row("listing.deep.opened_memory", "  memory", "MiB"),
    Row("listing.deep.listed", "  listed, per second", ""),
    Row("listing.deep.changed", "  one changed: new", "KiB"),
    Row("engine.inserted", "1 GiB, 4 KiB inserted: new", "%"),
)
"""What is measured beside hashing alone, and beside plain files that are fsynced."""

HISTORY_ROWS = (
    Row("history.first", "tree backed up"),
    Row("history.again", "  again, 1 % changed"),
    Row("history.added", "  of its bytes added", "%"),
    Row("history.restored", "  restored"),
    Row("history.read", "  read in the snapshot, cold"),
)
"""What is done with versions of the tree, beside restic and borg."""

MANY_ROWS = (
    Row("many.stat", "10^6 files: stat of 1,000", "ms"),
    Row("many.stat_cold", "  cold", "ms"),
    Row("many.ls", "  ls -l of ten folders", "ms"),
    Row("many.ls_cold", "  cold", "ms"),
    Row("many.published", "  published after a change", "s"),
    Row("many.memory", "  memory, find and publish", "MiB"),
    Row("many.diff", "  diff of that", "s"),
    Row("many.checked", "  check", "s"),
    Row("many.checked_memory", "  memory for that", "MiB"),
    Row("many.walked", "  find in the snapshot", "s"),
    Row("many.walked_memory", "  memory for that", "MiB"),
)
"""What is done in a tree of a million files, beside a tree of a thousand."""

URL_ROWS = (Row("url.file", "file by URL, cold", "MB/s"),)
"""What is read by URL, beside reading it through the mount."""

REMOTE_ROWS = (
    Row("near.file", "loopback: file read", "MB/s"),
    Row("near.file_beside", "  local reads beside, p99", "ms"),
    Row("near.file_memory", "  memory", "MiB"),
    Row("asked.beside", "  1,000 DHT requests/s, p99", "ms"),
    Row("slow.file", "four at 10 MB/s: file read", "MB/s"),
    Row("slow.file_beside", "  local reads beside, p99", "ms"),
    Row("slow.file_memory", "  memory", "MiB"),
    Row("far.first", "50 ms: first byte"),
    Row("far.listed", "50 ms: tree, find -ls"),
    Row("far.copied", "50 ms: tree, cp -a"),
    Row("far.copied_beside", "  local reads beside, p99", "ms"),
    Row("far.copied_memory", "  memory", "MiB"),
    Row("far.file", "50 ms: file read", "MB/s"),
    Row("far.file_beside", "  local reads beside, p99", "ms"),
    Row("far.file_memory", "  memory", "MiB"),
)
"""What is read from another node, with the round trip to it."""


DHT_ROWS = (
    Row("dht.join", "1,000 nodes: join, p95"),
    Row("dht.announce", "  announce, requests", ""),
    Row("dht.find.found", "  find: found", "%"),
    Row("dht.find.p50", "    p50"),
    Row("dht.find.p95", "    p95"),
    Row("dht.sweep.requests", "  sweep, requests per block", ""),
    Row("dht.sweep.bytes", "    bytes per block", ""),
    Row("dht.sweep.found", "    found", "%"),
    Row("dht.sweep.half_dead", "    half dead: found", "%"),
    Row("dht.half_dead.found", "  half dead: found", "%"),
    Row("dht.half_dead.p50", "    p50"),
    Row("dht.half_dead.p95", "    p95"),
    Row("dht.miss.p50", "  quarter dead: a miss, p50"),
    Row("dht.miss.p95", "    p95"),
    Row("dht.datagram", "  longest datagram, bytes", ""),
    Row("dht.idle", "at rest, requests/s", ""),
    Row("dht.left", "records after a day", ""),
    *(
        Row(f"dht.{kind}.{held}", f"{kind}, {held} held", "us")
        for kind in ("ping", "find", "announce")
        for held in ("nothing", "much")
    ),
)
"""What simulated nodes do, with a round trip of 50 ms, and what a request costs one of them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a figure of Libernet must not exceed: a multiple of another's, or that many of *unit*.

    A speed must reach it instead, *at_least*.
    """

    figure: str
    label: str
    limit: float
    against: str = ""
    unit: str = "s"
    at_least: bool = False

    def value(self, medians: Medians) -> float | None:
        """Return what is compared with the limit, None when it was not measured."""
        figures = medians.get(self.figure, {})
        value = figures.get("libernet")
        if self.against:
            return ratio(value, figures.get(self.against))
        return None if value is None else value / UNITS[self.unit]

    def is_met(self, value: float) -> bool:
        """Say whether *value* is on the right side of the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


MARKS = (
    Mark("file.written", "file written", 1.0, "gocryptfs"),
    Mark("file.read", "file read", 1.5, "gocryptfs"),
    Mark("file.again", "file read again", 1.2, "tmpfs"),
    Mark("tree.written", "tree written", 1.2, "gocryptfs"),
    Mark("tree.listed", "tree listed", 1.0, "gocryptfs"),
    Mark("tree.read", "tree read", 1.2, "gocryptfs"),
    Mark("tree.removed", "tree removed", 1.0, "gocryptfs"),
    Mark("commits.wal", "commits in WAL mode", 5.0, "plain"),
    Mark("commits.wal_bytes", "bytes of commits in WAL mode", 4.0, "plain"),
    Mark("commits.delete", "commits in rollback mode", 5.0, "plain"),
    Mark("commits.delete_bytes", "bytes of commits in rollback mode", 4.0, "plain"),
    Mark("reads.p50", "random read, p50", 0.001),
    Mark("reads.p99", "random read, p99", 0.005),
    # Speeds, turned into times: at least 0.40, 0.75, 0.24 and 0.6 of the other's.
    Mark("history.first", "tree backed up", 1.0, "restic"),
    Mark("history.again", "tree backed up again", 1.0, "restic"),
    Mark("history.added", "added for 1 % changed", 1.0, unit="%"),
    Mark("history.restored", "tree restored", 1.0, "restic"),
    Mark("history.read", "snapshot read", 0.5, "restic"),
    Mark("snapshots.listed", "1,000 snapshots listed", 0.3),
    Mark("snapshots.forgotten", "900 of them forgotten and pruned", 10.0),
    Mark("space.blocks", "room of the tree", 1.15, "restic"),
    Mark("space.all", "room of the tree with the journal", 1.3, "restic"),
    Mark("engine.seal", "sealing", 1 / 0.40, "sha256"),
    Mark("engine.unseal", "unsealing", 1 / 0.75, "sha256"),
    Mark("engine.seal.public", "sealing for everybody", 1 / 0.24, "sha256"),
    Mark("engine.put", "storing 1 MiB", 1 / 0.6, "plain"),
    Mark("engine.put_small", "storing 4 KiB", 1 / 20_000),
    Mark("engine.lookup", "looking up", 20e-6),
    Mark("engine.lookup_memory", "memory of the index", 95.0, unit="MiB"),
    Mark("engine.inserted", "new bytes after an insertion", 0.4, unit="%"),
    *(
        mark
        for shape, label in (("wide", "in one folder"), ("deep", "in folders of 20"))
        for mark in (
            Mark(f"listing.{shape}.opened", f"opening a million {label}", 0.3),
            Mark(f"listing.{shape}.opened_memory", f"memory for that {label}", 95.0, unit="MiB"),
            Mark(f"listing.{shape}.listed", f"listing them {label}", 2e5, unit="", at_least=True),
            Mark(f"listing.{shape}.changed", f"one changed {label}", 600_000 / 1024, unit="KiB"),
        )
    ),
    Mark("many.stat", "stat among a million files", 1.5, "thousand"),
    Mark("many.stat_cold", "stat among a million files, cold", 1.5, "thousand"),
    Mark("many.ls", "ls among a million files", 1.5, "thousand"),
    Mark("many.ls_cold", "ls among a million files, cold", 1.5, "thousand"),
    Mark("many.published", "one change among a million files published", 1.0),
    Mark("many.diff", "diff of one change among a million files", 1.0),
    Mark("like.p50", "ids like another, p50", 0.001),
    *(
        Mark(figure, f"memory ({figure.partition('.')[0]})", 200.0, unit="MiB")
        for figure in (
            "file.memory_writing",
            "file.memory_reading",
            "tree.memory_writing",
            "tree.memory_reading",
            "tree.memory_removing",
            "commits.memory",
            "reads.memory",
            "many.memory",
            "near.file_memory",
            "slow.file_memory",
            "far.copied_memory",
            "far.file_memory",
            "many.walked_memory",
            "many.checked_memory",
        )
    ),
    Mark("start.warm", "start to mounted", 0.7),
    Mark("url.file", "file by URL", 0.7, "mount", at_least=True),
    Mark("near.file", "file from a peer over loopback", 0.4, "curl", at_least=True),
    Mark("near.file", "file from a peer over loopback", 1.0, "btfs", at_least=True),
    Mark("slow.file", "file from four slow peers", 0.9, "curl", at_least=True),
    Mark("far.first", "first byte at 50 ms", 0.6),
    Mark("far.listed", "tree listed at 50 ms", 3.0),
    Mark("far.copied", "tree copied out at 50 ms", 30.0),
    Mark("far.file", "file read at 50 ms", 80.0, unit="MB/s", at_least=True),
    *(
        Mark(f"{figure}_beside", f"local reads beside ({figure}), p99", 0.02)
        for figure in ("near.file", "slow.file", "far.copied", "far.file")
    ),
    Mark("asked.beside", "local reads beside 1,000 DHT requests/s, p99", 0.002),
    Mark("dht.join", "joining 1,000 nodes, p95", 1.0),
    Mark("dht.announce", "requests for an announcement", 60.0, unit=""),
    *(
        mark
        for network, among, found in (
            ("find", "among 1,000 nodes", 99.5),
            ("half_dead", "half of them dead", 99.0),
        )
        for mark in (
            Mark(f"dht.{network}.found", f"found {among}", found, unit="%", at_least=True),
            Mark(f"dht.{network}.p50", f"a find {among}, p50", 0.2),
            Mark(f"dht.{network}.p95", f"a find {among}, p95", 3.0),
        )
    ),
    Mark("dht.sweep.requests", "requests for a block in a sweep", 1.5, unit=""),
    Mark("dht.sweep.found", "swept blocks found", 100.0, unit="%", at_least=True),
    Mark("dht.miss.p95", "a miss, a quarter dead, p95", 5.0),
    Mark("dht.datagram", "longest datagram", 1200.0, unit=""),
    Mark("dht.idle", "requests per second at rest", 1.0, unit=""),
    Mark("dht.left", "records left after a day", 0.0, unit=""),
    *(
        Mark(f"dht.{kind}.{held}", f"a {kind} with {held} held", 300e-6)
        for kind in ("ping", "find", "announce")
        for held in ("nothing", "much")
    ),
)


def medians_of(samples: Samples) -> Medians:
    """Return the median of every list of samples."""
    return {
        figure: {system: median(values) for system, values in by_system.items()}
        for figure, by_system in samples.items()
    }


def ratio(value: float | None, other: float | None) -> float | None:
    """Return *value* by *other*, None when there is nothing to compare."""
    return value / other if value is not None and other else None


def table(
    medians: Medians,
    systems: Sequence[str],
    titles: Mapping[str, str],
    rows: Sequence[Row] = ROWS,
) -> str:
    """Return the medians of all *systems*, and Libernet's ratios to the others, as lines of text.

    *titles* has what a system is called, where that is not its name. Empty when nothing of *rows*
    was measured.
    """
    if not any(row.figure in medians for row in rows):
        return ""
    others = [name for name in systems if name != "libernet"]
    columns = [*systems, *(f"x {titles.get(name, name)}" for name in others)]
    lines = ["".join([" " * 28, *(f"{titles.get(name, name):>13}" for name in columns)])]
    for row in rows:
        if figures := medians.get(row.figure):
            cells = [_cell(figures.get(name), row.unit) for name in systems]
            ours = figures.get("libernet")
            cells += [_cell(ratio(ours, figures.get(name)), "") for name in others]
            lines.append("".join([f"{row.label:<28}", *(f"{cell:>13}" for cell in cells)]))
    return "\n".join(lines)


def judged(medians: Medians) -> list[dict[str, object]]:
    """Return every mark that was measured, with its value and whether it is met."""
    return [
        {
            "mark": mark.label,
            "against": mark.against,
            "limit": mark.limit,
            "unit": "" if mark.against else mark.unit,
            "at_least": mark.at_least,
            "value": value,
            "met": mark.is_met(value),
        }
        for mark in MARKS
        if (value := mark.value(medians)) is not None
    ]


def judgement(marks: Sequence[Mapping[str, object]]) -> str:
    """Return one line of text for each of the *marks*."""
    return "\n".join(
        f"{'met' if mark['met'] else 'MISSED':<8}{mark['mark']}: {mark['value']:.3g} "
        + (f"times {mark['against']}, " if mark["against"] else f"{mark['unit']}, ")
        + f"{'at least' if mark['at_least'] else 'at most'} {mark['limit']:g}"
        for mark in marks
    )


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "MiB":
        return f"{value / MEBIBYTE:.0f} MiB"
    if unit == "MB/s":
        return f"{value / 1e6:.0f} MB/s"
    if unit == "KiB":
        return f"{value / 1024:.0f} KiB"
    if unit == "us":
        return f"{value * 1e6:.1f} us"
    if unit == "ms":
        return f"{value * 1e3:.2f} ms"
    return f"{value:.2f} {unit}".strip()
