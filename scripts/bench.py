"""Measure Libernet beside a plain folder and gocryptfs, in one run, interleaved.

A large random file and a tree of files are copied in with `cp -a` until they are durable, and
read back cold; each time into a new file system. Programs commit to a database, read here and
there, and remove the tree. The tree is backed up, restored and read in its snapshot beside restic
and borg. Sealing, storing and chunking are measured by themselves, and the search for ids like
others. A shared file is read by URL and through the mount. Then a second node reads file and tree
from a first, over loopback beside curl and btfs, and with a round trip of 50 ms beside plain TCP;
and a file from four slow nodes beside four curls. The DHT is tried in a simulated network of a
thousand nodes.
Medians, ratios and whether the marks are met go to stdout, all samples and facts about the
machine to a JSON file.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.commands import BenchError
from benchmarks.corpus import FULL, QUICK, Corpus
from benchmarks.dht import Dht
from benchmarks.engine import Engine
from benchmarks.histories import Histories
from benchmarks.likes import Likes
from benchmarks.listings import Listings
from benchmarks.machine import PROJECT, drop_caches, facts, work_folder
from benchmarks.many import Many
from benchmarks.programs import Programs
from benchmarks.remote import Remote
from benchmarks.report import (
    DHT_ROWS,
    ENGINE_ROWS,
    HISTORY_ROWS,
    MANY_ROWS,
    REMOTE_ROWS,
    URL_ROWS,
    judged,
    judgement,
    medians_of,
    table,
)
from benchmarks.rounds import Rounds, Samples
from benchmarks.space import Space
from benchmarks.systems import Gocryptfs, Libernet, PlainFolder, System
from benchmarks.thinning import Thinning
from benchmarks.urls import Urls

WORKLOADS = (
    "file",
    "tree",
    "start",
    "programs",
    "space",
    "history",
    "url",
    "snapshots",
    "engine",
    "listing",
    "many",
    "like",
    "remote",
    "dht",
)

BUSY_LOAD_PER_CORE = 0.3
"""Load average from which other programs are likely to show in the figures."""


def main() -> int:
    """Run the benchmark as the command line says; return the exit code."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        _bench(options)
    except BenchError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--rounds", type=_count, metavar="N", help="default: 3, or 1 with --quick")
    parser.add_argument(
        "--only", action="append", choices=WORKLOADS, help="measure only this; may be repeated"
    )
    parser.add_argument("--alone", action="store_true", help="measure nothing but Libernet")
    parser.add_argument(
        "--quick", action="store_true", help="little of everything, to see that it works"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="work in a new folder inside DIR, on a disk"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: build/bench/TIME.json in the project"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def _bench(options: argparse.Namespace) -> None:
    systems = [Libernet] if options.alone else [PlainFolder, Gocryptfs, Libernet]
    with work_folder(options.work) as work:
        machine = facts(work)
        corpus, samples = _measure(options, work, systems)
    medians = medians_of(samples)
    # Little of everything says nothing about the marks.
    marks = [] if options.quick else judged(medians)
    titles = {PlainFolder.name: str(machine["file_system"])}
    print(f"file: {corpus.file_bytes:,} bytes")
    print(f"tree: {corpus.tree_files:,} files, {corpus.tree_bytes:,} bytes\n")
    for text in (
        table(medians, [system.name for system in systems], titles),
        table(medians, ["sha256", "plain", "restic", Libernet.name], titles, ENGINE_ROWS),
        table(medians, ["restic", "borg", Libernet.name], {}, HISTORY_ROWS),
        table(medians, ["thousand", Libernet.name], {}, MANY_ROWS),
        table(medians, ["mount", Libernet.name], {}, URL_ROWS),
        table(medians, ["curl", "btfs", "tcp", Libernet.name], {}, REMOTE_ROWS),
        table(medians, [Libernet.name], {}, DHT_ROWS),
    ):
        if text:
            print(text, end="\n\n")
    if marks:
        print(judgement(marks), end="\n\n")
    _say_if_busy(machine)
    _keep(
        options.json,
        {
            "machine": machine,
            "quick": options.quick,
            "file_bytes": corpus.file_bytes,
            "tree_files": corpus.tree_files,
            "tree_bytes": corpus.tree_bytes,
            "medians": medians,
            "samples": samples,
            "marks": marks,
        },
    )


def _measure(
    options: argparse.Namespace, work: Path, systems: Sequence[type[System]]
) -> tuple[Corpus, Samples]:
    drop_caches(work)  # says now, and not after minutes, that it must not
    workloads = options.only or WORKLOADS
    corpus = Corpus.prepare(work / "corpus", QUICK if options.quick else FULL)
    number = options.rounds or (1 if options.quick else 3)
    rounds = Rounds(corpus, work, systems)
    remote = Remote(corpus, work) if "remote" in workloads else None
    rounds.copy(
        number,
        [workload for workload in ("file", "tree") if workload in workloads],
    )
    if "file" in workloads:
        rounds.tmpfs(number)
    if "start" in workloads:
        rounds.start(2 if options.quick else 5)
    programs = Programs(corpus, work, systems)
    if "programs" in workloads:
        programs.run(number)
    space = Space(corpus, work)
    if "space" in workloads:
        space.measure()
    histories = Histories(corpus, work)
    if "history" in workloads:
        histories.run(number)
    urls = Urls(corpus, work)
    if "url" in workloads:
        urls.run(number)
    if remote is not None:
        remote.near(number)
        remote.slow(number)
        remote.far(number)
    local = [part.samples for part in (rounds, programs, space, histories, urls)]
    parts = _measure_parts(workloads, work, quick=options.quick)
    return corpus, _joined(*local, *parts, remote.samples if remote else {})


def _measure_parts(workloads: Sequence[str], work: Path, *, quick: bool) -> list[Samples]:
    """Measure what is not done through a mount."""
    thinning, engine, listings = Thinning(work), Engine(work), Listings(work)
    many, likes, dht = Many(work), Likes(work), Dht()
    steps: dict[str, Callable[[], None]] = {
        "snapshots": lambda: thinning.run(50 if quick else 1000),
        "engine": lambda: engine.run(quick=quick),
        "listing": lambda: listings.run(10_000 if quick else 1_000_000),
        "many": lambda: many.run(10_000 if quick else 1_000_000, 1 if quick else 5),
        "like": lambda: likes.search(20_000 if quick else 1_000_000),
        "dht": lambda: dht.run(quick=quick),
    }
    for workload, step in steps.items():
        if workload in workloads:
            step()
    return [part.samples for part in (thinning, engine, listings, many, likes, dht)]


def _joined(*parts: Samples) -> Samples:
    return {figure: by_system for part in parts for figure, by_system in part.items()}


def _say_if_busy(machine: Mapping[str, object]) -> None:
    load = float(str(machine["load_average_at_start"]))
    if load > BUSY_LOAD_PER_CORE * int(str(machine["cores"])):
        print(f"The machine was busy at the start (load {load:.1f}): the figures are disturbed.")


def _keep(chosen: Path | None, findings: Mapping[str, object]) -> None:
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H.%M.%SZ.json")
    file = chosen or PROJECT / "build" / "bench" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(findings, indent=2) + "\n")
    print(f"All samples are in {file}")


if __name__ == "__main__":
    sys.exit(main())
