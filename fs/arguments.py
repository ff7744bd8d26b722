"""What commands ask, checked: the arguments of a request through the control socket."""

from collections.abc import Mapping
from typing import Any

from libernet.blocks.errors import FormatError
from libernet.fs.tags import Labels, checked_note, checked_tags


def text(arguments: Mapping[str, Any], key: str) -> str:
    """Return a text that must be there, and not be empty, or raise FormatError."""
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise FormatError(f"this needs the text {key!r}")
    return value


def texts(arguments: Mapping[str, Any], key: str) -> list[str]:
    """Return a list of texts, empty where there is none, or raise FormatError."""
    value = arguments.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise FormatError(f"{key!r} must be a list of texts")
    return value


def labels(arguments: Mapping[str, Any]) -> Labels:
    """Return the tags and the note for a snapshot that is taken, or raise FormatError."""
    note = arguments.get("note")
    return Labels(
        checked_tags(texts(arguments, "tags")),
        None if note is None else checked_note(text(arguments, "note")),
    )
