"""The set of ids that walks over very many blocks keep."""

import random
import sys

from libernet.blocks.id_set import IdSet
from libernet.blocks.ids import BlobId, BlockId


def test_each_id_is_new_once() -> None:
    ids = [BlockId.of(b"%d" % number) for number in range(20_000)] + [BlobId.of(b"blob")]
    met = IdSet()
    assert all(met.add(each) for each in ids)
    random.Random(1).shuffle(ids)
    assert not any(met.add(each) for each in ids)
    assert len(met) == len(ids)


def test_ids_that_somebody_chose_alike_are_told_apart() -> None:
    ids = [BlockId(number.to_bytes(8) + bytes(24)) for number in range(1, 3000)]
    ids += [BlockId(number.to_bytes(4) + bytes(28)) for number in range(1, 3000)]
    met = IdSet()
    assert all(met.add(each) for each in ids)
    assert not any(met.add(each) for each in ids)


def test_an_id_takes_little_memory() -> None:
    met = IdSet()
    for number in range(100_000):
        met.add(BlockId.of(b"%d" % number))
    assert sys.getsizeof(met._slots) / len(met) < 33
