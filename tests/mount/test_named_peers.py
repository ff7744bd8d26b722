"""Peers that a person names, in the configuration or on the command line, and those remembered."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node, running, until

_ALONE = ("--bind", "127.0.0.1", "--port", "0", "--private-network")


@pytest.fixture
def other(nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path) -> Iterator[Node]:
    with running(tmp_path / "other", nodes) as made:
        yield made


@pytest.fixture
def shared(node: Node) -> str:
    """The reference of a file that `node` has, mounted."""
    node.mount(*_ALONE)
    (node.backups / "b").mkdir()
    (node.backups / "b" / "file").write_text("from a peer")
    return node.snapshot("b")


def _address(node: Node) -> str:
    return f"127.0.0.1:{_peers(node)['listening']}"


def _peers(node: Node) -> Any:
    return json.loads(node.libernet("peers", "--json"))


def _read(node: Node, reference: str) -> str:
    opened = Path(node.libernet("open", reference).strip())
    return (opened / "file").read_text()


def test_peers_of_the_configuration_are_asked(node: Node, other: Node, shared: str) -> None:
    other.state.mkdir()
    (other.state / "config.toml").write_text(f'peers = ["{_address(node)}"]\n')
    other.mount(*_ALONE)
    assert _read(other, shared) == "from a peer"


def test_a_peer_of_the_command_line_is_remembered_when_it_is_named_no_more(
    node: Node, other: Node, shared: str
) -> None:
    other.mount(*_ALONE, "--peer", _address(node))
    assert _read(other, shared) == "from a peer"
    (node.backups / "later").mkdir()
    (node.backups / "later" / "file").write_text("later from the same")
    later = node.snapshot("later")
    other.remount(*_ALONE)
    kinds = {each["kind"]: each for each in _peers(other)["discovery"]["members"]}
    assert kinds["static"]["peers"] == []
    assert kinds["remembered"]["peers"] == [_address(node)]
    assert _read(other, later) == "later from the same"
    until(lambda: _peers(other)["peers"][0]["node_id"] is not None)
