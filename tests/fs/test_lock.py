import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libernet.blocks.errors import LibernetError
from libernet.fs.lock import (
    Holder,
    Phase,
    StateLock,
    check_free,
    find_holder,
    holder,
    wait_released,
)

_HOLD = """
import sys
from pathlib import Path
from libernet.fs.lock import Phase, StateLock
lock = StateLock.acquire(Path(sys.argv[1]), Path(sys.argv[2]))
lock.mark(Phase(sys.argv[3]))
print("held", flush=True)
sys.stdin.read()
"""

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Start processes that hold the lock of tmp_path until their stdin ends."""
    started: list[subprocess.Popen[str]] = []

    def start(phase: Phase, mountpoint: str = "/") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _HOLD, str(tmp_path), mountpoint, phase]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_free_folder_is_locked_and_names_its_holder(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with StateLock.acquire(tmp_path, Path("/mnt")) as lock:
        assert holder(tmp_path) == Holder(os.getpid(), Path("/mnt"), Phase.STARTING)
        lock.mark(Phase.ENDING)
        assert holder(tmp_path) == Holder(os.getpid(), Path("/mnt"), Phase.ENDING)
    assert holder(tmp_path) is None
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_mount_point_may_have_any_name(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(b"/new\nline/\xff\xfe/" + "ü".encode() * 1000))
    with StateLock.acquire(tmp_path, odd):
        found = holder(tmp_path)
        assert found is not None
        assert found.mountpoint == odd


def test_a_mounted_folder_is_refused_at_once_with_who_holds_it(tmp_path: Path, hold: Hold) -> None:
    process = hold(Phase.MOUNTED, "/proc")
    with pytest.raises(LibernetError) as caught:
        StateLock.acquire(tmp_path, Path("/mnt"), wait_seconds=3600)
    assert str(caught.value) == (
        f"the state folder {tmp_path} is in use by pid {process.pid}, mounted at /proc. "
        f"Unmount it with: libernet --state {tmp_path} unmount"
    )
    with pytest.raises(LibernetError, match=r"in use by pid"):
        check_free(tmp_path, Path("/mnt"))


def test_the_same_mount_again_is_told_that_it_is_mounted(tmp_path: Path, hold: Hold) -> None:
    process = hold(Phase.MOUNTED, "/proc")
    with pytest.raises(LibernetError, match=f"/proc is already mounted .pid {process.pid}."):
        StateLock.acquire(tmp_path, Path("/proc"))


def test_a_starting_holder_is_not_waited_for(tmp_path: Path, hold: Hold) -> None:
    hold(Phase.STARTING)
    with pytest.raises(LibernetError, match="in use by pid"):
        StateLock.acquire(tmp_path, Path("/mnt"), wait_seconds=3600)


@pytest.mark.parametrize(
    ("phase", "mountpoint"), [(Phase.ENDING, "/proc"), (Phase.MOUNTED, "/not mounted any more")]
)
def test_a_holder_that_is_ending_or_unmounted_is_waited_for(
    tmp_path: Path, hold: Hold, phase: Phase, mountpoint: str
) -> None:
    process = hold(phase, mountpoint)
    check_free(tmp_path, Path("/mnt"))
    threading.Timer(0.4, process.kill).start()
    with StateLock.acquire(tmp_path, Path("/mnt"), wait_seconds=60):
        assert process.wait(5) == -signal.SIGKILL


def test_waiting_for_an_ending_holder_has_an_end(tmp_path: Path, hold: Hold) -> None:
    process = hold(Phase.ENDING)
    with pytest.raises(LibernetError, match=f"pid {process.pid}, unmounted from /, is writing"):
        StateLock.acquire(tmp_path, Path("/mnt"), wait_seconds=0.05)


def test_a_killed_holder_frees_the_folder(tmp_path: Path, hold: Hold) -> None:
    process = hold(Phase.MOUNTED)
    process.kill()
    process.wait()
    assert holder(tmp_path) is None
    StateLock.acquire(tmp_path, Path("/mnt")).release()


def test_a_forked_child_keeps_the_lock_when_its_parent_lets_go(tmp_path: Path) -> None:
    release_child, hold_child = os.pipe()
    lock = StateLock.acquire(tmp_path, Path("/mnt"))
    child = os.fork()
    if child == 0:
        os.close(hold_child)
        lock.mark(Phase.ENDING)
        os.read(release_child, 1)
        os._exit(0)
    os.close(release_child)
    lock.release()
    assert not wait_released(tmp_path, 0.05)
    os.close(hold_child)
    os.waitpid(child, 0)
    assert wait_released(tmp_path, 0)


def test_a_successor_does_not_count_as_the_one_waited_for(tmp_path: Path, hold: Hold) -> None:
    process = hold(Phase.MOUNTED)
    assert not wait_released(tmp_path, 0, pid=process.pid)
    assert wait_released(tmp_path, 0, pid=process.pid + 1)


def test_the_holder_behind_a_mount_point_is_found_among_the_processes(
    tmp_path: Path, hold: Hold
) -> None:
    process = hold(Phase.MOUNTED, str(tmp_path / "mnt"))
    expected = Holder(process.pid, tmp_path / "mnt", Phase.MOUNTED)
    assert find_holder(tmp_path / "mnt") == (tmp_path, expected)
    assert find_holder(tmp_path / "other") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"pid": "x"}', b"\xff", b"null"])
def test_a_damaged_description_is_no_holder_and_no_obstacle(tmp_path: Path, content: bytes) -> None:
    assert Holder.parse(content) is None
    (tmp_path / "lock").write_bytes(content)
    with StateLock.acquire(tmp_path, Path("/mnt")):
        assert holder(tmp_path) is not None
