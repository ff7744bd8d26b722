"""JSON objects that say one thing: most parsers take the last of two values for one key."""

from typing import Any

from libernet.blocks.errors import FormatError


def single_valued(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of *pairs* (an `object_pairs_hook`), or FormatError: two values for a key.

    Two readers could show different things under one name, and neither would tell.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("a document has two values for one key")
    return found
