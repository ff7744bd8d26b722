"""A file by URL, beside reading it through the mount."""

import json
from collections import defaultdict
from pathlib import Path

from benchmarks.commands import run, said
from benchmarks.corpus import MEBIBYTE, Corpus
from benchmarks.machine import PROJECT, drop_caches
from benchmarks.rounds import Home, Samples, say
from benchmarks.systems import Libernet

MAX_COMMAND_SECONDS = 120.0
"""Deadline of commands to the node: `share` publishes the whole file first."""


class Urls:
    """Reads one shared file by URL and through the mount, cold, in turns.

    State: samples; one folder inside the work folder while it runs. Each time the node has started
    anew: what its chunk cache holds would be read by the second without work.
    """

    def __init__(self, corpus: Corpus, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._corpus = corpus
        self._work = work

    def run(self, rounds: int) -> None:
        """Read the corpus' file *rounds* times in either way."""
        file = self._corpus.file
        with Home(self._work / "urls") as home:
            node = Libernet(home)
            node.mount()
            run("cp", file, node.target)
            reference = self._libernet(node, "share", node.target)
            opened = Path(self._libernet(node, "open", reference, "shared"))
            node.unmount()
            for number in range(rounds):
                for way in ("mount", Libernet.name)[:: -1 if number % 2 else 1]:
                    say(f"round {number + 1} of {rounds}: file by URL, {way}")
                    node.mount()
                    url = f"{self._address(node)}{reference}/{file.name}"
                    drop_caches(home)
                    if way == "mount":
                        source = opened / file.name
                        took = run("dd", f"if={source}", "of=/dev/null", f"bs={MEBIBYTE}")
                    else:
                        took = run("curl", "--silent", "--fail", "--output", "/dev/null", url)
                    self.samples["url.file"][way].append(self._corpus.file_bytes / took)
                    node.unmount()

    def _address(self, node: Libernet) -> str:
        return str(json.loads(self._libernet(node, "status", "--json"))["web"])

    def _libernet(self, node: Libernet, *arguments: str | Path) -> str:
        command = (PROJECT / ".venv/bin/libernet", "--state", node.state, *arguments)
        return said(*command, seconds=MAX_COMMAND_SECONDS)
