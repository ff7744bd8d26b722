"""Folders as pages for a person, and as JSON for a program.

    {"entries": [{"name": "a", "href": "a", "type": "file", "size": 3, "modified_ns": 0}, ...],
     "lacking": null}

*type* is file, folder, link (which has its *target*) or other; names and targets that are not UTF-8
have lone surrogates in place of their bytes, as in the original's bundles. *lacking* says why there
are more entries that cannot be listed now.
"""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Protocol
from urllib.parse import quote_from_bytes

from libernet.blocks.errors import LibernetError
from libernet.fs.inode import Inode
from libernet.fs.nodes import LinkNode, Node

OWN_PAGE = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""What a listing needs: nothing but its own style."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:2rem}"
    "h1{font-size:1.2rem;overflow-wrap:anywhere}td{padding:0 2rem 0 0}"
    "td+td{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
)

Entries = Sequence[tuple[bytes, Inode | Node]]


class Listing(Protocol):
    """How a folder is written down, piece by piece."""

    media_type: str

    def head(self) -> str:
        """Return what stands before all entries."""
        ...

    def rows(self, entries: Entries) -> str:
        """Return the next *entries*."""
        ...

    def tail(self, lacking: LibernetError | None) -> str:
        """Return what stands behind all; *lacking* says why there are more."""
        ...


class HtmlListing:
    """A folder for a person; *path* leads to it from where its address begins."""

    media_type = "text/html; charset=utf-8"

    def __init__(self, path: Sequence[bytes]) -> None:
        self._path = path

    def head(self) -> str:
        # The address itself is not in the page: it may be printed, and it is a key.
        where = _shown(b"/".join((b"", *self._path, b"")))
        up = '<tr><td><a href="../">..</a><td><td>\n' if self._path else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<title>{where}</title>\n<style>{_STYLE}</style>\n<h1>{where}</h1>\n<table>\n{up}"
        )

    def rows(self, entries: Entries) -> str:
        return "".join(self._rows(entries))

    def tail(self, lacking: LibernetError | None) -> str:
        if lacking is None:
            return "</table>\n"
        return f"</table>\n<p>There is more, which cannot be listed now: {escape(str(lacking))}\n"

    def _rows(self, entries: Entries) -> Iterator[str]:
        for name, what in entries:
            mode = _mode(what)
            # A name must not turn the rest of its row around.
            shown = f"<bdi>{_shown(name)}{'/' if stat.S_ISDIR(mode) else ''}</bdi>"
            href = _href(name, mode)
            if href is not None:
                shown = f'<a href="{escape(href)}">{shown}</a>'
            size = f"{_size(what):,}" if stat.S_ISREG(mode) else ""
            yield f"<tr><td>{shown}<td>{size}<td>{_time(what)}\n"


class JsonListing:
    """A folder for a program."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._is_first = True

    def head(self) -> str:
        return '{"entries": ['

    def rows(self, entries: Entries) -> str:
        rows = ",\n".join(json.dumps(_fields(name, what)) for name, what in entries)
        comma = ",\n" if rows and not self._is_first else ""
        self._is_first = self._is_first and not rows
        return comma + rows

    def tail(self, lacking: LibernetError | None) -> str:
        return f'], "lacking": {json.dumps(lacking and str(lacking))}}}\n'


def _fields(name: bytes, what: Inode | Node) -> dict[str, str | int | None]:
    mode = _mode(what)
    fields: dict[str, str | int | None] = {
        "name": os.fsdecode(name),
        "href": _href(name, mode),
        "type": _type(mode),
        "size": _size(what),
        "modified_ns": _modified_ns(what),
    }
    if isinstance(what, LinkNode):
        fields["target"] = os.fsdecode(what.target())
    return fields


def _type(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def _href(name: bytes, mode: int) -> str | None:
    """Return where an entry is, from its folder's own address; None for what has no content."""
    if _type(mode) == "other":
        return None
    return quote_from_bytes(name, safe="") + ("/" if stat.S_ISDIR(mode) else "")


def _mode(what: Inode | Node) -> int:
    return (what if isinstance(what, Inode) else what.appearance).mode


def _size(what: Inode | Node) -> int:
    return (what if isinstance(what, Inode) else what.appearance).size


def _modified_ns(what: Inode | Node) -> int:
    return (what if isinstance(what, Inode) else what.appearance).mtime_ns


def _time(what: Inode | Node) -> str:
    moment = _EPOCH + timedelta(seconds=_modified_ns(what) // 10**9)
    return f"{moment:%Y-%m-%d %H:%M}"


def _shown(name: bytes) -> str:
    return escape(name.decode(errors="replace"))
