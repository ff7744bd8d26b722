"""How long the store takes to find blocks that are like a target."""

import random
import time
from pathlib import Path

from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store
from libernet.blocks.store_index import BlockClass, Entry

_BLOCK_BYTES = 1000
_ROWS_PER_COMMIT = 50_000


def like_seconds(folder: Path, *, blocks: int = 1_000_000, searches: int = 1000) -> list[float]:
    """Return what *searches* took each, beside *blocks* private ones and as many to be found.

    Half of those are public, the others held for somebody. The index alone is filled, in *folder*:
    no search reads a block. Takes a minute for a million, most of it for filling.
    """
    numbers = random.Random(0)
    with Store(folder) as store:
        for _ in range(0, blocks, _ROWS_PER_COMMIT):
            rows = min(blocks, _ROWS_PER_COMMIT)
            ids = sorted(BlockId(numbers.randbytes(32)) for _ in range(2 * rows))
            store._index.replace(
                [Entry(each, _kind(number), _BLOCK_BYTES, True) for number, each in enumerate(ids)]
            )
            store.like.make_public(ids[1::4])
    with Store(folder) as store:
        return [_search(store, BlockId(numbers.randbytes(32))) for _ in range(searches)]


def _kind(number: int) -> BlockClass:
    return BlockClass.HELD if number % 4 == 0 else BlockClass.OWN


def _search(store: Store, target: BlockId) -> float:
    began = time.perf_counter()
    found = store.like.best(target)
    seconds = time.perf_counter() - began
    assert found
    return seconds
