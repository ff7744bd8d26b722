"""What `libernet backup` and `libernet restore` have in common: they ask, wait and report."""

import json
from collections.abc import Callable
from typing import Any

import click

from libernet.fs.printable import printable
from libernet.fs.progress_line import is_watched, progress_line

EX_INCOMPLETE = 3


def copy(
    ask: Callable[..., dict[str, Any]],
    command: str,
    request: dict[str, Any],
    describe: Callable[[dict[str, Any]], str],
    *,
    failed: str,
    note_seconds: float,
    as_json: bool,
) -> int:
    """Have it done, show how far it is and print the outcome; return the exit code.

    *ask* is `ask` or `ask_anyway`, bound to the mount. *failed* is what is said of each path that
    is in `errors`.
    """
    request = {**request, "is_watched": is_watched() and not as_json}
    with progress_line("files", is_quiet=as_json) as hear:
        answer = ask(command, request, timeout=note_seconds, hear=hear)
    click.echo(json.dumps(answer) if as_json else describe(answer))
    for path, why in answer.get("skipped", {}).items():
        click.echo(f"skipped: {printable(path)}: {why}", err=True)
    for path, why in answer["errors"].items():
        click.echo(f"{failed}: {printable(path)}: {why}", err=True)
    untold = answer["error_count"] - len(answer["errors"])
    if untold:
        click.echo(f"{failed}: {untold} more", err=True)
    return EX_INCOMPLETE if answer["error_count"] else 0
