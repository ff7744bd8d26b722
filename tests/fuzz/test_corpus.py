"""Every input that a fuzz target began with, or once ended at, goes through it in every run."""

from pathlib import Path

import pytest

from tests.support.fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"

_INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_each_target_has_something_to_begin_with_and_no_corpus_is_without_a_target() -> None:
    assert {path.parent.name for path in _INPUTS} == TARGETS.keys()


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in _INPUTS) < 1024 * 1024


@pytest.mark.parametrize("path", _INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_target_survives_its_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
