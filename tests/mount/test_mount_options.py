"""What mount.libernet can be told, seen on the mount itself; and what it refuses."""

import errno
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.node import BIN, SECONDS, Node, Outcome

_NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_when_the_command_is_back_the_mount_answers(node: Node) -> None:
    node.mount()
    names = ["backups", "bundles", "sha256", "sha384", "snapshots"]
    assert sorted(os.listdir(node.mountpoint)) == names
    assert node.status()["pid"] == node.pid
    mount = mount_at(node.mountpoint)
    assert mount is not None
    assert (mount.type, mount.source) == ("fuse.libernet", "libernet")


def test_the_state_folder_is_for_its_owner_alone(node: Node) -> None:
    node.mount()
    assert stat.S_IMODE(node.state.stat().st_mode) == 0o700
    for name in ("secret", "control.sock", "journal.sqlite", "libernet.log"):
        assert stat.S_IMODE((node.state / name).stat().st_mode) & 0o077 == 0, name


@pytest.mark.parametrize("options", [("-o", "ro"), ("--read-only",)])
def test_a_read_only_mount_shows_everything_and_refuses_changes(
    node: Node, options: tuple[str, ...]
) -> None:
    node.mount()
    (node.backups / "a").mkdir()
    (node.backups / "a" / "file").write_text("kept")
    node.remount(*options)
    assert (node.backups / "a" / "file").read_text() == "kept"
    with pytest.raises(OSError) as caught:
        (node.backups / "a" / "file").write_text("changed")
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError) as caught:
        (node.backups / "b").mkdir()
    assert caught.value.errno == errno.EROFS


@_NEEDS_ROOT
def test_the_owner_shown_can_be_chosen_at_each_mount(node: Node) -> None:
    node.mount("--uid", "12345", "--gid", "54321")
    for path in (node.mountpoint, node.backups, node.snapshots, node.mountpoint / "sha256"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321), path
    node.remount("-o", "uid=nobody,gid=54322")
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (node.mountpoint, node.backups, node.snapshots, node.mountpoint / "sha256"):
        assert (path.stat().st_uid, path.stat().st_gid) == (nobody, 54322), path


