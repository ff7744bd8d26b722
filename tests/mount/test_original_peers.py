"""A server of the original as the only peer of a mount."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.original_bundles import BRANCHES, original_bundles
from tests.support.original_server import MainServer, RewriteServer, listening

_SERVERS = {"main": MainServer, "rewrite": RewriteServer}


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_bundle_is_read_from_a_server_of_the_original(node: Node, branch: str) -> None:
    original = _SERVERS[branch]()
    bundle = original_bundles()[f"{branch}-multiblock"]
    original.blocks |= {str(block_id): block for block_id, block in bundle.blocks.items()}
    with listening(original) as port:
        node.mount("--bind", "127.0.0.1", "--port", "0", "--peer", f"127.0.0.1:{port}")
        node.libernet("open", str(bundle.reference), "theirs")
        folder = node.mountpoint / "bundles" / "theirs"
        assert bundle.tree is not None
        for path, expected in bundle.tree.items():
            if expected["type"] == "file":
                content = Path(os.fsdecode(os.path.join(os.fsencode(folder), path))).read_bytes()
                assert hashlib.sha256(content).hexdigest() == expected["sha256"]
    assert {method for method, _ in original.requests} <= {"GET", "HEAD", "POST"}
