"""A folder of a real mount, published for everybody and restored over HTTP as the original does."""

import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.support.node import Node, Outcome
from tests.support.original_restore import restore
from tests.support.tree import picture

_ALONE = ("--bind", "127.0.0.1", "--port", "0")
_LARGE = os.urandom(3_000_000)


def _blocks_of(node: Node) -> Callable[[str], bytes | None]:
    """Return what fetches a block from the port on which the node serves others."""
    port = json.loads(node.libernet("peers", "--json"))["listening"]

    def get(address: str) -> bytes | None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", address)
            response = connection.getresponse()
            return response.read() if response.status == 200 else None
        finally:
            connection.close()

    return get


def _fill(folder: Path) -> None:
    (folder / "docs" / "empty").mkdir(parents=True)
    (folder / "docs" / "large").write_bytes(_LARGE)
    (folder / "index.html").write_text("<a href=docs>")
    os.symlink("docs/large", folder / "to a file")
    for number in range(3000):
        (folder / "docs" / f"file {number:04} \udcff").write_bytes(b"content %d" % number)


def test_what_is_published_is_restored_over_http(node: Node, tmp_path: Path) -> None:
    node.mount(*_ALONE)
    _fill(node.backups / "b")
    os.mkfifo(node.backups / "b" / "fifo")
    os.symlink("/etc/passwd", node.backups / "b" / "outside")
    outcome = node.try_libernet("publish", str(node.backups / "b"), "--index", "index.html")
    assert outcome.exit_code == 3
    public, *left_out = outcome.err.splitlines()
    assert public.startswith("This is public:")
    assert left_out == [
        "left out: fifo: is neither file, folder nor link",
        "left out: outside: is a link to no file or folder that is published with it",
    ]
    reference = outcome.out.strip()

    for name in ("fifo", "outside"):
        (node.backups / "b" / name).unlink()
    expected = picture(node.backups / "b", links=False, top=False)
    for round_name in ("before", "after a kill"):
        target = tmp_path / round_name
        target.mkdir()
        assert restore(reference, _blocks_of(node), str(target)) == []
        restored = picture(target, links=False, top=False)
        assert restored.keys() == expected.keys()
        assert [each.content for each in restored.values()] == [
            each.content for each in expected.values()
        ]
        assert sorted(os.listdir(node.at(reference))) == sorted(os.listdir(target))
        assert (node.at(reference) / "docs" / "large").read_bytes() == _LARGE
        node.kill()
        node.mount(*_ALONE)


def test_wrong_uses_are_told(node: Node) -> None:
    node.mount(*_ALONE)
    (node.backups / "b").mkdir()
    for arguments in (["--index", "i", "--stream", "/etc/passwd"], ["x", "--stream", "/dev/null"]):
        assert node.try_libernet("publish", *arguments).exit_code == 2
    outcome = node.try_libernet("publish", str(node.backups / "b"), "--index", "none")
    assert outcome == Outcome(1, "", "libernet: 'none' is no file in the top folder\n")
    answer = json.loads(node.libernet("publish", "backups/b", "--json"))
    assert answer.keys() == {"reference", "left_out"}
