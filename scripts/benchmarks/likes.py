"""How long the store takes to find blocks whose ids are like another one."""

import random
import shutil
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.rounds import Samples, say
from benchmarks.systems import Libernet
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store
from libernet.blocks.store_index import BlockClass, Entry

_SEARCHES = 1000
_BLOCK_BYTES = 1000
_ROWS_PER_COMMIT = 50_000


class Likes:
    """Searches in a large store, and collects what they took.

    State: samples; a store inside the work folder while it searches.
    """

    def __init__(self, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._folder = work / "likes"

    def search(self, blocks: int) -> None:
        """Search among *blocks* that may be told of, beside as many private ones (44 s for 10^6).

        Half of them are public, the others held for somebody. Only the index is filled: no search
        reads a block.
        """
        say(f"searches among {blocks:,} blocks")
        numbers = random.Random(0)
        try:
            with Store(self._folder) as store:
                for filled in range(0, blocks, _ROWS_PER_COMMIT):
                    _fill(store, min(blocks - filled, _ROWS_PER_COMMIT), numbers)
            with Store(self._folder) as store:
                took = sorted(_search_seconds(store, numbers) for _ in range(_SEARCHES))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        for figure, place in (("like.p50", _SEARCHES // 2), ("like.p99", _SEARCHES * 99 // 100)):
            self.samples[figure][Libernet.name].append(took[place])


def _fill(store: Store, rows: int, numbers: random.Random) -> None:
    ids = sorted(BlockId(numbers.randbytes(32)) for _ in range(2 * rows))
    entries = []
    for number, block_id in enumerate(ids):
        block_class = BlockClass.HELD if number % 4 == 0 else BlockClass.OWN
        entries.append(Entry(block_id, block_class, _BLOCK_BYTES, True))
    store._index.replace(entries)
    store.like.make_public(ids[1::4])


def _search_seconds(store: Store, numbers: random.Random) -> float:
    target = BlockId(numbers.randbytes(32))
    began = time.perf_counter()
    found = store.like.best(target)
    seconds = time.perf_counter() - began
    assert found, "a search finds something however far away"
    return seconds
