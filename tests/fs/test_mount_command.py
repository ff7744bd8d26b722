"""mount.libernet and umount.fuse.libernet around a stand-in file system (stand_in_mount.py)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libernet.fs.lock import Phase, holder, wait_released
from libernet.fs.mount_command import main
from libernet.fs.mount_table import FUSE_TYPE, mount_at, mounts
from libernet.fs.unmount_command import main as unmount_main

_ROOT = Path(__file__).parents[2]
_STAND_IN = Path(__file__).with_name("stand_in_mount.py")
_SECONDS = 30

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no FUSE")


class Node:
    """A state folder and a mount point, with the commands run on them."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.mountpoint = folder / "a folder"
        self.mountpoint.mkdir()
        self.log_file = self.state / "libernet.log"

    def start(
        self, *options: str, stand_in: str = "mount", linger: Path | None = None
    ) -> "subprocess.Popen[str]":
        environment = os.environ | {"STAND_IN": stand_in, "PYTHONPATH": str(_ROOT)}
        if linger:
            environment["LINGER"] = str(linger)
        state = ["--state", str(self.state)]
        return subprocess.Popen(
            [sys.executable, str(_STAND_IN), *state, str(self.mountpoint), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def mount(
        self, *options: str, stand_in: str = "mount", linger: Path | None = None
    ) -> tuple[int, str]:
        """Run the command to its end; return its exit code and what it said."""
        with self.start(*options, stand_in=stand_in, linger=linger) as process:
            _, said = process.communicate(timeout=_SECONDS)
            return process.returncode, said

    @property
    def pid(self) -> int:
        found = holder(self.state)
        assert found is not None
        return found.pid

    def kill(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        assert wait_released(self.state, _SECONDS, pid=pid)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for mount in reversed(mounts()):
        if mount.mountpoint.is_relative_to(tmp_path):
            subprocess.run(["umount", "-i", "-l", mount.mountpoint], check=False)
    if found := holder(node.state):
        os.kill(found.pid, signal.SIGKILL)
        assert wait_released(node.state, _SECONDS)


def test_the_command_comes_back_when_the_mount_answers(node: Node) -> None:
    assert node.mount("-v") == (0, "")
    mount = mount_at(node.mountpoint)
    assert mount is not None
    assert (mount.type, mount.source) == (FUSE_TYPE, "libernet")
    assert os.path.isdir(node.mountpoint)
    found = holder(node.state)
    assert found is not None
    assert (found.mountpoint, found.phase) == (node.mountpoint, Phase.MOUNTED)


def test_the_daemon_leaves_terminal_folder_and_streams(node: Node) -> None:
    node.mount()
    process = Path(f"/proc/{node.pid}")
    assert os.getsid(node.pid) == node.pid
    assert os.readlink(process / "cwd") == "/"
    assert os.readlink(process / "fd/0") == "/dev/null"
    assert os.readlink(process / "fd/1") == os.readlink(process / "fd/2") == str(node.log_file)
    assert node.log_file.stat().st_mode & 0o777 == 0o600


def test_a_second_mount_is_told_that_it_is_mounted(node: Node) -> None:
    node.mount()
    exit_code, said = node.mount()
    assert exit_code == 32
    assert f"{node.mountpoint} is already mounted (pid {node.pid}). Unmount it with: " in said


def test_another_node_on_the_same_folder_is_told_whose_it_is(node: Node, tmp_path: Path) -> None:
    node.mount()
    exit_code, said = node.mount("--state", str(tmp_path / "other"))
    assert exit_code == 32
    assert f"already mounted (pid {node.pid})" in said
    assert f"libernet --state {node.state} unmount" in said


def test_a_mount_that_a_killed_process_left_is_cleaned_up(node: Node) -> None:
    node.mount()
    node.kill()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(node.mountpoint)
    assert node.mount() == (0, "")
    assert [mount.mountpoint for mount in mounts()].count(node.mountpoint) == 1


def test_pretending_reports_a_dead_mount_and_leaves_it(node: Node) -> None:
    node.mount()
    node.kill()
    exit_code, said = node.mount("-f")
    assert exit_code == 32
    assert "umount -l" in said
    assert mount_at(node.mountpoint)


def test_pretending_changes_nothing(node: Node) -> None:
    assert node.mount("-f") == (0, "")
    assert not node.state.exists()
    assert mount_at(node.mountpoint) is None


def test_umount_waits_until_the_process_has_written_everything(node: Node, tmp_path: Path) -> None:
    writing = tmp_path / "writing"
    os.mkfifo(writing)
    node.mount(linger=writing)
    command = [sys.executable, "-m", "libernet.fs.unmount_command", str(node.mountpoint)]
    with subprocess.Popen(command, cwd=_ROOT) as unmounting:
        _until_unmounted(node)
        with pytest.raises(subprocess.TimeoutExpired):
            unmounting.wait(0.3)
        writing.write_text("")  # lets the stand-in end
        assert unmounting.wait(_SECONDS) == 0
    assert holder(node.state) is None
    assert "the stand-in has ended" in node.log_file.read_text()


def test_a_new_mount_waits_for_the_process_of_the_old_one(node: Node, tmp_path: Path) -> None:
    writing = tmp_path / "writing"
    os.mkfifo(writing)
    node.mount(linger=writing)
    old = node.pid
    subprocess.run(["umount", "-i", node.mountpoint], check=True)
    with node.start() as mounting:
        with pytest.raises(subprocess.TimeoutExpired):
            mounting.wait(0.6)
        writing.write_text("")
        assert mounting.wait(_SECONDS) == 0
        mounting.communicate()
    assert node.pid != old


def test_umount_of_a_busy_mount_names_who_uses_it(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.mount()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=node.mountpoint) as user:
        assert unmount_main([str(node.mountpoint)]) == 32
        assert f"is in use by cat (pid {user.pid})" in capsys.readouterr().err
    assert unmount_main([str(node.mountpoint), "-t", "fuse.libernet"]) == 0
    assert mount_at(node.mountpoint) is None


def test_umount_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unmount_main([str(tmp_path)]) == 32
    assert f"nothing is mounted on {tmp_path}" in capsys.readouterr().err
    assert unmount_main([]) == 1


@pytest.mark.parametrize(
    ("stand_in", "exit_code", "sentence"),
    [
        ("usage", 1, "mount.libernet: peer address 'x' cannot be used\n"),
        ("failure", 32, "mount.libernet: the store in {state} is broken\n"),
        (
            "bug",
            32,
            "mount.libernet: this is a fault of Libernet itself: "
            "ZeroDivisionError('nobody foresaw this') (more in {log})\n",
        ),
        ("silence", 32, "mount.libernet: it ended before it was mounted: see {log}\n"),
        (
            "death",
            32,
            "mount.libernet: the process was killed by SIGKILL before it was mounted: see {log}\n",
        ),
    ],
)
def test_a_start_that_fails_is_told_in_one_sentence(
    node: Node, stand_in: str, exit_code: int, sentence: str
) -> None:
    expected = sentence.format(state=node.state, log=node.log_file)
    assert node.mount(stand_in=stand_in) == (exit_code, expected)
    assert holder(node.state) is None


def test_a_bug_leaves_its_traceback_in_the_log(node: Node) -> None:
    node.mount(stand_in="bug")
    assert "Traceback" in node.log_file.read_text()


def test_in_the_foreground_the_command_lasts_as_long_as_the_mount(node: Node) -> None:
    with node.start("--foreground") as process:
        _until_mounted(node)
        assert node.pid == process.pid
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0
    assert f"mounted on {node.mountpoint}" in said
    assert mount_at(node.mountpoint) is None


def test_a_mount_point_is_known_behind_a_symbolic_link(node: Node, tmp_path: Path) -> None:
    real = node.mountpoint
    node.mountpoint = tmp_path / "link"
    node.mountpoint.symlink_to(real)
    assert node.mount() == (0, "")
    assert mount_at(real)
    assert unmount_main([str(node.mountpoint)]) == 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "does not exist. Make it with: mkdir -p"),
        ("file", "is not a folder"),
        ("full", "is not empty"),
        ("busy", "is busy: disk (tmpfs) is mounted on it. Unmount that with: umount"),
    ],
)
def test_a_mount_point_that_cannot_be_used_is_explained(
    node: Node, kind: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match kind:
        case "missing":
            node.mountpoint.rmdir()
        case "file":
            node.mountpoint.rmdir()
            node.mountpoint.touch()
        case "full":
            (node.mountpoint / "letter").touch()
        case "busy":
            subprocess.run(["mount", "-t", "tmpfs", "disk", node.mountpoint], check=True)
    assert main(["--state", str(node.state), str(node.mountpoint)]) == 32
    said = capsys.readouterr().err
    assert said.startswith("mount.libernet: ")
    assert said.count("\n") == 1
    assert sentence in said
    assert str(node.mountpoint) in said


def test_a_state_folder_inside_the_mount_point_is_refused(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = node.mountpoint / "state"
    assert main(["--state", str(inside), str(node.mountpoint)]) == 32
    assert "lies inside the mount point" in capsys.readouterr().err
    assert not inside.exists()


def test_a_state_folder_of_a_newer_version_is_refused(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.state.mkdir()
    (node.state / "version").write_text("2")
    assert main(["--state", str(node.state), str(node.mountpoint)]) == 32
    assert "written by a newer version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "are required"),
        (["a", "b", "c"], "too many arguments"),
        (["--colour", "/mnt"], "unrecognized arguments: --colour"),
        (["/mnt", "-o", "colour"], "no mount option 'colour'"),
        (["/mnt", "--port", "many"], "option --port: port must be a whole number"),
        (["/mnt", "--port"], "expected one argument"),
        (["/mnt", "--uid", "nobody by this name"], "name of a user"),
        (["/mnt", "-o", "state="], "the path of a folder"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("mount.libernet: ")
    assert said.count("\n") == 1
    assert sentence in said


def test_a_mistake_in_the_configuration_is_a_usage_error(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.state.mkdir()
    (node.state / "config.toml").write_text("\nprot = 1\n")
    assert main(["--state", str(node.state), str(node.mountpoint)]) == 1
    assert f"{node.state}/config.toml, line 2: there is no key 'prot'" in capsys.readouterr().err


def test_the_command_line_of_mount_8_is_understood(node: Node) -> None:
    options = f'rw,_netdev,nofail,x-systemd.requires=b,noatime,peer=a:1,state="{node.state}"'
    arguments = ["source", str(node.mountpoint), "-sfnv", "-o", options, "-t", "libernet"]
    assert main(arguments) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) and a mount namespace need root")
def test_mount_8_and_umount_8_use_the_helpers(node: Node, tmp_path: Path) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    _script(helpers / "mount.libernet", f'exec {sys.executable} {_STAND_IN} "$@"')
    unmount = f'exec {sys.executable} -m libernet.fs.unmount_command "$@"'
    _script(helpers / "umount.fuse.libernet", unmount)
    # An overlay's upper folder must lie outside an overlay, hence the tmpfs.
    script = f"""
        set -e
        mkdir layers && mount -t tmpfs layers layers
        mkdir layers/upper layers/work && cp helpers/* layers/upper
        mount -t overlay -o lowerdir=/usr/sbin,upperdir=layers/upper,workdir=layers/work \\
            overlay /usr/sbin
        mount -t libernet photos '{node.mountpoint}' -o noatime,nofail,state={node.state}
        grep -c 'photos.*fuse.libernet' /proc/self/mounts
        umount '{node.mountpoint}'
        flock -n {node.state}/lock echo released
    """
    outcome = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "STAND_IN": "mount", "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert (outcome.stderr, outcome.stdout) == ("", "1\nreleased\n")


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _until_mounted(node: Node) -> None:
    _until(lambda: (found := holder(node.state)) is not None and found.phase is Phase.MOUNTED)


def _until_unmounted(node: Node) -> None:
    _until(lambda: mount_at(node.mountpoint) is None)
