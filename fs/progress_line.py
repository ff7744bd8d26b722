"""How far a long command is, in one line of a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Hear = Callable[[dict[str, Any]], None]


@contextmanager
def progress_line(*, is_quiet: bool = False) -> Iterator[Hear]:
    """Provide what takes notes with `files`, `bytes`, `of_files`, `of_bytes` and `current`.

    They are shown with the rate and the time left, on a terminal alone.
    """
    if is_quiet or not sys.stderr.isatty():
        yield lambda note: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.fields[files]} files"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[current]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None, files=0, current="")

        def hear(note: dict[str, Any]) -> None:
            progress.update(
                task,
                completed=note["bytes"],
                total=note["of_bytes"],
                files=note["files"],
                current=_printable(note["current"]),
            )

        yield hear


def _printable(path: str) -> str:
    """Return the end of a path, without what would move the cursor."""
    return "".join(each if each.isprintable() else "?" for each in path)[-60:]
