"""SIGKILL at each single step that an operation does on the disk, and under load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import every_step

FOLDER = Path(__file__).parent

KILLS = 15
"""How many steps of an operation are tried; each one with --long."""

PLAYS = 60
MANY_PLAYS = 500


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that kills the process that preloads it."""
    made = tmp_path_factory.mktemp("killer") / "step_killer.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", made]
    subprocess.run([*command, FOLDER / "step_killer.c", "-ldl"], check=True, timeout=60)
    return made


def killed(library: Path, *words: str, seconds: float = 600) -> int:
    """Run every_step, which must find nothing wrong; return how often it killed.

    *seconds* only end what is stuck: a busy machine takes ten times as long as a quiet one.
    """
    done = subprocess.run(
        [sys.executable, every_step.__file__, *words],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    count: int = json.loads(done.stdout)["killed"]
    return count


@pytest.mark.parametrize("operation", [*every_step.OPERATIONS, "repair"])
def test_killed_at_steps_of_an_operation_all_of_it_is_there_or_nothing(
    library: Path, operation: str
) -> None:
    assert killed(library, operation, str(KILLS)) > KILLS / 2  # how many steps there are varies


@pytest.mark.long
@pytest.mark.parametrize("operation", [*every_step.OPERATIONS, "repair"])
def test_killed_at_every_step_of_an_operation_all_of_it_is_there_or_nothing(
    library: Path, operation: str
) -> None:
    assert killed(library, operation, "0", seconds=1800) > KILLS


def test_killed_under_load_a_tree_that_was_is_there(library: Path) -> None:
    assert killed(library, "load", "0", str(PLAYS)) > PLAYS / 2


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 3000, MANY_PLAYS))
def test_killed_under_load_2000_times_a_tree_that_was_is_there(library: Path, first: int) -> None:
    last = first + MANY_PLAYS
    assert killed(library, "load", str(first), str(last), seconds=1200) > MANY_PLAYS / 2
