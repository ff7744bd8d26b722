"""mount(8), umount(8) and fstab, with the helpers in their place, in a private mount namespace."""

import os
import subprocess

import pytest

from tests.support.node import BIN, SECONDS, Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) and namespaces need root")

# umount(8) asks for a helper by the full type, fuse.libernet, when it looks the mount up in its
# table, which it does not for a mount without options of its own: hence _netdev where it matters.
# An overlay's upper folder must lie outside an overlay, hence the tmpfs. The home that passwd
# knows is overlaid as well: a mount without state= keeps its state there.
_NAMESPACE = """
    set -eu
    home=$(getent passwd 0 | cut -d: -f6)
    mount -t tmpfs layers "$FOLDER/layers"
    cd "$FOLDER/layers" && mkdir sbin sbin.work home home.work
    ln -s "$BIN/mount.libernet" "$BIN/umount.fuse.libernet" sbin
    mount -t overlay -o lowerdir=/usr/sbin,upperdir=sbin,workdir=sbin.work overlay /usr/sbin
    mount -t overlay -o lowerdir="$home",upperdir=home,workdir=home.work overlay "$home"
    cd /
"""


def _in_namespace(node: Node, script: str) -> tuple[str, str]:
    """Run a shell script as at boot: no HOME, and the helpers in /sbin; return what it said."""
    (node.folder / "layers").mkdir()
    outcome = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _NAMESPACE + script],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "FOLDER": str(node.folder),
            "BIN": str(BIN),
            "STATE": str(node.state),
            "MNT": str(node.mountpoint),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return outcome.stdout, outcome.stderr


def test_mount_and_umount_with_a_state_folder(node: Node) -> None:
    said = _in_namespace(
        node,
        """
        mount -t libernet -o noatime,state="$STATE" libernet "$MNT"
        mkdir "$MNT/backups/a" && echo hello > "$MNT/backups/a/file"
        umount "$MNT"
        mount -t libernet -o ro,state="$STATE" libernet "$MNT"
        cat "$MNT/backups/a/file"
        umount "$MNT"
        """,
    )
    assert said == ("hello\n", "")


def test_umount_of_a_line_in_fstab_waits_until_everything_is_durable(node: Node) -> None:
    fstab = node.folder / "fstab"
    options = f"noauto,_netdev,publish_after_seconds=86400,state={node.state}"
    fstab.write_text(f"libernet {node.mountpoint} libernet {options} 0 0\n")
    said = _in_namespace(
        node,
        """
        mount -T "$FOLDER/fstab" "$MNT"
        mkdir "$MNT/backups/a" && head -c 30000000 /dev/urandom > "$MNT/backups/a/file"
        sum=$(sha256sum < "$MNT/backups/a/file")
        umount "$MNT"
        flock -n "$STATE/lock" echo ended
        mount -T "$FOLDER/fstab" "$MNT"
        test "$sum" = "$(sha256sum < "$MNT/backups/a/file")" && echo same
        umount "$MNT"
        """,
    )
    assert said == ("ended\nsame\n", "")


def test_without_a_home_the_state_is_kept_in_the_one_of_passwd(node: Node) -> None:
    said = _in_namespace(
        node,
        """
        mount -t libernet libernet "$MNT"
        mkdir "$MNT/backups/a"
        umount "$MNT"
        ls "$FOLDER/layers/home/.local/share/libernet" | grep -x secret
        """,
    )
    assert said == ("secret\n", "")


def test_what_is_wrong_is_said_through_mount_8(node: Node) -> None:
    out, err = _in_namespace(
        node,
        """
        mount -t libernet -o colour,state="$STATE" libernet "$MNT" || echo "exit code $?"
        mount -t libernet -o state="$STATE" libernet "$MNT/missing" || echo "exit code $?"
        """,
    )
    assert "exit code 1\n" in out
    assert "there is no mount option 'colour'" in err
    assert not (node.mountpoint / "missing").exists()


def test_an_unmount_by_root_of_a_busy_mount_is_refused(node: Node) -> None:
    out, err = _in_namespace(
        node,
        """
        mount -t libernet -o _netdev,state="$STATE" libernet "$MNT"
        cd "$MNT/backups"
        umount "$MNT" || echo "exit code $?"
        cd / && umount "$MNT"
        """,
    )
    assert out == "exit code 32\n"
    assert "is in use by sh (pid " in err
