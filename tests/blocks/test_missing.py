"""Which blocks a path needs: of the original's bundles and of our own documents."""

import json
from typing import Any

import pytest

from libernet.blocks.errors import FormatError
from libernet.blocks.missing import missing
from libernet.blocks.reference import Reference
from tests.support.flat_json import (
    Json,
    Shelf,
    main_file,
    parts,
    reference_of,
    rewrite_file,
    serialized,
    url,
)

ATTRIBUTES = {"uid": 1, "gid": 1, "mtime_ns": 0}
FILE_UNIX = ATTRIBUTES | {"mode": 0o100644}
FOLDER_UNIX = ATTRIBUTES | {"mode": 0o040755}
TOP = 0


def asked(shelf: Shelf, path: str = "") -> set[int] | None:
    """Return the numbers of the blocks that are missing for a path, None if it is not there."""
    names = [name.encode() for name in path.split("/")] if path else []
    found = missing(reference_of(TOP), names, shelf.has, shelf.read)
    if found is None:
        return None
    assert len(set(found)) == len(found)
    return {_NUMBERS[address] for address in found}


_NUMBERS = {f"/sha256/{reference_of(number).id}": number for number in range(100)}


def top(files: Json, *bundles: int, **more: Any) -> Json:
    return {"files": files, "bundles": [url(number) for number in bundles]} | more


def document(files: Json | None = None, directories: Json | None = None) -> Json:
    return {
        "version": 1,
        "unix": FOLDER_UNIX,
        "files": files or {},
        "directories": directories or {},
    }


def our_file(*numbers: int) -> Json:
    return main_file(*numbers) | {"unix": FILE_UNIX}


def folder(number: int) -> Json:
    return {"url": url(number), "unix": FOLDER_UNIX}


def test_addresses_have_no_keys() -> None:
    [address] = missing(reference_of(TOP), [], Shelf().has, Shelf().read) or []
    assert address == f"/sha256/{reference_of(TOP).id}"


def test_without_the_top_only_that_can_be_named() -> None:
    assert asked(Shelf()) == {TOP}
    assert asked(Shelf(), "any/path") == {TOP}


@pytest.mark.parametrize("file", [main_file, rewrite_file])
def test_a_file_of_a_bundle_needs_its_parts(file: Any) -> None:
    shelf = Shelf(n0=top({"x/a": file(1, 2), "x/b": file(3)}), n2="")
    assert asked(shelf, "x/a") == {1}
    assert asked(shelf, "x/b") == {3}
    assert asked(shelf, "x") == {1, 3}
    assert asked(shelf) == {1, 3}
    shelf.put(1, b"")
    assert asked(shelf, "x/a") == set()


def test_what_is_in_no_document_is_certainly_not_there() -> None:
    shelf = Shelf(n0=top({"a": main_file(1)}, 2, directories={"d": None}), n2=top({}))
    for path in ("b", "a/b", "d/e", "d/e/f"):
        assert asked(shelf, path) is None, path
    assert asked(shelf, "d") == set()


def test_resource_forks_and_extended_attributes_are_needed_too() -> None:
    file = rewrite_file(1, rsrc=parts(2), xattr={"user.a": url(3), "user.b": url(4)})
    assert asked(Shelf(n0=top({"a": file}), n4=""), "a") == {1, 2, 3}


def test_a_link_needs_nothing() -> None:
    shelf = Shelf(n0=top({"a": main_file(1, link="x")}, directories={"b": "y"}))
    assert asked(shelf, "a") == set()
    assert asked(shelf, "b") == set()


def test_what_may_be_in_a_sub_bundle_needs_that_first() -> None:
    shelf = Shelf(n0=top({"a": main_file(1), "x/b": main_file(2)}, 5, 6))
    assert asked(shelf, "a") == {1}
    assert asked(shelf, "c") == {5, 6}
    assert asked(shelf, "x") == {2, 5, 6}
    assert asked(shelf) == {1, 2, 5, 6}
    shelf.put(6, serialized(top({"c": main_file(7)})))
    assert asked(shelf, "c") == {7}
    assert asked(shelf, "d") == {5}
    shelf.put(5, serialized(top({})))
    assert asked(shelf, "d") is None


