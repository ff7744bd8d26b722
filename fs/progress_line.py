"""How far a long command is, in one line of a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from libernet.fs.amounts import size_text
from libernet.fs.printable import printable

_PATH_CHARACTERS = 60  # of its end: the rest of the line says more

Hear = Callable[[dict[str, Any]], None]


@contextmanager
def progress_line(things: str, *, is_quiet: bool = False) -> Iterator[Hear]:
    """Provide what takes notes: `done` of so many *things*, `bytes`, `current`.

    Where they are known `of`, all things, and `of_bytes`. Shown with the rate and the time left, on
    a terminal alone.
    """
    if is_quiet or not is_watched():
        yield lambda note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[current]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, current="")

        def hear(note: dict[str, Any]) -> None:
            has_bytes = note.get("of_bytes") is not None
            progress.update(
                task,
                completed=note["bytes"] if has_bytes else note["done"],
                total=note["of_bytes"] if has_bytes else note.get("of"),
                description=_said(note, things, progress.tasks[0].elapsed or 0.0),
                current=printable(note["current"])[-_PATH_CHARACTERS:],
            )

        yield hear


def is_watched() -> bool:
    """Return whether progress is shown to anybody."""
    return sys.stderr.isatty()


def _said(note: dict[str, Any], things: str, seconds: float) -> str:
    total = "" if note.get("of") is None else f" of {note['of']}"
    rate = f", {size_text(int(note['bytes'] / seconds))}/s" if seconds else ""
    return f"{note['done']}{total} {things}, {size_text(note['bytes'])}{rate}"
