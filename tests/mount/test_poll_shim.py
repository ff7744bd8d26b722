"""The poll shim: the same mount with and without it, and no shim where it was never tried."""

import os
import subprocess
import sys

import pyfuse3
import pytest
import trio
import trio.testing

from libernet.fs.fuse import poll_shim
from tests.support.node import SECONDS, Node
from tests.support.tree import Picture, assert_same, picture

_WORKLOAD = """if True:
    import os, sys
    folder = os.path.join(sys.argv[1], sys.argv[2])
    os.mkdir(folder)
    os.chdir(folder)
    for number in range(150):
        with open(f"{number}", "wb") as file:
            file.write(b"%d" % number * 1000)
        os.rename(f"{number}", f"{number}.done")
        assert os.stat(f"{number}.done").st_size == len(str(number)) * 1000
        with open(f"{number}.done", "rb") as file:
            assert file.read() == b"%d" % number * 1000
        if number % 3 == 0:
            os.unlink(f"{number}.done")
    assert len(os.listdir(".")) == 100
"""


def _worked(node: Node) -> Picture:
    """Let three processes work at once; return what they left, times apart."""
    (node.backups / "a").mkdir()
    command = [sys.executable, "-c", _WORKLOAD, str(node.backups / "a")]
    workers = [subprocess.Popen([*command, name]) for name in ("x", "y", "z")]
    assert [worker.wait(SECONDS) for worker in workers] == [0, 0, 0]
    return picture(node.backups / "a")


@pytest.mark.parametrize("switch", ["--poll-shim", "--no-poll-shim"])
def test_a_mount_works_with_and_without_the_shim(node: Node, switch: str) -> None:
    node.mount(switch, "--log-level", "debug")
    expected = _worked(node)
    assert len(expected) == 1 + 3 * 101
    node.remount(switch)
    assert_same(expected, picture(node.backups / "a"))
    assert "not known" not in node.log_file.read_text()


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put pyfuse3 back as it was, after the test."""
    monkeypatch.setattr(pyfuse3, "trio", trio)


@pytest.mark.usefixtures("unchanged")
def test_an_unknown_version_of_pyfuse3_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "__version__", "9.0.0")
    assert not poll_shim.install()
    assert vars(pyfuse3)["trio"] is trio


@pytest.mark.usefixtures("unchanged")
def test_the_installed_version_of_pyfuse3_gets_the_shim_once() -> None:
    assert poll_shim.install()
    assert vars(pyfuse3)["trio"] is not trio
    assert not poll_shim.install()


@pytest.mark.usefixtures("unchanged")
async def test_what_is_readable_returns_at_once_and_others_get_their_turn_too() -> None:
    poll_shim.install()
    wait_readable = vars(pyfuse3)["trio"].lowlevel.wait_readable
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    end, written = os.pipe()
    try:
        os.write(written, b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(640):
                await wait_readable(end)
            nursery.cancel_scope.cancel()
        assert 20 <= turns <= 80
    finally:
        os.close(end)
        os.close(written)


@pytest.mark.usefixtures("unchanged")
async def test_what_is_not_readable_is_waited_for() -> None:
    poll_shim.install()
    wait_readable = vars(pyfuse3)["trio"].lowlevel.wait_readable
    end, written = os.pipe()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_readable, end)
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            os.write(written, b"x")
    finally:
        os.close(end)
        os.close(written)


@pytest.mark.usefixtures("unchanged")
async def test_the_lock_lets_one_in_at_a_time() -> None:
    poll_shim.install()
    lock = vars(pyfuse3)["trio"].Lock()
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(enter)


@pytest.mark.usefixtures("unchanged")
async def test_who_comes_back_without_having_waited_gets_the_lock_before_who_waits_for_it() -> None:
    poll_shim.install()
    lock = vars(pyfuse3)["trio"].Lock()
    order = []

    async def enter(name: str) -> None:
        async with lock:
            order.append(name)

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(enter, "waiting")
            await trio.testing.wait_all_tasks_blocked()
        await enter("back")
        await enter("back again")
        assert order == ["back", "back again"]
    assert order[2:] == ["waiting"]


@pytest.mark.usefixtures("unchanged")
async def test_the_lock_goes_to_the_next_when_its_holder_fails() -> None:
    poll_shim.install()
    lock = vars(pyfuse3)["trio"].Lock()
    entered = trio.Event()

    async def enter() -> None:
        async with lock:
            entered.set()

    async def fail(nursery: trio.Nursery) -> None:
        async with lock:
            nursery.start_soon(enter)
            await trio.testing.wait_all_tasks_blocked()
            raise trio.ClosedResourceError

    async with trio.open_nursery() as nursery:
        with pytest.raises(trio.ClosedResourceError):
            await fail(nursery)
        with trio.fail_after(5):
            await entered.wait()
