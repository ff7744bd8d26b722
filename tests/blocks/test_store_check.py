"""Reading the store again finds every fault, and what it finds can be put again."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.store import Store
from libernet.blocks.store_check import Fault, Pace
from tests.support.blocks import block_of, blocks_of

SMALL, LARGE = 2_000, 40_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(folder, reserve_bytes=0) as opened:
        yield opened


def file_of(folder: Path, block_id: StoredId) -> Path:
    return folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)


def faults(store: Store, *, read: bool = True) -> list[tuple[Fault, StoredId | None]]:
    reader = store.get if read else None
    return [(finding.fault, finding.block_id) for finding in store.check(read=reader)]


def test_a_sound_store_has_no_fault(store: Store) -> None:
    for block in (*blocks_of(SMALL, 300), *blocks_of(LARGE, 30)):
        store.put(*block)
    assert store.put_cached(*block_of(LARGE, 99))
    store.flush()
    assert faults(store) == []
    assert faults(store, read=False) == []


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_a_flipped_bit_is_found_and_the_block_can_be_put_again(
    store: Store, folder: Path, size_bytes: int
) -> None:
    blocks = blocks_of(size_bytes, 3)
    for block in blocks:
        store.put(*block)
    store.flush()
    block_id, block = blocks[1]
    damaged = block[:-1] + bytes([block[-1] ^ 1])
    if size_bytes == LARGE:
        file_of(folder, block_id).write_bytes(damaged)
    else:
        index = sqlite3.connect(folder / "index.sqlite")
        index.execute("UPDATE content SET bytes = ? WHERE bytes = ?", (damaged, block))
        index.commit()
        index.close()
    assert faults(store, read=False) == []
    assert faults(store) == [(Fault.DAMAGED, block_id)]
    assert faults(store) == []
    assert (folder / "corrupt" / str(block_id)).read_bytes() == damaged
    store.put(block_id, block)
    store.flush()
    assert store.get(block_id) == block


def test_what_is_missing_and_what_has_no_row_is_found_without_reading(
    store: Store, folder: Path
) -> None:
    missing, cut, stray = blocks_of(LARGE, 3)
    store.put(*missing)
    store.put(*cut)
    store.flush()
    file_of(folder, missing[0]).unlink()
    file_of(folder, cut[0]).write_bytes(cut[1][:-1])
    file_of(folder, stray[0]).write_bytes(stray[1])
    found = faults(store, read=False)
    assert sorted(found[:2]) == sorted([(Fault.MISSING, missing[0]), (Fault.MISSING, cut[0])])
    assert found[2:] == [(Fault.STRAY, stray[0])]


def test_a_cached_block_may_be_torn(store: Store, folder: Path) -> None:
    block_id, block = block_of(LARGE)
    assert store.put_cached(block_id, block)
    store.flush()
    (folder / "cached" / str(block_id)).write_bytes(b"torn")
    assert faults(store) == []
    assert block_id not in store


def test_reading_keeps_to_the_rate(store: Store) -> None:
    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    for block in blocks_of(LARGE, 50):
        store.put(*block)
    store.flush()
    pace = Pace(1_000_000, clock=lambda: now, sleep=sleep)
    assert list(store.check(read=store.get, pace=pace)) == []
    assert now == pytest.approx(50 * LARGE / 1_000_000)
    assert max(slept) == pytest.approx(LARGE / 1_000_000)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_byte_of_the_index_goes_bad_no_wrong_block_is_served(
    folder: Path, seed: int
) -> None:
    """A flipped byte in it gives an error, a block that is not here, or changes nothing."""
    blocks = blocks_of(SMALL, 40)
    with Store(folder, reserve_bytes=0) as store:
        for block in blocks:
            store.put(*block)
    path = folder / "index.sqlite"
    content = bytearray(path.read_bytes())
    place = (seed * 7919 * 131) % len(content)
    content[place] ^= 0xFF
    path.write_bytes(content)
    try:
        with Store(folder, reserve_bytes=0) as store:
            wrong = 0
            for block_id, block in blocks:
                try:
                    assert store.get(block_id) == block
                except (BlockCorrupt, BlockNotFound, StoreError):
                    wrong += 1
            if wrong:
                assert path.read_bytes() != b""
    except StoreError:
        pass


def test_a_damaged_index_is_found_by_the_check(folder: Path) -> None:
    with Store(folder, reserve_bytes=0) as store:
        for block in blocks_of(SMALL, 400):
            store.put(*block)
    path = folder / "index.sqlite"
    content = bytearray(path.read_bytes())
    for page in range(20, 60):
        content[page * 4096 : page * 4096 + 16] = b"\xff" * 16
    path.write_bytes(content)
    with Store(folder, reserve_bytes=0) as store:
        assert Fault.INDEX in {finding.fault for finding in store.check()}
