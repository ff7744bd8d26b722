"""The ends of a mount: however it is told to end, everything is durable; and what comes after."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.node import SECONDS, Node, Outcome, has_ended, until
from tests.support.tree import Picture, assert_same, picture

_NEVER_BY_ITSELF = ("--checkpoint-seconds", "4", "--publish-after-seconds", "86400")


def _signal(number: signal.Signals) -> Callable[[Node], None]:
    return lambda node: os.kill(node.pid, number)


def _run(*command: str) -> Callable[[Node], object]:
    return lambda node: subprocess.run([*command, node.mountpoint], check=True, timeout=SECONDS)


_ENDS: dict[str, Callable[[Node], object]] = {
    "SIGTERM": _signal(signal.SIGTERM),
    "SIGINT": _signal(signal.SIGINT),
    "SIGHUP": _signal(signal.SIGHUP),
    "umount": _run("umount", "-i"),
    "fusermount3": _run("fusermount3", "-u"),
    "libernet unmount": Node.unmount,
}


def _write_something(folder: Path) -> Picture:
    """Write what is sealed early, what only memory has, and names; nothing is fsynced."""
    (folder / "inner").mkdir(parents=True)
    (folder / "large").write_bytes(bytes(range(256)) * 20_000)
    for number in range(100):
        (folder / "inner" / str(number)).write_text(f"{number}\n" * number)
    (folder / "removed").touch()
    (folder / "removed").unlink()
    (folder / "inner" / "5").rename(folder / "moved")
    (folder / "link").symlink_to("moved")
    return picture(folder)


@pytest.mark.parametrize("end", _ENDS)
def test_everything_is_durable_and_published_after(node: Node, end: str) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    expected = _write_something(node.backups / "a")
    pid = node.pid
    _ENDS[end](node)
    node.until_ended(pid)
    assert "everything is durable" in node.log_file.read_text()
    node.mount()
    assert_same(expected, picture(node.backups / "a"))
    del expected[b"."]
    assert_same(expected, picture(node.snapshots / "a" / "latest", top=False))


def test_a_mount_right_after_umount_waits_for_the_old_process(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    expected = _write_something(node.backups / "a")
    old = node.pid
    subprocess.run(["umount", "-i", node.mountpoint], check=True, timeout=SECONDS)
    node.mount()
    assert node.pid != old
    assert_same(expected, picture(node.backups / "a"))


def test_what_is_open_keeps_the_mount_and_the_unmount_says_so(node: Node) -> None:
    node.mount()
    (node.backups / "a").mkdir()
    with (node.backups / "a" / "file").open("w"):
        refused = node.try_libernet("unmount")
        assert refused.exit_code == 1
        assert f"pid {os.getpid()}" in refused.err
        assert (node.backups / "a" / "file").exists()
    node.unmount()


def test_a_signal_ends_the_mount_under_an_open_file(node: Node) -> None:
    node.mount()
    (node.backups / "a").mkdir()
    pid = node.pid
    file = os.open(node.backups / "a" / "file", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"written")
    os.kill(pid, signal.SIGTERM)
    node.until_ended(pid)
    with pytest.raises(OSError, match="not connected"):
        os.write(file, b"too late")
    with pytest.raises(OSError, match="not connected"):
        os.close(file)
    node.mount()
    assert (node.backups / "a" / "file").read_bytes() == b"written"


def test_signals_do_not_cut_short_what_follows_the_unmount(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    expected = _write_something(node.backups / "a")
    pid = node.pid
    subprocess.run(["umount", "-i", node.mountpoint], check=True, timeout=SECONDS)

    def told_again() -> bool:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return has_ended(pid)

    until(told_again)
    assert "everything is durable" in node.log_file.read_text()
    node.mount()
    assert_same(expected, picture(node.backups / "a"))


def test_the_mount_of_a_killed_process_is_cleaned_up_at_the_next_start(node: Node) -> None:
    node.mount(*_NEVER_BY_ITSELF)
    expected = _write_something(node.backups / "a")
    node.libernet("sync")
    (node.backups / "a" / "later").write_text("not yet durable")
    node.kill()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(node.mountpoint)
    node.mount()
    found = picture(node.backups / "a")
    found.pop(b"later", None)
    found[b"."] = expected[b"."]
    assert_same(expected, found)


def test_a_state_folder_serves_one_mount(node: Node) -> None:
    node.mount()
    other = node.folder / "other"
    other.mkdir()
    refused = node.try_mount(mountpoint=other)
    assert refused == Outcome(
        32,
        "",
        f"mount.libernet: the state folder {node.state} is in use by pid {node.pid}, mounted at "
        f"{node.mountpoint}. Unmount it with: libernet --state {node.state} unmount\n",
    )
    assert not list(other.iterdir())


def test_in_the_foreground_ctrl_c_ends_it_with_everything_durable(node: Node) -> None:
    with node.start("--foreground", *_NEVER_BY_ITSELF) as process:
        until(node.backups.is_dir)
        expected = _write_something(node.backups / "a")
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, "")
    assert "everything is durable" in said
    assert " WARNING " not in said
    assert " ERROR " not in said
    node.mount()
    assert_same(expected, picture(node.backups / "a"))
