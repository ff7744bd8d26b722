"""Conditional requests and ranges (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Mapping

from libernet.fs.web.requests import Refusal

# Longer numbers than 18 digits are behind the end of everything, and int() takes ever longer.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_STRONG_TAG = re.compile(r'(?<!W/)("[^"]*")')
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def is_known(headers: Mapping[str, str], etag: str, *, is_there: bool) -> bool:
    """Say whether the client has what *etag* stands for (If-None-Match).

    Also if it has anything, where that *is_there* for sure. Raises Refusal (412) where it wants
    something else (If-Match).
    """
    wanted = headers.get("if-match", "*").strip()
    if wanted != "*" and etag not in _STRONG_TAG.findall(wanted):
        raise Refusal(412, f"this is {etag}")
    known = headers.get("if-none-match", "").strip()
    return etag in _TAG.findall(known) or (is_there and known == "*")


def wanted_range(headers: Mapping[str, str], etag: str, size: int) -> range | None:
    """Return which of *size* bytes the client wants, None when all of them.

    All are sent, as the RFC allows, where it wants several ranges, has an earlier version of them
    (If-Range), or says something odd. Raises Refusal (416) where none of the bytes is there.
    """
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is None or headers.get("if-range", etag) != etag:
        return None
    first, last = asked.groups()
    if first:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        raise Refusal(416, f"there are {size} bytes", {"content-range": f"bytes */{size}"})
    return range(start, stop)
