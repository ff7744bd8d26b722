import os
import stat
from pathlib import Path

import pytest

from libernet.blocks.errors import StoreError
from libernet.net.identity import KEY_FILE, NodeIdentity, is_signed

MESSAGE = b"libernet test v1" + bytes(40)


def test_a_node_stays_who_it_is(tmp_path: Path) -> None:
    first = NodeIdentity.load(tmp_path)
    assert NodeIdentity.load(tmp_path).public_key == first.public_key
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_two_nodes_are_two(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    one, two = map(NodeIdentity.load, folders)
    assert one.public_key != two.public_key


def test_what_a_node_signed_is_known_by_its_key(tmp_path: Path) -> None:
    node, other = NodeIdentity(os.urandom(32)), NodeIdentity(os.urandom(32))
    signature = node.sign(MESSAGE)
    assert is_signed(node.public_key, signature, MESSAGE)
    assert not is_signed(node.public_key, signature, MESSAGE + b".")
    assert not is_signed(other.public_key, signature, MESSAGE)


def test_the_key_is_that_of_rfc_8032() -> None:
    # Section 7.1, test 1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    node = NodeIdentity(seed)
    assert node.public_key.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert node.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


@pytest.mark.parametrize(
    ("key", "signature"), [(b"", b""), (b"k" * 31, b"s" * 64), (b"\xff" * 32, b"s" * 63)]
)
def test_odd_keys_and_signatures_are_no_signatures(key: bytes, signature: bytes) -> None:
    assert not is_signed(key, signature, MESSAGE)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    NodeIdentity.load(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(StoreError, match=r"node's key .* open to others .* chmod 600"):
        NodeIdentity.load(tmp_path)
