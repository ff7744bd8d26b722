"""Sizes as a person types them."""

import re

from libernet.blocks.errors import FormatError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str) -> int:
    """Return the bytes that a text like 100k, 1.5G or 4096 means, or raise FormatError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise FormatError(f"{text!r} is no size: write 4096, 100k, 20M or 1.5G")
    return int(float(found[1]) * 2 ** _UNITS[found[2].lower()])
