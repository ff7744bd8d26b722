"""Nodes on one network find each other without being told of anybody."""

import json
from pathlib import Path

import pytest

from tests.support.node import until
from tests.support.swarm import NOBODY_HAS_IT, PORT, Member

pytestmark = pytest.mark.announces(NOBODY_HAS_IT)


def _neighbours(member: Member) -> set[str]:
    discovery = json.loads(member.node.libernet("peers", "--json"))["discovery"]
    return {
        peer for each in discovery["members"] if each["kind"] == "lan" for peer in each["peers"]
    }


def test_a_bundle_is_found_on_the_local_network(members: dict[str, Member]) -> None:
    a, b, c = members["a"], members["b"], members["c"]
    for member in (a, b, c):
        member.node.lan = True
        member.node.mount()
    until(lambda: _neighbours(b) == {f"{each.host.address}:{PORT}" for each in (a, c)})
    (a.node.backups / "b").mkdir()
    (a.node.backups / "b" / "file").write_text("from a neighbour")
    reference = a.node.snapshot("b")
    opened = Path(b.node.libernet("open", reference, "theirs").strip())
    assert (opened / "file").read_text() == "from a neighbour"


def test_who_does_not_look_is_not_found(members: dict[str, Member]) -> None:
    a, b = members["a"], members["b"]
    a.node.lan = True
    a.node.mount("--no-lan")
    b.node.lan = True
    b.node.mount()
    discovery = json.loads(a.node.libernet("peers", "--json"))["discovery"]
    assert [each["kind"] for each in discovery["members"]] == ["static", "remembered", "dht"]
    assert _neighbours(b) == set()
