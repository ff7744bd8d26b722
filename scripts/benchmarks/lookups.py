"""Look up blocks in the store in a folder, in a process of its own: nothing else's memory counts.

Run as a program, with the folder; the answer is one line of JSON.
"""

import json
import random
import sqlite3
import sys
import time
from pathlib import Path

from benchmarks.memory import bytes_of
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store

LOOKUPS = 100_000


def lookups(folder: str) -> dict[str, float]:
    """Look up blocks at random; return seconds for each, and by how much memory grew."""
    index = sqlite3.connect(Path(folder, "index.sqlite"))
    ids = [BlockId(row[0]) for row in index.execute("SELECT id FROM block LIMIT ?", (LOOKUPS,))]
    index.close()
    random.Random(1).shuffle(ids)
    before = bytes_of("VmRSS")
    with Store(Path(folder), reserve_bytes=0) as store:
        began = time.perf_counter()
        for block_id in ids:
            store.size(block_id)
        seconds = (time.perf_counter() - began) / len(ids)
        return {"seconds": seconds, "bytes": bytes_of("VmRSS") - before}


if __name__ == "__main__":
    print(json.dumps(lookups(sys.argv[1])))
