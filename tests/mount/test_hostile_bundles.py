"""A tree that nobody means well with, in a real mount and by its URL."""

import json
import os
import stat
from pathlib import Path

import pytest

from libernet.fs import storage
from libernet.fs.places import Places
from tests.support.documents import Documents
from tests.support.hostile import half_hostile_tree
from tests.support.node import Node

_ALONE = ("--bind", "127.0.0.1", "--port", "0")
_NAMES = ("bad", "deep", "good", "many")


@pytest.mark.announces(
    r"(lookup|readdir|opendir|read) failed: ", "an answer by URL ended too early"
)
def test_what_is_bad_in_a_tree_spoils_nothing_else(node: Node, tmp_path: Path) -> None:
    made = Documents()
    reference = made.put(half_hostile_tree(made))
    Places.of(node.state).make()
    with storage.opened(node.state) as disk:
        for block_id, block in made.blocks.items():
            disk.store.put(block_id, block)
        disk.store.flush()
    node.mount(*_ALONE)
    folder = Path(node.libernet("open", str(reference), "bundle").strip())
    names = sorted(os.listdir(folder))
    assert all(name.startswith(_NAMES) for name in names)
    for path, content in {
        "good": b"good",
        "good folder/inner": b"inner",
        "deep" + "/a" * 1500 + "/bottom": b"bottom",
        "many" + "/b/a" * 30 + "/bottom": b"of many",
    }.items():
        assert (folder / path).read_bytes() == content
    url = json.loads(node.libernet("status", "--json"))["web"] + str(reference)
    for name in names:
        if not name.startswith("bad"):
            continue
        look = (folder / name).lstat()
        if stat.S_ISLNK(look.st_mode):
            assert os.readlink(folder / name)  # shown as it was stored
        else:
            with pytest.raises(OSError, match=r"Input/output error|timed out"):
                os.listdir(folder / name) if stat.S_ISDIR(look.st_mode) else (
                    folder / name
                ).read_bytes()
        quoted = name.replace(" ", "%20") + ("/" if stat.S_ISDIR(look.st_mode) else "")
        asked = node.command("curl", "--silent", "--fail", f"{url}/{quoted}")
        assert asked.exit_code in {18, 22}, name  # ended too early; refused
    copy = node.command("cp", "-a", folder / "good folder", folder / "good", tmp_path)
    assert (copy.exit_code, copy.err) == (0, "")
