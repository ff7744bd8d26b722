"""Bundles that nobody means well with, in both dialects and ours, beside ones that are fine."""

from typing import Any

from tests.support.documents import (
    Documents,
    document,
    file_entry,
    folder_entry,
    link_entry,
)
from tests.support.flat_json import main_file, serialized

SECRET = "/etc/passwd"


def hostile_tops(made: Documents) -> dict[str, bytes]:
    """Return plaintexts of top documents, each of them refused as a whole, by what is odd."""
    file = made.file(b"a")
    flat: dict[str, Any] = {
        "up": {"files": {"../x": main_file()}},
        "up in the middle": {"files": {"a/../../x": main_file()}},
        "absolute": {"files": {SECRET: main_file()}},
        "nul": {"files": {"a\0b": main_file()}},
        "empty name": {"files": {"": main_file()}},
        "empty part": {"files": {"a//b": main_file()}},
        "file and folder": {"files": {"a": main_file(), "a/b": main_file()}},
        "negative size": {"files": {"a": main_file(size=-1)}},
        "size over 64 bits": {"files": {"a": main_file(size=2**70)}},
        "million folders": {"files": {}, "directories": {"a/" * 500_000 + "a": None}},
        "newer": {"files": {}, "version": 2},
        "index outside": {"files": {}, "index": "../x"},
    }
    own: dict[str, Any] = {
        "own, up": document({"..": file}),
        "own, slash": document({"a/b": file}),
        "own, nul": document({"a\0": file}),
        "own, empty name": document({"": file}),
        "own, file and folder": document({"a": file}, {"a": folder_entry("x")}),
        "own, negative size": document({"a": file | {"size": -1}}),
        "own, lying size": document({"a": file | {"size": 2}}),
        "own, newer": document() | {"version": 2},
        "own, newer, of another shape": {"version": 3, "files": 7},
    }
    raw = {
        "no bundle": b"no bundle at all",
        "nothing": b"",
        "twice": b'{"files":{"a":{"contents":[],"modified":0,"size":0},"a":{}}}',
        "own, twice": b'{"files":{"a":%s,"a":%s},' % (serialized(file), serialized(made.file(b"b")))
        + serialized(document())[1:],
        "nested": b'{"files":{},"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        "own, million folders": b'{"version":1,"directories":{"a":{"document":' * 20_000,
    }
    return {name: serialized(each) for name, each in (flat | own).items()} | raw


def half_hostile_tree(made: Documents) -> bytes:
    """Return the top document of a tree of ours: what starts with "bad" fails, the rest is fine."""
    deep = made.folder(document({"bottom": made.file(b"bottom")}))
    for _ in range(1500):
        deep = made.folder(document(folders={"a": folder_entry(deep)}))
    many = made.folder(document({"bottom": made.file(b"of many")}))
    for _ in range(60):  # 2**60 folders, for whoever walks through all of them
        both = {"a": folder_entry(many), "b": folder_entry(many)}
        many = made.folder(document(folders=both))
    pieces = [b"one", b"two", b"three"]
    parts = [(3, made.put(pieces[0])), (3, made.lost(pieces[1])), (5, made.put(pieces[2]))]
    files = {
        "good": made.file(b"good"),
        "bad middle": file_entry(parts),
        "bad short": file_entry([(5, made.put(b"four"))]),
        "bad long": file_entry([(3, made.put(b"four"))]),
        "bad huge": file_entry([(2**20, made.put(b"x"))]),
        "bad url": file_entry([(3, made.put(b"x"))]) | {"contents": [{"size": 3, "url": SECRET}]},
        "bad list": file_entry([])
        | {
            "contents": None,
            "contents_lists": [{"size": 9, "url": str(made.put(b"[]"))}],
            "size": 9,
        },
        "bad link out": link_entry("../../../../.." + SECRET),
        "bad link absolute": link_entry(SECRET),
        "bad link loop": link_entry("bad link loop"),
    }
    top = made.folder(document({"..": made.file(b"x")}))
    folders = {
        "bad up": folder_entry(top),
        "bad newer": folder_entry(made.folder(document() | {"version": 2})),
        "bad lost": folder_entry(made.lost(b"document")),
        "bad bytes": folder_entry(made.folder(b"\xff")),
        "bad reference": folder_entry(SECRET),
        "bad file as folder": folder_entry(made.put(b"good")),
        "deep": folder_entry(deep),
        "many": folder_entry(many),
        "good folder": folder_entry(made.folder(document({"inner": made.file(b"inner")}))),
    }
    return serialized(document(files, folders))
