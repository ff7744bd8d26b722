from collections.abc import Sequence
from operator import itemgetter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.list_cuts import NEVER, CutRule, runs

rules = st.builds(CutRule, st.integers(1, 20), st.integers(1, 20), st.integers(1, 50))
items = st.lists(
    st.tuples(st.integers(0, NEVER) | st.sampled_from([0, NEVER]), st.integers(1, 20)), max_size=200
)


@given(items, rules)
def test_runs_make_up_the_list_and_keep_to_their_weight(
    items: list[tuple[int, int]], rule: CutRule
) -> None:
    found = list(runs(iter(items), itemgetter(0), itemgetter(1), rule))
    assert [item for run in found for item in run] == items
    for run in found:
        assert 0 < sum(weight for _, weight in run) <= rule.heaviest or len(run) == 1


@given(st.integers(0, 10_000), st.integers(0, NEVER))
@settings(deadline=None, max_examples=50)
def test_an_inserted_item_changes_few_runs(place: int, mark: int) -> None:
    def chunks(marks: Sequence[int]) -> set[tuple[int, ...]]:
        rule = CutRule(shortest=16, one_in=64, heaviest=128)
        return {tuple(run) for run in runs(marks, int, lambda _: 1, rule)}

    random = Random(1)
    marks = [random.randrange(NEVER) for _ in range(10_000)]
    before = chunks(marks)
    assert len(before) > 100
    assert len(chunks([*marks[:place], mark, *marks[place:]]) - before) <= 8
