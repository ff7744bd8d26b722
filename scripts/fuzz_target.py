"""Fuzz one target in this process, which libFuzzer ends: fuzz_target.py TARGET SECONDS."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["libernet"]):
    from tests.support.fuzz_targets import TARGETS

PROJECT = Path(__file__).resolve().parents[1]
CORPUS = PROJECT / "tests" / "fuzz" / "corpus"
FINDINGS = PROJECT / "build" / "fuzz"

MAX_INPUT_BYTES = 64 * 1024
"""Longest input that is made up: what takes other than linear time shows at this length."""

MAX_INPUT_SECONDS = 2
"""Longest that one input may take: a megabyte of JSON takes a hundredth of that."""

MAX_MEMORY_MIB = 512
"""Most memory of the process, of which the interpreter and its counters take 100."""


def main(name: str, seconds: str) -> None:
    """Fuzz the target *name* for so many *seconds*; what ends it is kept in FINDINGS."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="libernet-fuzz-") as found:
        arguments = [
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-timeout={MAX_INPUT_SECONDS}",
            f"-rss_limit_mb={MAX_MEMORY_MIB}",
            f"-artifact_prefix={FINDINGS}/{name}-",
            found,
            str(CORPUS / name),
        ]
        atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
