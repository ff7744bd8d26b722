"""Which blocks a store holds, and which came and went."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.blocks import holdings
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store

BLOCKS = [bytes([number]) * 100 for number in range(25)]
IDS = [BlockId.of(block) for block in BLOCKS]
LARGE = b"l" * (SMALL_BLOCK_BYTES + 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", reserve_bytes=0) as opened:
        for block_id, block in zip(IDS, BLOCKS, strict=True):
            opened.put(block_id, block)
        opened.put(BlobId.of(b"a blob"), b"a blob")
        opened.flush()
        yield opened


def test_all_blocks_are_listed_in_order_a_few_at_a_time(store: Store) -> None:
    listed: list[bytes] = []
    while some := store.holdings.behind(listed[-1] if listed else b"", 10):
        listed += some
    assert listed == sorted(IDS)


def test_what_comes_and_goes_is_told_once(store: Store) -> None:
    store.holdings.follow()
    assert store.holdings.take_changes() == []
    own, cached = BlockId.of(LARGE), BlockId.of(b"cached")
    store.put(own, LARGE)
    store.put_cached(cached, b"cached")
    store.flush()
    assert set(store.holdings.take_changes()) == {own, cached}
    assert store.holdings.take_changes() == []
    assert store.discard(cached)
    with store.collecting() as collection:
        collection.keep(IDS)
        collection.sweep()
    assert set(store.holdings.take_changes()) == {own, cached}
    assert store.holdings.take_changes() == []


def test_nothing_is_noted_before_somebody_follows(store: Store) -> None:
    assert store.holdings.take_changes() == []


def test_a_limited_number_of_changes_is_noted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "MAX_CHANGES", 10)
    store.holdings.follow()
    for number in range(20):
        store.put(BlockId.of(b"%d" % number), b"%d" % number)
    store.flush()
    assert len(store.holdings.take_changes()) == 10
