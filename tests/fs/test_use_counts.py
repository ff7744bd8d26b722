"""Counts of uses by number: as in a dict, in a fraction of its memory."""

import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from libernet.fs.use_counts import UseCounts

_NUMBERS = st.sampled_from([0, 1, 63, 64, 65, 1000, 2**62, 2**62 + 1])


@given(st.lists(st.tuples(_NUMBERS, st.integers(0, 3))))
def test_counts_are_those_of_a_dict(steps: list[tuple[int, int]]) -> None:
    counts, model = UseCounts(), Counter[int]()
    for number, times in steps:
        if times:
            model[number] = max(0, model[number] - times)
            assert counts.take(number, times) == (model[number] > 0)
        else:
            model[number] += 1
            counts.add(number)
        assert (number in counts) == (model[number] > 0)
    for number in model:
        assert (number in counts) == (model[number] > 0)


def test_what_is_in_use_no_more_takes_no_room() -> None:
    counts = UseCounts()
    for number in range(100_000):
        counts.add(number)
    assert _bytes(counts) < 100_000 * 16
    for number in range(100_000):
        assert not counts.take(number, 1)
    assert counts._pages == {}


def _bytes(counts: UseCounts) -> int:
    pages = counts._pages
    return sys.getsizeof(pages) + sum(
        sys.getsizeof(place) + sys.getsizeof(page) for place, page in pages.items()
    )
