"""Where a long list is cut, so that a change moves the cuts around it and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARKS = 2**64
"""Marks are below this: 8 bytes of a hash."""

NEVER = MARKS - 1
"""Mark of an item in front of which there is no cut if another will do."""


@dataclass(frozen=True, slots=True)
class CutRule:
    """Say how to cut: no run under *shortest* items but the last, none over *heaviest*.

    Of the items beyond *shortest*, one in *one_in* starts a new run. One that alone is heavier
    than *heaviest* is a run of its own.
    """

    shortest: int
    one_in: int
    heaviest: int


def runs(marks: Sequence[int], weights: Sequence[int], rule: CutRule) -> Iterator[slice]:
    """Yield the runs in which to store a list whose items have *marks* and *weights*.

    Marks are hashes of what does not change while an item stays the same one. They alone decide,
    whatever an item weighs, except that a run over the limit is cut further, within itself.
    """
    threshold = MARKS // rule.one_in
    start = 0
    for place, mark in enumerate(marks):
        if mark < threshold and place - start >= rule.shortest:
            yield from _light_runs(slice(start, place), marks, weights, rule.heaviest)
            start = place
    if start < len(marks):
        yield from _light_runs(slice(start, len(marks)), marks, weights, rule.heaviest)


def _light_runs(
    run: slice, marks: Sequence[int], weights: Sequence[int], heaviest: int
) -> Iterator[slice]:
    """Yield *run*, cut while it is too heavy before the smallest mark in the middle half of it.

    Cutting where the weight reaches the limit would move each cut that follows whenever a weight
    changes; the middle half keeps the depth small where marks are equal.
    """
    items = run.stop - run.start
    if items == 1 or sum(weights[run]) <= heaviest:
        yield run
        return
    middle = range(run.start + max(1, items // 4), run.start + max(2, items * 3 // 4))
    place = min(middle, key=marks.__getitem__)
    yield from _light_runs(slice(run.start, place), marks, weights, heaviest)
    yield from _light_runs(slice(place, run.stop), marks, weights, heaviest)
