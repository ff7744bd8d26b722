"""The namespace against the plainest model, whatever is done to it in whatever order."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.miniature import quick_folder, small_sizes
from tests.support.play import FIRST_STEPS, STEPS, Play, Step, run_through

pytestmark = pytest.mark.usefixtures("miniature")


@pytest.fixture(scope="module")
def miniature() -> Iterator[None]:
    with small_sizes():
        yield


async def _play(steps: list[Step]) -> None:
    with quick_folder() as folder:
        play = Play(folder)
        for session in _sessions([*FIRST_STEPS, *steps]):
            async with play.session():
                await play.check()
                for call, *arguments in session:
                    await play.step(call, arguments)
                    await play.check()


def _sessions(steps: list[Step]) -> list[list[Step]]:
    """Return what is done between one start and the next; nothing after the last."""
    sessions: list[list[Step]] = [[]]
    for step in steps:
        if step[0] == "restart":
            sessions.append([])
        else:
            sessions[-1].append(step)
    return [*sessions, []]


@settings(deadline=None, max_examples=60)
@given(st.lists(STEPS, max_size=40))
def test_the_tree_is_what_was_done_to_it(steps: list[Step]) -> None:
    run_through(_play, steps)
