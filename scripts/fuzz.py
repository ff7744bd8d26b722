"""Fuzz each parser (tests/support/fuzz_targets.py) with atheris, one process and time span each.

It begins with what is in tests/fuzz/corpus/TARGET and changes nothing there. What ends a target
(an exception it may not raise, more memory or time than it may take) is kept in build/fuzz and
printed; put it into the corpus with the mend, and every run of the tests goes through it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.support.fuzz_targets import TARGETS

SECONDS = 10
"""How long each target is fuzzed unless the command line says otherwise."""

_FUZZ_TARGET = Path(__file__).with_name("fuzz_target.py")


def main() -> int:
    """Run the targets that the command line names, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args()
    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = options.targets or list(TARGETS)
    ended = [name for name in names if not _survives(name, options.seconds)]
    if ended:
        print(f"scripts/fuzz: ended: {', '.join(ended)}; see build/fuzz", file=sys.stderr)
    return 1 if ended else 0


def _survives(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; return False if something ended it."""
    command = [sys.executable, str(_FUZZ_TARGET), name, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        print(f"{name}: ended", done.stdout, done.stderr, sep="\n", flush=True)
        return False
    tries = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    print(f"{name}: {tries[-1] if tries else 'done'}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
