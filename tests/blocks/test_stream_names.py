"""Names from descriptors: cleaned as by the original, and never unsafe."""

import os.path
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libernet.blocks.names import check_name
from libernet.blocks.stream_names import safe_name, suggested_name
from tests.support import vectors

_VECTORS = vectors.load("lbry-streams.json")

_REMOVED_BY_THE_ORIGINAL = re.compile(
    r'([<>:"/\\|?*]+|[\x00-\x1f]+|[ \t]*\.+[ \t]*$|^[ \t]+|[ \t]+$'
    r"|^CON$|^PRN$|^AUX$|^NUL$|^COM[1-9]$|^LPT[1-9]$)"
)

_PIECES = ["a", "CON", "COM1", ".", "..", " ", "\t", "\n", "?", "/", "\\", "\0", "\x1f", "é"]


def _as_the_original_does(name: str) -> str:
    """Clean a name by expressions, which takes quadratic time."""
    stem, extension = (_REMOVED_BY_THE_ORIGINAL.sub("", part) for part in os.path.splitext(name))
    return (stem or "lbry_download") + (extension if len(extension) > 1 else "")


@pytest.mark.parametrize(("name", "expected"), _VECTORS["sanitize_file_name"])
def test_a_name_is_suggested_as_by_the_original(name: str, expected: str) -> None:
    assert suggested_name(name) == _as_the_original_does(name) == expected
    assert safe_name(name).decode() == expected


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
@example("x. .")
@example("\t x ..\n")
def test_edges_are_cleaned_as_by_the_original(name: str) -> None:
    assert suggested_name(name) == _as_the_original_does(name)


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join) | st.text())
@example(".?")
@example("..?")
@example("a" * 300)
@example("é" * 200 + ".tar")
@example("x." + "é" * 200)
@example("\ud800")
def test_every_name_is_made_one_that_a_file_can_have(name: str) -> None:
    safe = safe_name(name)
    check_name(safe)
    assert not re.search(rb"[\x00-\x1f/]", safe)
    assert safe == safe.decode().encode()


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("é" * 200 + ".tar") == "é".encode() * 125 + b".tar"
    assert safe_name("x." + "y" * 300) == b"x." + b"y" * 253


def test_a_name_of_any_length_is_cleaned_in_linear_time() -> None:
    began = time.process_time()
    for name in (" " * 500_000 + "x", "." * 500_000 + "x", " ." * 250_000 + "x"):
        safe_name(name)
    assert time.process_time() - began < 1
