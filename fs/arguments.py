"""What commands ask, checked: the arguments of a request through the control socket."""

from collections.abc import Mapping
from typing import Any

from libernet.blocks.errors import FormatError


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
