"""Where a long list is cut, so that a change moves the cuts around it and no others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

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


def runs(
    items: Iterable[T], mark: Callable[[T], int], weight: Callable[[T], int], rule: CutRule
) -> Iterator[list[T]]:
    """Yield the runs in which to store a list, while its items come one by one.

    Marks are hashes of what does not change while an item stays the same one. They alone decide,
    whatever an item weighs, except that a run over the limit is cut further, within itself.
    """
    for run in whole_runs(items, mark, rule):
        yield from light_runs(run, mark, weight, rule.heaviest)


def whole_runs(items: Iterable[T], mark: Callable[[T], int], rule: CutRule) -> Iterator[list[T]]:
    """Yield the runs that marks alone make. What comes behind the start of one decides about it."""
    threshold = MARKS // rule.one_in
    run: list[T] = []
    for item in items:
        if len(run) >= rule.shortest and mark(item) < threshold:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def light_runs(
    run: list[T], mark: Callable[[T], int], weight: Callable[[T], int], heaviest: int
) -> Iterator[list[T]]:
    """Yield *run*, cut while it is too heavy before the smallest mark in the middle half of it.

    Cutting where the weight reaches the limit would move each cut that follows whenever a weight
    changes; the middle half keeps the depth small where marks are equal.
    """
    items = len(run)
    if items == 1 or sum(map(weight, run)) <= heaviest:
        yield run
        return
    place = min(range(max(1, items // 4), max(2, items * 3 // 4)), key=lambda at: mark(run[at]))
    yield from light_runs(run[:place], mark, weight, heaviest)
    yield from light_runs(run[place:], mark, weight, heaviest)
