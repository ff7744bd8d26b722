"""Two machines: what one shares, the other opens, and keeps when the first is gone."""

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node, Outcome, running, until
from tests.support.tree import assert_same, picture

_LARGE_BYTES = 20 * 1024 * 1024
_QUIET = ("--bind", "127.0.0.1", "--port", "0", "--publish-after-seconds", "86400")
_GIVES_UP_SECONDS = 35.0  # a read's deadline is 30 s; a look into a folder waits for 5

_NOBODY_HAS_IT = r"(readdir|read) failed: .*(nobody|did not come)"


def _answer(node: Node, *command: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(node.libernet(*command, "--json"))
    return answer


def _mount_beside(node: Node, first: Node) -> None:
    """Mount *node* as one that knows *first*."""
    port = _answer(first, "peers")["listening"]
    node.mount(*_QUIET, "--private-network", "--peer", f"127.0.0.1:{port}")


def _share(node: Node, path: str) -> str:
    return node.libernet("share", path).removesuffix("\n")


def _fill(folder: Path) -> None:
    """Make a folder of everything that a share must bring over."""
    (folder / "sub" / "empty").mkdir(parents=True)
    for number in range(50):
        (folder / "sub" / f"{number:02}").write_bytes(os.urandom(100 * number))
    (folder / "large").write_bytes(os.urandom(_LARGE_BYTES))
    (folder / "large").chmod(0o640)
    (folder / "link").symlink_to("sub/01")
    (folder / os.fsdecode(b"caf\xe9")).write_text("hot")
    os.mkfifo(folder / "fifo", 0o600)
    os.utime(folder / "sub", ns=(10**18, 10**18 + 1))
    folder.chmod(0o750)
    os.utime(folder, ns=(10**18, 10**18 + 2))


@pytest.fixture
def two(
    nodes: list[Node], no_complaint_unannounced: None, tmp_path: Path
) -> Iterator[tuple[Node, Node]]:
    """Two nodes that see each other, the first with the backup `b` and in it a folder `given`."""
    with running(tmp_path / "first", nodes) as first, running(tmp_path / "second", nodes) as second:
        first.mount(*_QUIET, "--private-network")
        _fill(first.backups / "b" / "given")
        (first.backups / "b" / "secret").write_text("kept to myself")
        _mount_beside(second, first)
        yield first, second


@pytest.mark.announces(_NOBODY_HAS_IT)
def test_what_one_shares_the_other_opens_and_keeps(two: tuple[Node, Node]) -> None:
    first, second = two
    given = first.backups / "b" / "given"
    reference = _share(first, str(given))
    not_read = _share(first, "backups/b/secret")

    assert second.libernet("open", reference, "gift") == f"{second.mountpoint}/bundles/gift\n"
    second.libernet("open", not_read, "not read")
    gift = second.mountpoint / "bundles" / "gift"
    assert sorted(os.listdir(gift)) == sorted(os.listdir(given))
    before = picture(given)
    assert_same(before, picture(gift))
    _assert_told(first, second)
    looks = given.stat()

    first.unmount()
    second.remount(*_QUIET)
    assert sorted(os.listdir(second.mountpoint / "bundles")) == ["gift", "not read"]
    [shown] = [each.stat() for each in os.scandir(gift.parent) if each.name == "gift"]
    assert (shown.st_mode, shown.st_mtime_ns) == (looks.st_mode, looks.st_mtime_ns)
    assert_same(before, picture(gift))
    started = time.monotonic()
    with pytest.raises(OSError) as caught:
        os.listdir(second.mountpoint / "bundles" / "not read")
    assert caught.value.errno in {errno.EIO, errno.ETIMEDOUT}
    assert time.monotonic() - started < _GIVES_UP_SECONDS


def _assert_told(first: Node, second: Node) -> None:
    """Check what the two say about each other after a bundle was read."""
    port = _answer(first, "peers")["listening"]
    [peer] = _answer(second, "peers")["peers"]
    assert peer["address"] == f"127.0.0.1:{port}"
    assert peer["delivered"] > 20
    assert peer["failed"] == 0
    shown = second.libernet("peers")
    [line] = [line for line in shown.splitlines() if line.startswith(f"127.0.0.1:{port}  ")]
    assert f"  {peer['delivered']} blocks, " in line
    until(lambda: first.status()["not_announced"] == [])
    until(lambda: second.status()["not_announced"] == [])
    assert second.status()["failures"] == []
    assert "others do not know of" not in second.libernet("status")


@pytest.mark.announces(_NOBODY_HAS_IT)
def test_a_file_of_which_half_was_read_is_half_there(two: tuple[Node, Node]) -> None:
    first, second = two
    reference = _share(first, str(first.backups / "b" / "given" / "large"))
    second.libernet("open", reference, "file")
    file = second.mountpoint / "bundles" / "file" / "large"
    assert os.listdir(file.parent) == ["large"]
    assert file.stat().st_mode & 0o777 == 0o640
    with file.open("rb") as opened:
        begin = opened.read(4096)
    assert begin == (first.backups / "b" / "given" / "large").read_bytes()[:4096]
    first.unmount()
    second.remount(*_QUIET)
    with file.open("rb") as opened:
        assert opened.read(4096) == begin
        started = time.monotonic()
        opened.seek(-4096, os.SEEK_END)
        with pytest.raises(OSError) as caught:
            opened.read()
        assert caught.value.errno == errno.EIO
        assert time.monotonic() - started < _GIVES_UP_SECONDS
    assert {failure["path"] for failure in second.status()["failures"]} == {"/large"}
    assert "of /large since" in second.libernet("status")


def test_a_bundle_is_shared_on_and_closed(two: tuple[Node, Node]) -> None:
    first, second = two
    given, bundles = first.backups / "b" / "given", second.mountpoint / "bundles"
    reference = _share(first, str(given))
    name = Path(second.libernet("open", reference).rstrip("\n")).name
    assert name == reference.split("/")[2][:12]
    assert (bundles / name / "sub" / "01").read_bytes() == (given / "sub" / "01").read_bytes()
    assert _share(second, str(bundles / name)) == reference
    assert second.libernet("close", name) == ""
    until(lambda: not (bundles / name).exists())
    assert os.listdir(bundles) == []
    refused = second.try_libernet("close", name)
    assert refused == Outcome(1, "", f"libernet: no bundle named {name!r} is open\n")


def test_another_bundle_under_the_same_name_shows_nothing_of_the_first(
    two: tuple[Node, Node],
) -> None:
    first, second = two
    for name in ("one", "two"):
        (first.backups / name).mkdir()
        (first.backups / name / "file").write_text(name)
    shown = second.mountpoint / "bundles" / "name" / "file"
    for name in ("one", "two"):
        second.libernet("open", _share(first, f"backups/{name}"), "name")
        until(lambda expected=name: shown.read_text() == expected)  # type: ignore[misc]
        second.libernet("close", "name")