def test_sub_bundles_are_looked_for_inside_each_other() -> None:
    shelf = Shelf(
        n0=top({"a": rewrite_file()}, 5),
        n5=top({"b": rewrite_file()}, 6),
        n6=top({"c": rewrite_file(1)}, 7),
    )
    assert asked(shelf, "c") == {1}
    assert asked(shelf, "d") == {7}


def test_a_malformed_sub_bundle_hides_nothing_but_its_own() -> None:
    shelf = Shelf(n0=top({}, 5, 6), n5={"files": {"../a": main_file()}}, n6=top({"b": main_file()}))
    assert asked(shelf, "b") == set()
    with pytest.raises(FormatError, match=r"\.\./a"):
        asked(shelf, "c")


def test_a_file_of_ours_needs_its_parts() -> None:
    shelf = Shelf(n0=document({"a": our_file(1, 2)}), n1="")
    assert asked(shelf, "a") == {2}
    assert asked(shelf, "b") is None
    assert asked(shelf, "a/b") is None


def test_folders_of_ours_are_followed() -> None:
    inlined = document({"c": our_file(3)})
    shelf = Shelf(
        n0=document({}, {"x": folder(5), "y": {"document": inlined}}),
        n5=document({"b": our_file(2)}, {"z": folder(6)}),
    )
    assert asked(shelf, "x/b") == {2}
    assert asked(shelf, "x/z") == {6}
    assert asked(shelf, "x/z/unknown") == {6}
    assert asked(shelf, "y/c") == {3}
    assert asked(shelf, "y/d") is None
    assert asked(shelf) == {2, 3, 6}


def test_equal_folders_are_gone_through_once() -> None:
    levels = {
        f"n{level}": document({}, {"a": folder(level + 1), "b": folder(level + 1)})
        for level in range(50)
    }
    assert asked(Shelf(**levels)) == {50}


def test_wide_folders_need_the_page_that_has_the_name() -> None:
    pages = [{"first": "a", "url": url(5)}, {"first": "m", "url": url(6)}]
    shelf = Shelf(
        n0={"version": 1, "unix": FOLDER_UNIX, "pages": pages},
        n5={"version": 1, "files": {"a": our_file(1), "b": our_file(2)}},
    )
    assert asked(shelf, "b") == {2}
    assert asked(shelf, "c") is None
    assert asked(shelf, "0") is None
    assert asked(shelf, "n") == {6}
    assert asked(shelf) == {1, 2, 6}


def test_spilled_lists_of_parts_are_opened_where_they_are_here() -> None:
    lists = [{"size": 10, "url": url(5)}, {"size": 20, "url": url(6)}]
    file = {"contents_lists": lists, "size": 30, "modified": 0.0, "unix": FILE_UNIX}
    shelf = Shelf(n0=document({"a": file}), n6={"version": 1, "contents": [*parts(1, 2)]}, n2="")
    assert asked(shelf, "a") == {5, 1}


def test_holes_need_nothing() -> None:
    file = our_file() | {"contents": [{"size": 10}], "size": 10}
    assert asked(Shelf(n0=document({"a": file})), "a") == set()


def test_what_cannot_be_read_is_told(tmp_path: object) -> None:
    shelf = Shelf()
    shelf.put(TOP, json.dumps([]).encode())
    with pytest.raises(FormatError):
        asked(shelf, "a")


def test_only_what_is_here_is_read() -> None:
    shelf = Shelf(n0=top({"a": main_file(1)}, 5))
    read: list[Reference] = []

    def noting(reference: Reference) -> bytes:
        read.append(reference)
        return shelf.read(reference)

    missing(reference_of(TOP), [], shelf.has, noting)
    assert read == [reference_of(TOP)]
