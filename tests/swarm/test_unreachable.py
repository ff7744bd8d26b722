"""A node behind a router that lets nothing in but answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node, until
from tests.support.swarm import Member, swarm


@pytest.fixture
def members(
    _fit_for_delay: None, nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[dict[str, Member]]:
    """Two nodes, and one that these cannot reach; not mounted yet."""
    names = ("hidden", "other", "bootstrap")
    with swarm(tmp_path / "swarm", nodes, names, round_trip_ms=5, guarded="hidden") as made:
        yield made


def test_it_says_that_it_cannot_be_reached_announces_nothing_and_reads(
    members: dict[str, Member],
) -> None:
    hidden, other = members["hidden"], members["other"]
    members["bootstrap"].join()
    for member in (other, hidden):
        member.join(through=members["bootstrap"])
    until(lambda: dht_of(hidden)["is_reachable"] is False)
    assert dht_of(other)["is_reachable"] is True
    assert "not from outside: others cannot fetch what is here" in hidden.node.libernet("status")

    (other.node.backups / "theirs").mkdir()
    (other.node.backups / "theirs" / "file").write_text("hello")
    reference = other.node.snapshot("theirs")
    other.until_announced()
    opened = Path(hidden.node.libernet("open", reference).strip())
    assert (opened / "file").read_text() == "hello"

    (hidden.node.backups / "mine").mkdir()
    (hidden.node.backups / "mine" / "file").write_text("nobody gets it")
    hidden.node.snapshot("mine")
    until(lambda: hidden.node.status()["not_announced"])
    assert dht_of(hidden)["announced"] == 0
    # Nobody names it to others: it is in no table.
    until(lambda: [dht_of(member)["contacts"] for member in members.values()] == [2, 1, 1])


def dht_of(member: Member) -> dict[str, Any]:
    """Return what a node says of its part in the DHT."""
    ways = member.node.status()["network"]["discovery"]["members"]
    [dht] = [each for each in ways if each["kind"] == "dht"]
    return dht
