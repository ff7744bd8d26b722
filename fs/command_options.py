"""Options that several commands have."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

with_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")

_TAG = click.option("--tag", "tags", multiple=True, metavar="T[,T...]", help="Give it tags.")
_NOTE = click.option("--note", metavar="TEXT", help="Write something about it.")


def with_labels(command: Command) -> Command:
    """Give a command that takes a snapshot the options for `labels_wanted`."""
    return _TAG(_NOTE(command))


def labels_wanted(tags: Iterable[str], note: str | None) -> dict[str, Any]:
    """Return what a request for a snapshot holds of its tags and its note."""
    wanted = {"tags": split_tags(tags), "note": note}
    return {key: value for key, value in wanted.items() if value not in ([], None)}


def split_tags(options: Iterable[str]) -> list[str]:
    """Return the tags of options that may each hold several."""
    return [tag for option in options for tag in option.split(",") if tag]
