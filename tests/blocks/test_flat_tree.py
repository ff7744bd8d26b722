"""One tree of a bundle and its sub-bundles, in whatever order they come."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks import flat_tree
from libernet.blocks.documents import Document
from libernet.blocks.errors import FormatError
from libernet.blocks.flat_bundles import FlatBundle, parse_flat_bundle, parse_sub_bundle
from libernet.blocks.flat_tree import MAX_BUNDLE_LEVELS, MAX_SUB_BUNDLES, FlatTree
from libernet.blocks.reference import Reference
from tests.support.flat_json import Json, main_file, reference_of, rewrite_file, serialized, url

OWNER = (1, 2)
TOP = reference_of(0)


def tree_of(files: Json, *bundles: int, **more: object) -> FlatTree:
    """Return the tree of a top bundle whose sub-bundles have these numbers."""
    top = {"files": files, "bundles": [url(number) for number in bundles]} | more
    return FlatTree(TOP, parse_flat_bundle(serialized(top), OWNER))


def sub_bundle(tree: FlatTree, files: Json, *bundles: int) -> FlatBundle:
    text = serialized({"files": files, "bundles": [url(number) for number in bundles]})
    return parse_sub_bundle(text, OWNER, tree.document.attributes)


def names(document: Document, above: bytes = b"") -> set[bytes]:
    found = {above + name for name in document.files}
    for name, folder in document.folders.items():
        assert folder.document is not None
        found |= {above + name} | names(folder.document, above + name + b"/")
    return found


def test_files_of_sub_bundles_come_into_the_folders_that_are_there() -> None:
    tree = tree_of({"x/a": main_file()}, 1, 2, directories={"e": None})
    folder = tree.document.folders[b"x"].document
    assert tree.pending == [reference_of(1), reference_of(2)]
    assert tree.add(reference_of(2), sub_bundle(tree, {"x/y/b": main_file()})) == []
    tree.add(reference_of(1), sub_bundle(tree, {"x/y/c": main_file(), "z/d": main_file()}))
    assert names(tree.document) == {
        b"e",
        b"x",
        b"x/a",
        b"x/y",
        b"x/y/b",
        b"x/y/c",
        b"z",
        b"z/d",
    }
    assert tree.entries == 8
    assert (tree.pending, tree.refused) == ([], {})
    assert tree.document.folders[b"x"].document is folder


def test_what_is_not_pending_is_not_added() -> None:
    tree = tree_of({}, 1)
    tree.add(reference_of(7), sub_bundle(tree, {"a": main_file()}))
    tree.add(reference_of(1), sub_bundle(tree, {"b": main_file()}))
    tree.add(reference_of(1), sub_bundle(tree, {"c": main_file()}))
    assert names(tree.document) == {b"b"}


@pytest.mark.parametrize(
    "files",
    [{"a": main_file(2)}, {"a/b": main_file(1)}, {"x": main_file(1)}, {"x/c": main_file(2)}],
)
def test_a_sub_bundle_that_does_not_go_with_what_is_there_adds_nothing(files: Json) -> None:
    tree = tree_of({"a": main_file(1), "x/c": main_file(1)}, 1, 2)
    with pytest.raises(FormatError):
        tree.add(reference_of(1), sub_bundle(tree, files | {"fine": main_file()}))
    assert names(tree.document) == {b"a", b"x", b"x/c"}
    assert list(tree.refused) == [reference_of(1)]
    tree.add(reference_of(2), sub_bundle(tree, {"d": main_file()}))
    assert b"d" in tree.document.files
    assert tree.pending == []


def test_what_two_bundles_say_alike_is_one() -> None:
    tree = tree_of({"x/a": main_file(1)}, 1)
    tree.add(reference_of(1), sub_bundle(tree, {"x/a": main_file(1), "x/b": main_file(1)}))
    assert tree.entries == len(names(tree.document)) == 3


def test_sub_bundles_of_sub_bundles_are_for_python_rewrite_only() -> None:
    for file, timestamp, expected in [
        (main_file(), None, []),
        (rewrite_file(), None, [reference_of(2)]),
        (main_file(), 1.0, [reference_of(2)]),
    ]:
        tree = tree_of({}, 1, timestamp=timestamp)
        assert tree.add(reference_of(1), sub_bundle(tree, {"a": file}, 2)) == expected
        assert tree.pending == expected


@pytest.mark.parametrize("cycle", [0, 1, 2])
def test_a_cycle_is_refused_where_it_closes(cycle: int) -> None:
    tree = tree_of({"a": rewrite_file()}, 1)
    tree.add(reference_of(1), sub_bundle(tree, {"b": rewrite_file()}, 2))
    with pytest.raises(FormatError, match="its own"):
        tree.add(reference_of(2), sub_bundle(tree, {"c": rewrite_file()}, cycle, 3))
    assert names(tree.document) == {b"a", b"b"}
    assert tree.pending == []


def test_a_top_that_is_its_own_sub_bundle_is_refused() -> None:
    with pytest.raises(FormatError, match="its own"):
        tree_of({}, 1, 0)


def test_a_sub_bundle_that_is_named_twice_is_read_once() -> None:
    tree = tree_of({"a": rewrite_file()}, 1, 2, 1)
    assert tree.pending == [reference_of(1), reference_of(2)]
    assert tree.add(reference_of(1), sub_bundle(tree, {"b": rewrite_file()}, 2)) == []


def test_sub_bundles_stand_on_so_many_levels_and_no_more() -> None:
    tree = tree_of({"top": rewrite_file()}, 1)
    for level in range(1, MAX_BUNDLE_LEVELS):
        tree.add(reference_of(level), sub_bundle(tree, {f"{level}": rewrite_file()}, level + 1))
    last = sub_bundle(tree, {"last": rewrite_file()}, MAX_BUNDLE_LEVELS + 1)
    with pytest.raises(FormatError, match="levels"):
        tree.add(reference_of(MAX_BUNDLE_LEVELS), last)
    assert len(tree.document.files) == MAX_BUNDLE_LEVELS


def test_there_are_so_many_sub_bundles_and_no_more() -> None:
    assert len(tree_of({}, *range(1, MAX_SUB_BUNDLES + 1)).pending) == MAX_SUB_BUNDLES
    with pytest.raises(FormatError, match="more than"):
        tree_of({}, *range(1, MAX_SUB_BUNDLES + 2))


def test_all_bundles_together_have_so_many_entries_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flat_tree, "MAX_ENTRIES", 5)
    tree = tree_of({"a": main_file(), "b": main_file()}, 1, 2)
    tree.add(reference_of(1), sub_bundle(tree, {"c": main_file(), "d": main_file()}))
    with pytest.raises(FormatError, match="more than 5"):
        tree.add(reference_of(2), sub_bundle(tree, {"e": main_file(), "f": main_file()}))
    assert tree.entries == 4


def test_two_thousand_folders_inside_each_other_are_merged() -> None:
    deep = "a/" * 2000
    tree = tree_of({deep + "b": main_file()}, 1)
    tree.add(reference_of(1), sub_bundle(tree, {deep + "c": main_file()}))
    listing = tree.document
    for _ in range(2000):
        document = listing.folders[b"a"].document
        assert document is not None
        listing = document
    assert set(listing.files) == {b"b", b"c"}


_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(_PATHS, st.builds(main_file, st.integers(0, 1))), max_size=4),
    st.randoms(use_true_random=False),
)
def test_however_sub_bundles_come_the_tree_stays_one(
    bundles: list[Json], order: random.Random
) -> None:
    tree = tree_of({}, *range(1, len(bundles) + 1))
    waiting: list[tuple[Reference, Json]] = [
        (reference_of(number), files) for number, files in enumerate(bundles, start=1)
    ]
    order.shuffle(waiting)
    expected: set[bytes] = set()
    for reference, files in waiting:
        try:
            bundle = sub_bundle(tree, files)
            added = names(bundle.document)
            tree.add(reference, bundle)
        except FormatError:
            continue
        finally:
            assert names(tree.document) - expected <= {name.encode() for name in _above(files)}
        expected |= added
    assert names(tree.document) == expected
    assert tree.entries == len(expected)


def _above(files: Json) -> set[str]:
    """Return all paths of files and of the folders that they are in."""
    return {
        "/".join(path.split("/")[:count])
        for path in files
        for count in range(1, path.count("/") + 2)
    }
