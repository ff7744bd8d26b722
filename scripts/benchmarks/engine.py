"""What sealing, storing and chunking cost, beside hashing alone and plain files."""

import hashlib
import json
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import lookups
from benchmarks.commands import said_by
from benchmarks.machine import settle
from benchmarks.rounds import Samples, say
from libernet.blocks.chunking import Chunker
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES, MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.sealing import Sealer, unseal
from libernet.blocks.store import Store
from libernet.blocks.store_index import BlockClass, Entry
from libernet.blocks.verification import is_block
from libernet.fs.process import tune

MEBIBYTE = 1024 * 1024

_SECRET = bytes(range(32))
_CALLS = 40
_WINDOWS = 7
_INSERTED_AT = 1000
_INSERTED = random.Random(9).randbytes(4096)


class Engine:
    """Measures, and collects the figures.

    State: samples; folders inside the work folder while something is stored.
    """

    def __init__(self, work: Path) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self._folder = work / "engine"

    def run(self, *, quick: bool) -> None:
        """Measure everything, in about a minute; with *quick* little of it."""
        tune()
        say("sealing")
        self._seal()
        try:
            say("storing")
            self._store_large(32 if quick else 256)
            self._store_small(2_000 if quick else 40_000)
            say("looking up among many small blocks")
            self._look_up(10_000 if quick else 1_000_000)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        say("inserting into a large file")
        self._insert(32 if quick else 1024)

    def _seal(self) -> None:
        chunk = os.urandom(MAX_CHUNK_BYTES)
        public_chunk = os.urandom(MAX_PUBLIC_CHUNK_BYTES)
        sealer = Sealer(_SECRET)
        reference, block = sealer.seal(chunk)
        hashing = _thread_seconds(lambda: hashlib.sha256(chunk).digest())
        for figure, work in (
            ("seal", lambda: sealer.seal(chunk)),
            ("unseal", lambda: (is_block(reference.id, block), unseal(reference, block))),
            ("seal.public", lambda: seal_public(public_chunk)),
        ):
            self._record(f"engine.{figure}", _thread_seconds(work))
            self.samples[f"engine.{figure}"]["sha256"].append(hashing)

    def _store_large(self, blocks: int) -> None:
        """Store 1 MiB blocks, each beside a plain file that is fsynced, in turns of 16."""
        self._folder.mkdir()
        spent = {"libernet": 0.0, "plain": 0.0}
        with Store(self._folder / "store", reserve_bytes=0) as store:
            for first in range(0, blocks, 16):
                contents = [random.Random(first + n).randbytes(MEBIBYTE) for n in range(16)]
                ids = [BlockId.of(content) for content in contents]
                began = time.perf_counter()
                for block_id, content in zip(ids, contents, strict=True):
                    store.put(block_id, content)
                store.flush()
                stored = time.perf_counter()
                for block_id, content in zip(ids, contents, strict=True):
                    _write_durably(self._folder / str(block_id), content)
                spent["libernet"] += stored - began
                spent["plain"] += time.perf_counter() - stored
        for system, seconds in spent.items():
            self.samples["engine.put"][system].append(seconds / blocks)
        shutil.rmtree(self._folder)
        settle(self._folder.parent)

    def _store_small(self, blocks: int) -> None:
        """Store 4 KiB blocks in groups of 1,000."""
        contents = [random.Random(number).randbytes(4096) for number in range(blocks)]
        ids = [BlockId.of(content) for content in contents]
        with Store(self._folder, reserve_bytes=0) as store:
            began = time.perf_counter()
            for number, (block_id, content) in enumerate(zip(ids, contents, strict=True)):
                store.put(block_id, content)
                if number % 1000 == 999:
                    store.flush()
            store.flush()
            self._record("engine.put_small", (time.perf_counter() - began) / blocks)
        shutil.rmtree(self._folder)

    def _look_up(self, blocks: int) -> None:
        with Store(self._folder, reserve_bytes=0) as store:
            numbers = random.Random(0)
            for _ in range(0, blocks, 10_000):
                ids = sorted(BlockId(numbers.randbytes(32)) for _ in range(10_000))
                store._index.replace([_entry(block_id) for block_id in ids])
        answer = said_by(lookups, self._folder, seconds=120)
        found: dict[str, float] = json.loads(answer)
        self._record("engine.lookup", found["seconds"])
        self._record("engine.lookup_memory", found["bytes"])
        shutil.rmtree(self._folder)

    def _insert(self, mebibytes: int) -> None:
        """Cut a file with and without an insertion; what is new, by the file's length."""
        known = {digest for digest, _ in _chunks(mebibytes, inserted=False)}
        new = sum(size for digest, size in _chunks(mebibytes, inserted=True) if digest not in known)
        self._record("engine.inserted", new / (mebibytes * MEBIBYTE) * 100)

    def _record(self, figure: str, value: float) -> None:
        self.samples[figure]["libernet"].append(value)


def _thread_seconds(work: Callable[[], object]) -> float:
    """Return the time of this thread that one call takes, in the middle of several windows."""
    windows = []
    for _ in range(_WINDOWS):
        began = time.thread_time()
        for _ in range(_CALLS):
            work()
        windows.append((time.thread_time() - began) / _CALLS)
    return median(windows)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _entry(block_id: BlockId) -> Entry:
    return Entry(block_id, BlockClass.OWN, 100, False, bytes(block_id) * 3 + b"1234")


def _chunks(mebibytes: int, *, inserted: bool) -> Iterator[tuple[bytes, int]]:
    """Yield hash and length of the chunks of a file of random bytes."""
    chunker = Chunker(_SECRET)
    waiting = b""
    for number in range(mebibytes):
        piece = random.Random(number).randbytes(MEBIBYTE)
        if inserted and number == 0:
            piece = piece[:_INSERTED_AT] + _INSERTED + piece[_INSERTED_AT:]
        waiting += piece
        is_last = number == mebibytes - 1
        if not is_last and len(waiting) < 8 * MEBIBYTE:
            continue
        begin = 0
        for end in chunker.cuts(waiting, final=is_last):
            yield hashlib.sha256(waiting[begin:end]).digest(), end - begin
            begin = end
        waiting = waiting[begin:]