@_NEEDS_ROOT
def test_mounted_by_root_for_somebody_they_can_use_it_and_others_cannot(node: Node) -> None:
    for folder in (node.folder, *node.folder.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    node.mount("-o", "allow_other,uid=12345,gid=12345")

    def as_user(number: int, line: str) -> int:
        return subprocess.run(
            ["sh", "-c", line],
            cwd=node.backups,
            user=number,
            group=number,
            extra_groups=[],
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        ).returncode

    assert as_user(12345, "umask 022 && mkdir a && echo mine > a/file && chmod 700 a") == 0
    assert (node.backups / "a" / "file").stat().st_uid == 12345
    assert as_user(12346, "ls .") == 0
    assert as_user(12346, "mkdir b") != 0
    assert as_user(12346, "cat a/file") != 0
    assert as_user(12345, "cat a/file") == 0


def test_the_configuration_file_counts_and_options_win(node: Node) -> None:
    node.state.mkdir(mode=0o700)
    config = node.state / "config.toml"
    config.write_text("read_only = true\npublish_after_seconds = 0.1\n")
    node.mount()
    assert os.statvfs(node.mountpoint).f_flag & os.ST_RDONLY
    node.remount("-o", "rw")
    assert not os.statvfs(node.mountpoint).f_flag & os.ST_RDONLY


def test_the_source_and_generic_options_of_mount_8_are_accepted(node: Node) -> None:
    options = f"rw,noatime,nosuid,nodev,_netdev,nofail,user,x-systemd.automount,state={node.state}"
    assert node.command(
        BIN / "mount.libernet", "my, photos", node.mountpoint, "-s", "-n", "-o", options
    ) == Outcome(0, "", "")
    mount = mount_at(node.mountpoint)
    assert mount is not None
    assert mount.source == "my, photos"
    assert node.pid
    flags = Path("/proc/self/mountinfo").read_text()
    [line] = [line for line in flags.splitlines() if f" {node.mountpoint} " in line]
    assert "nosuid,nodev" in line


def test_a_port_an_address_and_peers_are_accepted(node: Node) -> None:
    node.mount(
        *("--port", "0", "--bind", "127.0.0.1", "--no-lan"),
        *("--peer", "192.0.2.1:4848", "--peer", "[2001:db8::1]:4848", "-o", "peer=node.test:1"),
    )


@pytest.mark.parametrize(
    ("options", "exit_code", "sentence"),
    [
        (["-o", "colour"], 1, "there is no mount option 'colour'"),
        (["--colour"], 1, "unrecognized arguments: --colour"),
        pytest.param(
            ["--peer", "no port"],
            1,
            "peer address 'no port'",
            marks=pytest.mark.announces("no port"),
        ),
        (["--bind", "localhost"], 1, "option --bind: bind must be an IPv4 or IPv6 address"),
    ],
)
def test_a_usage_error_is_one_sentence(
    node: Node, options: list[str], exit_code: int, sentence: str
) -> None:
    _assert_refused(node.try_mount(*options), exit_code, sentence)
    assert mount_at(node.mountpoint) is None


def test_a_mount_point_that_is_missing_is_not_made(node: Node) -> None:
    node.mountpoint.rmdir()
    _assert_refused(node.try_mount(), 32, f"mkdir -p {node.mountpoint}")
    assert not node.mountpoint.exists()


def test_a_mount_point_with_something_in_it_is_not_hidden(node: Node) -> None:
    (node.mountpoint / "letter").touch()
    _assert_refused(node.try_mount(), 32, "is not empty")
    assert (node.mountpoint / "letter").exists()


def test_what_is_mounted_already_is_refused_with_how_to_unmount_it(node: Node) -> None:
    node.mount()
    _assert_refused(node.try_mount(), 32, f"is already mounted (pid {node.pid}). Unmount it with: ")
    assert node.backups.is_dir()


def test_a_state_folder_of_a_newer_version_is_refused_unchanged(node: Node) -> None:
    node.mount()
    (node.backups / "a").mkdir()
    node.unmount()
    (node.state / "version").write_text("2\n")
    _assert_refused(node.try_mount(), 32, "was written by a newer version of Libernet")
    (node.state / "version").write_text("1\n")
    node.mount()
    assert (node.backups / "a").is_dir()


@pytest.mark.parametrize(
    "path",
    [
        "sha256/not hex",
        f"sha256/{'A' * 64}",
        f"sha256/{'a' * 63}",
        f"sha256/{'a' * 65}",
        f"sha256/{'a' * 64}/rot13",
        f"sha256/{'a' * 64}/aes256gcm/{'b' * 63}",
        f"sha256/{'a' * 64}/aes256gcm/{'B' * 64}",
        "sha512",
        "snapshots/nothing",
    ],
)
def test_a_malformed_address_is_no_such_file(shared_node: Node, path: str) -> None:
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    with pytest.raises(FileNotFoundError):
        os.stat(shared_node.mountpoint / path)


def test_address_folders_answer_from_syntax_and_list_nothing(shared_node: Node) -> None:
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    folder = shared_node.mountpoint / "sha256"
    for name in ("a" * 64, "aes256gcm", "b" * 64):
        assert os.listdir(folder) == []
        folder /= name
        assert folder.is_dir()


@pytest.mark.parametrize("place", ["", "snapshots", "sha256", f"sha256/{'a' * 64}"])
def test_outside_of_backups_nothing_can_be_made(shared_node: Node, place: str) -> None:
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    with pytest.raises(OSError) as caught:
        (shared_node.mountpoint / place / "c").mkdir()
    # For others than root the kernel looks at the modes first.
    assert caught.value.errno == (errno.EROFS if os.geteuid() == 0 else errno.EACCES)


def _assert_refused(outcome: Outcome, exit_code: int, sentence: str) -> None:
    assert (outcome.exit_code, outcome.out) == (exit_code, ""), outcome
    assert sentence in outcome.err
    assert outcome.err.startswith("mount.libernet: ")
    assert outcome.err.count("\n") == 1
