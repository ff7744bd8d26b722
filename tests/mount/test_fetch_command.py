"""libernet fetch: a bundle of another node is read without it afterwards."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import BIN, Node, running, until
from tests.support.tree import assert_same, picture

_QUIET = ("--bind", "127.0.0.1", "--port", "0", "--private-network")
_MIB = 1024 * 1024


@pytest.fixture
def two(
    nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[tuple[Node, Node, str]]:
    """A node that shares a folder, another that knows it, and the reference."""
    with running(tmp_path / "first", nodes) as first, running(tmp_path / "second", nodes) as second:
        first.mount(*_QUIET)
        folder = first.backups / "b"
        (folder / "sub").mkdir(parents=True)
        (folder / "large").write_bytes(os.urandom(5 * _MIB))
        for number in range(300):
            (folder / "sub" / f"{number:03}").write_bytes(os.urandom(7000))
        os.setxattr(folder / "large", "user.large", os.urandom(20_000))
        reference = first.libernet("share", "backups/b").strip()
        yield first, second, reference


def _join(first: Node, second: Node) -> None:
    port = json.loads(first.libernet("peers", "--json"))["listening"]
    second.mount(*_QUIET, "--peer", f"127.0.0.1:{port}")


def _fetch(node: Node, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(node.libernet("fetch", *arguments, "--json"))
    return answer


def test_what_was_fetched_is_read_without_the_network(two: tuple[Node, Node, str]) -> None:
    first, second, reference = two
    _join(first, second)
    answer = _fetch(second, reference)
    assert answer["fetched"] == answer["needed"] > 100
    assert (answer["failed"], answer["not_kept"], answer["here_before"]) == (0, 0, 0)
    again = _fetch(second, reference)
    assert (again["fetched"], again["here_before"]) == (0, answer["needed"])
    expected = picture(first.backups / "b", top=False)
    xattr = os.getxattr(first.backups / "b" / "large", "user.large")
    first.unmount()
    assert_same(expected, picture(second.at(reference), top=False))
    assert os.getxattr(second.at(reference) / "large", "user.large") == xattr


def test_a_fetch_goes_on_where_it_was_and_says_what_is_missing(
    two: tuple[Node, Node, str],
) -> None:
    first, second, reference = two
    _join(first, second)
    second.libernet("open", reference, "theirs")
    (second.mountpoint / "bundles" / "theirs" / "large").read_bytes()
    before = _fetch(second, "bundles/theirs")
    assert 5 <= before["here_before"] < before["needed"]


def test_a_fetch_that_was_killed_goes_on_where_it_was(two: tuple[Node, Node, str]) -> None:
    first, second, reference = two
    second.state.mkdir()
    config = second.state / "config.toml"
    config.write_text(f"download_bytes_per_second = {_MIB // 2}\n")
    _join(first, second)
    command = [BIN / "libernet", "--state", second.state, "fetch", reference]
    with subprocess.Popen(command, env=second.environment, stderr=subprocess.DEVNULL) as fetch:
        until(lambda: second.status()["store"]["blocks"] > 100)
        second.kill()
        assert fetch.wait(30) == 1  # whoever waits is told
    config.unlink()
    _join(first, second)
    answer = _fetch(second, reference)
    assert 100 <= answer["here_before"] < answer["needed"]
    assert (answer["failed"], answer["not_kept"]) == (0, 0)
    expected = picture(first.backups / "b", top=False)
    first.unmount()
    assert_same(expected, picture(second.at(reference), top=False))


def test_a_part_of_a_bundle_is_fetched(two: tuple[Node, Node, str]) -> None:
    first, second, reference = two
    _join(first, second)
    second.libernet("open", reference, "theirs")
    for what in (f"{reference}/sub/007", "bundles/theirs/sub/007", "theirs/sub/007"):
        answer = _fetch(second, what)
        assert (answer["failed"], answer["needed"] < 10) == (0, True)
    path = second.mountpoint / "bundles" / "theirs" / "sub"
    assert _fetch(second, str(path))["needed"] > 300
    assert "no 'nothing'" in second.try_libernet("fetch", f"{reference}/nothing").err
    expected = picture(first.backups / "b" / "sub", top=False)
    first.unmount()
    assert_same(expected, picture(path, top=False))


def test_a_bundle_that_nobody_has_is_told(two: tuple[Node, Node, str]) -> None:
    _, second, reference = two
    second.mount(*_QUIET)
    outcome = second.try_libernet("fetch", reference)
    assert outcome.exit_code == 1
    assert outcome.err.startswith("libernet: ")
    assert second.try_libernet("fetch", "no such name").exit_code == 1
    assert second.try_libernet("fetch", reference, "--pin", "--unpin").exit_code == 2


def test_pinned_blocks_stay_and_what_has_no_room_is_told(two: tuple[Node, Node, str]) -> None:
    first, second, reference = two
    (second.state).mkdir()
    (second.state / "config.toml").write_text(f"cache_bytes = {2 * _MIB}\n")
    _join(first, second)
    outcome = second.try_libernet("fetch", reference, "--json")
    answer = json.loads(outcome.out)
    here = json.loads(second.try_libernet("fetch", reference, "--json").out)["here_before"]
    assert here < answer["needed"]
    assert outcome.exit_code in {0, 3}  # whether it was kept for a moment or not at all
    second.unmount()
    (second.state / "config.toml").write_text(f"cache_bytes = {20 * _MIB}\n")
    _join(first, second)
    needed = _fetch(second, reference, "--pin")["needed"]
    _other(first, second)
    assert _fetch(second, reference)["here_before"] == needed
    _fetch(second, reference, "--unpin")
    _other(first, second)
    assert _fetch(second, reference)["here_before"] < needed


def _other(first: Node, second: Node) -> None:
    """Read so much else that nothing that may go from the cache stays there."""
    (first.backups / "b" / "other").write_bytes(os.urandom(25 * _MIB))
    reference = first.libernet("share", "backups/b/other").strip()
    content = (first.backups / "b" / "other").read_bytes()
    assert (second.at(reference) / "other").read_bytes() == content
