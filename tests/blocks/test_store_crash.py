"""The store through kill -9 and power cuts: what a child process acknowledged is there afterwards.

The child puts and flushes from several threads and reports what is durable on its standard output,
one "ID NUMBER" line per block. Another thread caches more blocks than there is room for, and now
and then makes one of them its own. One more collects: every fourth block is garbage as soon as it
is durable, until it is put again and acknowledged. Run as a program, this file is that child.
"""

import fcntl
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockNotFound
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store

ROUNDS = 20
THREADS = 3
CACHE_BYTES = 2_000_000
ROOT = Path(__file__).parents[2]


def block_of(number: int) -> bytes:
    """Return a block, small or large, that follows from *number* alone."""
    source = random.Random(str(number))  # of a whole number the sign would not count
    return source.randbytes(source.choice((100, 4096, 30_000, 40_000, 300_000)))


def put_for_ever(store: Store, first_number: int, output: int, garbage: set[BlockId]) -> None:
    order = random.Random(first_number)
    number = first_number
    while True:
        group = range(number, number + order.randint(1, 12) * THREADS, THREADS)
        lines = []
        thrown_away: dict[BlockId, bytes] = {}
        for number in group:
            block = block_of(number)
            block_id = BlockId.of(block)
            store.put(block_id, block)
            if number % 4:
                lines.append(f"{block_id} {number}\n")
            else:
                thrown_away[block_id] = block
        store.flush()
        os.write(output, "".join(lines).encode())  # whole: less than PIPE_BUF
        garbage.update(thrown_away)
        for block_id, block in thrown_away.items():
            if order.random() < 0.5:
                garbage.discard(block_id)
                store.put(block_id, block)
                store.flush()
                number = next(n for n in group if block_of(n) == block)
                os.write(output, f"{block_id} {number}\n".encode())
        number = group.stop


def cached_numbers(first_number: int) -> range:
    """Return which blocks the child that starts there caches: about 15 MB."""
    return range(-first_number - 200, -first_number)


def cache_for_ever(store: Store, first_number: int, output: int) -> None:
    order = random.Random(first_number)
    while True:
        number = order.choice(cached_numbers(first_number))
        block = block_of(number)
        block_id = BlockId.of(block)
        assert store.put_cached(block_id, block)
        if order.random() < 0.01:
            store.put(block_id, block)
            store.flush()
            os.write(output, f"{block_id} {number}\n".encode())


def collect_for_ever(store: Store, folder: Path, garbage: set[BlockId]) -> None:
    while True:
        with store.collecting() as collection:
            store.flush()
            thrown_away = set(garbage)
            index = sqlite3.connect(f"file:{folder}/index.sqlite?mode=ro", uri=True)
            ids = [BlockId(row[0]) for row in index.execute("SELECT id FROM block")]
            index.close()
            collection.keep(block_id for block_id in ids if block_id not in thrown_away)
            collection.sweep()


def acknowledge_until_killed(folder: Path, first_number: int) -> None:
    with Store(folder, cache_bytes=CACHE_BYTES, reserve_bytes=0) as store:
        garbage: set[BlockId] = set()
        threads = [
            threading.Thread(target=put_for_ever, args=(store, first_number + n, 1, garbage))
            for n in range(THREADS)
        ]
        threads.append(threading.Thread(target=collect_for_ever, args=(store, folder, garbage)))
        threads.append(threading.Thread(target=cache_for_ever, args=(store, first_number, 1)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@contextmanager
def writing(folder: Path, first_number: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the child; it is killed at the end if it still lives."""
    command = [sys.executable, __file__, str(folder), str(first_number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


def read_acknowledged(child: subprocess.Popen[bytes], *, blocks: int) -> dict[BlockId, int]:
    """Return at least *blocks* acknowledged blocks, or fewer if the child dies before."""
    assert child.stdout is not None
    acknowledged = {}
    for _ in range(blocks):
        line = child.stdout.readline().split()
        if not line:
            break
        acknowledged[BlockId.parse(line[0].decode())] = int(line[1])
    return acknowledged


def read_the_rest(child: subprocess.Popen[bytes]) -> dict[BlockId, int]:
    return read_acknowledged(child, blocks=10**9)


def assert_kept(folder: Path, acknowledged: dict[BlockId, int], started: range) -> None:
    """Check that all acknowledged blocks are there, and that no block is served wrong."""
    with Store(folder) as store:
        assert_cache_is_counted(folder)
        for block_id, number in acknowledged.items():
            assert store.get(block_id) == block_of(number)
        for number in [*started, *cached_numbers(started.start)]:
            block = block_of(number)
            try:
                assert store.get(BlockId.of(block)) == block
            except BlockNotFound:
                assert BlockId.of(block) not in acknowledged
        assert list((folder / "incoming").iterdir()) == []


def assert_cache_is_counted(folder: Path) -> None:
    """Check that no cached file is without a row, and that the rows keep within the quota."""
    index = sqlite3.connect(folder / "index.sqlite")
    rows = {
        row[0].hex(): row[1] for row in index.execute("SELECT id, size FROM block WHERE class = 2")
    }
    total = index.execute("SELECT blocks, bytes FROM class_total WHERE class = 2").fetchone()
    index.close()
    assert total == (len(rows), sum(rows.values()))
    # What another thread queues between a flush's making room and its commit comes on top.
    assert total[1] <= CACHE_BYTES + 300_000
    assert {path.name for path in (folder / "cached").iterdir()} <= rows.keys()


def test_every_acknowledged_block_survives_being_killed_at_any_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    moments = random.Random(2)
    acknowledged: dict[BlockId, int] = {}
    first_number = 0
    for _ in range(ROUNDS):
        with writing(folder, first_number) as child:
            now = read_acknowledged(child, blocks=moments.randint(1, 150))
            assert now
            child.send_signal(signal.SIGKILL)
            now |= read_the_rest(child)
        acknowledged |= now
        started = range(first_number, max(first_number, *now.values()) + 12 * THREADS + 1)
        assert_kept(folder, now, started)
        first_number = started.stop
    assert_kept(folder, acknowledged, range(0))
    assert caplog.messages == []


EXT4_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


def cut_power(mount_point: Path) -> None:
    """Stop the ext4 file system at once, as it is on the disk, without writing its journal."""
    descriptor = os.open(mount_point, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, sys.byteorder))
    finally:
        os.close(descriptor)


@contextmanager
def mounted(image: Path, mount_point: Path) -> Iterator[None]:
    command = ["mount", "-o", "loop", str(image), str(mount_point)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"a loop device cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(mount_point)], check=True, timeout=30)


def test_every_acknowledged_block_survives_a_power_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a loop device needs root")
    image, mount_point = tmp_path / "disk", tmp_path / "mnt"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, timeout=60)
    folder = mount_point / "store"
    acknowledged: dict[BlockId, int] = {}
    first_number = 0
    for blocks in (1, 40, 400):
        with mounted(image, mount_point), writing(folder, first_number) as child:
            now = read_acknowledged(child, blocks=blocks)
            cut_power(mount_point)
            child.kill()
            now |= read_the_rest(child)
            child.wait(30)
        with mounted(image, mount_point):
            acknowledged |= now
            started = range(first_number, max(first_number, *now.values()) + 12 * THREADS + 1)
            assert_kept(folder, acknowledged, started)
            first_number = started.stop
    assert caplog.messages == []


if __name__ == "__main__":
    acknowledge_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
