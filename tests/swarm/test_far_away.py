"""Nodes with a round trip of 50 ms between them."""

import random
import socket
import time
from pathlib import Path

from tests.support.swarm import PORT, Member
from tests.support.tree import assert_same, picture, published

ROUND_TRIP_SECONDS = 0.05
SMALL_FILES = 600


def test_what_a_node_far_away_published_comes_without_a_round_trip_for_each_file(
    far_members: dict[str, Member], tmp_path: Path
) -> None:
    a, b = far_members["a"], far_members["b"]
    _make_tree(tmp_path / "tree")
    far_members["bootstrap"].join()
    for member in (a, b):
        member.join(through=far_members["bootstrap"])
    assert b.host.inside(lambda: _seconds_to_connect(a)) >= ROUND_TRIP_SECONDS

    a.node.run("cp", "-a", tmp_path / "tree", a.node.backups)
    reference = a.node.snapshot("tree")
    a.until_announced()
    opened = b.node.libernet("open", reference).strip()
    began = time.monotonic()
    found = picture(Path(opened), links=False, top=False)
    seconds = time.monotonic() - began

    assert_same(published(picture(tmp_path / "tree")), found)
    assert seconds < SMALL_FILES * ROUND_TRIP_SECONDS / 2


def _make_tree(root: Path) -> None:
    bits = random.Random(4)
    for number in range(SMALL_FILES):
        folder = root / f"folder {number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(bits.randbytes(100 + 10 * number))
    (root / "large").write_bytes(bits.randbytes(20_000_000))


def _seconds_to_connect(member: Member) -> float:
    began = time.monotonic()
    socket.create_connection((member.host.address, PORT)).close()
    return time.monotonic() - began
