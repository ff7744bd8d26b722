"""libernet dht: other programs find each other through running mounts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import Node, running

_QUIET = ("--bind", "127.0.0.1", "--port", "0", "--private-network")


@pytest.fixture
def two(
    nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[tuple[Node, Node]]:
    with running(tmp_path / "first", nodes) as first, running(tmp_path / "second", nodes) as second:
        first.mount(*_QUIET)
        port = json.loads(first.libernet("peers", "--json"))["listening"]
        second.mount(*_QUIET, "--peer", f"127.0.0.1:{port}")
        yield first, second


def test_what_one_announces_the_other_finds(two: tuple[Node, Node]) -> None:
    first, second = two
    long = "an identifier as long as one likes " * 20
    for identifier, port in (("chat", 7001), ("ü/*", 7002), (long, 65535)):
        assert second.libernet("dht", "announce", identifier, "--port", str(port)) == (
            "1 nodes took it\n"
        )
        assert first.libernet("dht", "find", identifier) == f"127.0.0.1:{port}\n"
    assert json.loads(first.libernet("dht", "find", "chatt", "--json")) == {"addresses": []}


def test_several_may_announce_one_identifier(two: tuple[Node, Node]) -> None:
    first, second = two
    first.libernet("dht", "announce", "game", "--port", "7001")
    second.libernet("dht", "announce", "game", "--port", "7002")
    found = {*first.libernet("dht", "find", "game").split()}
    assert found >= {"127.0.0.1:7002"}


def test_wrong_uses_are_told(node: Node) -> None:
    node.mount(*_QUIET)
    for wrong in (["announce", "x"], ["announce", "x", "--port", "0"], ["find"], ["no such"]):
        assert node.try_libernet("dht", *wrong).exit_code == 2
    assert node.try_libernet("dht", "find", "").exit_code == 1
    assert node.try_libernet("dht", "find", "x" * 5000).exit_code == 1
    outcome = node.try_libernet("dht", "find", "nobody is there")
    assert outcome.exit_code == 1
    assert "no other node" in outcome.err
