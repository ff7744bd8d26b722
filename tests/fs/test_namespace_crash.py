"""The node ended by force: what a new one finds is the tree of one instant, and not too old."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from tests.support.caller import Caller, Seen, opened_node
from tests.support.miniature import quick_folder, small_sizes
from tests.support.play import FIRST_STEPS, STEPS, Play, Step, run_through

pytestmark = pytest.mark.usefixtures("miniature")

_COPIES = 5

# Mostly what makes checkpoints have something of each kind to do.
_STEPS = st.one_of(
    STEPS.filter(lambda step: step[0] != "restart"),
    st.sampled_from([("seal", True), ("fsync",), ("fsync_aside",)]),
)


@pytest.fixture(scope="module")
def miniature() -> Iterator[None]:
    with small_sizes():
        yield


class Crashes:
    """Copies of a node's state folder as they are between two steps of its checkpoints.

    State
      copies    each with the oldest and the newest index of the history that it may show
      _writing  held by whoever changes the journal, the log or the store's index, and by copies:
                a kill stops all files at one instant
    """

    def __init__(self, play: Play, folder: Path, every: int) -> None:
        self._play = play
        self._folder = folder
        self._every = every
        self._passed = 0
        self._writing = threading.RLock()
        self.copies: list[tuple[Path, int, int]] = []

    def watch(self, storage: Storage, patch: pytest.MonkeyPatch) -> None:
        """Copy the folder after some of the steps that writing to the disk consists of."""
        for part, step in (
            (storage.log, "append"),
            (storage.log, "sync"),
            (storage.store, "flush"),
            (storage.journal, "apply"),
            (storage.journal, "record_snapshot"),
            (storage.log, "reclaim"),
        ):
            patch.setattr(part, step, self._crashing(getattr(part, step)))

    def crash(self) -> None:
        """Copy the folder as it is now."""
        with self._writing:
            copy = self._folder / str(len(self.copies))
            oldest, newest = self._play.durable_at, len(self._play.history)
            # What is in incoming/ has no name yet: the next start removes it.
            shutil.copytree(self._play.folder, copy, ignore=_content_of_incoming)
            self.copies.append((copy, oldest, newest))

    def _crashing(self, step: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            with self._writing:
                result = step(*arguments)
                self._passed += 1
                if self._passed % self._every == 0 and len(self.copies) < _COPIES:
                    self.crash()
            return result

        return run


def _content_of_incoming(folder: str, names: list[str]) -> list[str]:
    return names if Path(folder).name == "incoming" else []


async def _play_and_crash(steps: list[Step], every: int) -> None:
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        play = Play(folder / "state")
        crashes = Crashes(play, folder, every)
        async with play.session():
            crashes.watch(play.storage, patch)
            for call, *arguments in [*FIRST_STEPS, ("fsync",), *steps]:
                await play.step(call, arguments)
            crashes.crash()
        for copy, oldest, newest in crashes.copies:
            await _check_recovered(copy, play.history[oldest : newest + 1])


async def _check_recovered(copy: Path, possible: list[dict[str, Seen]]) -> None:
    with opened_node(copy) as (_, node):
        found = await _picture(node)
        assert found in possible
        async with node.running():
            pass
        assert await _picture(node) == found


async def _picture(node: LocalNode) -> dict[str, Seen]:
    return await Caller(node.namespace).picture("backups")


@settings(deadline=None, max_examples=25)
@given(st.lists(_STEPS, max_size=30), st.integers(1, 7))
def test_after_a_kill_the_tree_is_one_that_existed_since_the_last_fsync(
    steps: list[Step], every: int
) -> None:
    run_through(_play_and_crash, steps, every)
