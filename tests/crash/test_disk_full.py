"""The disk under the state folder is full: the writer hears of it, and nothing else happens."""

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.crash.disk import Disk, mounted_disk, node_on
from tests.crash.witness import kill
from tests.support.node import BIN, SECONDS, Node, Outcome, until

MIB = 1024 * 1024
DISK_BYTES = 96 * MIB
NO_ROOM_BYTES = 64 * 1024

ANNOUNCED = re.compile("(sealing|checkpoint|publishing) .* failed.*[Nn]o space")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Disk]:
    with mounted_disk(tmp_path, DISK_BYTES) as made:
        yield made


@pytest.fixture
def full_node(ext4: Disk, tmp_path: Path) -> Iterator[Node]:
    """A mounted node with a backup, on the small disk."""
    with node_on(ext4, tmp_path / "node") as node:
        node.mount()
        (node.backups / "b").mkdir()
        yield node
        assert [each for each in node.complaints() if not ANNOUNCED.search(each)] == []


def write(path: Path, content: bytes) -> None:
    """Write *content* as a new file, durably."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_until_refused(folder: Path, *, piece_bytes: int) -> dict[Path, bytes]:
    """Write durable files until there is no room; return those that are whole."""
    written: dict[Path, bytes] = {}
    while len(written) * piece_bytes < 2 * DISK_BYTES:
        path, content = folder / str(len(written)), os.urandom(piece_bytes)
        try:
            write(path, content)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            return written
        written[path] = content
    pytest.fail("the disk takes more than it has")


def room(node: Node) -> int:
    """Return the bytes that statvfs says a writer can have."""
    found = os.statvfs(node.backups)
    assert found.f_bavail <= found.f_bfree <= found.f_blocks
    return found.f_bavail * found.f_frsize


def assert_there(written: dict[Path, bytes]) -> None:
    """Check what the files hold, read from the node and not from the kernel's memory."""
    for path, content in written.items():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == content, path


@pytest.mark.parametrize("piece_bytes", [20_000, 700_000, 5 * MIB])
def test_a_full_disk_refuses_the_writer_and_keeps_what_is_there(
    full_node: Node, ext4: Disk, piece_bytes: int
) -> None:
    ballast = ext4.fill("ballast", leave_bytes=30 * MIB)
    folder = full_node.backups / "b"

    written = write_until_refused(folder, piece_bytes=piece_bytes)

    assert written
    assert_there(written)
    ballast.unlink()
    write(folder / "again", b"there is room")
    written[folder / "again"] = b"there is room"
    full_node.remount()
    assert_there(written)


_GROWTH: dict[str, Callable[[Path, str], None]] = {
    "link": lambda folder, name: os.link(folder / "file", folder / name),
    "mkdir": lambda folder, name: os.mkdir(folder / name),
    "symlink": lambda folder, name: os.symlink("nowhere", folder / name),
    "mknod": lambda folder, name: os.mkfifo(folder / name),
    "setxattr": lambda folder, name: os.setxattr(folder / "file", f"user.{name}", b"v" * 100),
}


def _grow_until_refused(kind: str, folder: Path) -> int:
    """Return how often it was done before there was no room."""
    for number in range(20_000):
        try:
            _GROWTH[kind](folder, str(number))
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            return number
    pytest.fail("the disk takes more than it has")


@pytest.mark.parametrize("kind", _GROWTH)
def test_a_full_disk_refuses_names_and_attributes_too(
    full_node: Node, ext4: Disk, kind: str
) -> None:
    folder = full_node.backups / "b"
    write(folder / "file", b"content")
    ballast = ext4.fill("ballast", leave_bytes=NO_ROOM_BYTES)
    done = _grow_until_refused(kind, folder)
    ballast.unlink()
    full_node.libernet("sync")
    _GROWTH[kind](folder, "again")
    full_node.remount()
    found = os.listxattr(folder / "file") if kind == "setxattr" else os.listdir(folder)
    assert len(found) == done + (1 if kind == "setxattr" else 2)


def test_the_room_shown_is_the_room_there_is(full_node: Node, ext4: Disk) -> None:
    ext4.fill("ballast", leave_bytes=50 * MIB)
    shown = room(full_node)
    assert 30 * MIB < shown < 50 * MIB
    written = write_until_refused(full_node.backups / "b", piece_bytes=MIB)
    full_node.libernet("sync")
    assert shown * 3 / 4 < len(written) * MIB <= shown
    assert room(full_node) < 2 * MIB


def test_an_fsync_that_finds_no_room_fails_and_a_later_one_succeeds(
    full_node: Node, ext4: Disk
) -> None:
    folder = full_node.backups / "b"
    before, content = os.urandom(300_000), os.urandom(8 * MIB)
    write(folder / "before", before)
    with (folder / "file").open("wb", buffering=0) as file:
        file.write(content)
        ballast = ext4.fill("ballast", leave_bytes=NO_ROOM_BYTES)

        with pytest.raises(OSError, match="No space left") as refused:
            os.fsync(file.fileno())

        assert refused.value.errno == errno.ENOSPC
        assert (folder / "file").read_bytes() == content
        assert (folder / "before").read_bytes() == before
        with pytest.raises(OSError, match="No space left"):
            (folder / "another").write_bytes(b"x" * 100_000)
        ballast.unlink()
        until(lambda: not full_node.status()["not_durable"]["changes"])
        os.fsync(file.fileno())
    kill(full_node)
    full_node.mount()
    assert_there({folder / "file": content, folder / "before": before})


def test_on_a_full_disk_files_can_be_removed_and_renamed(full_node: Node, ext4: Disk) -> None:
    folder = full_node.backups / "b"
    written = write_until_refused(folder, piece_bytes=5 * MIB)
    gone, moved = folder / "0", folder / "1"

    gone.unlink()
    moved.rename(folder / "moved")

    full_node.libernet("sync")
    del written[gone]
    written[folder / "moved"] = written.pop(moved)
    kill(full_node)
    full_node.mount()
    assert sorted(path for path in folder.iterdir() if path in written) == sorted(written)
    assert_there(written)


def test_a_node_that_was_killed_starts_on_a_disk_without_a_byte_left_and_makes_room(
    full_node: Node, ext4: Disk
) -> None:
    folder = full_node.backups / "b"
    content = os.urandom(5 * MIB)
    for name in ("kept", "gone"):
        write(folder / name, content)
    full_node.snapshot("b")
    full_node.kill()
    with (ext4.mountpoint / "filled").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert ext4.free_bytes() < 4096

    assert full_node.try_mount() == Outcome(0, "", "")

    assert_there({folder / "kept": content})
    (folder / "gone").unlink()
    full_node.libernet("sync")
    full_node.libernet("forget", "b/latest", "--prune")
    assert ext4.free_bytes() > 4 * MIB
    full_node.remount()
    assert_there({folder / "kept": content})


def test_an_unmount_with_no_room_waits_for_it_and_loses_nothing(
    full_node: Node, ext4: Disk
) -> None:
    folder = full_node.backups / "b"
    content = os.urandom(3 * MIB)
    write(folder / "before", content)
    with (folder / "file").open("wb", buffering=0) as file:
        file.write(content)
    ballast = ext4.fill("ballast", leave_bytes=NO_ROOM_BYTES)
    pid = full_node.pid

    full_node.run("umount", "-i", full_node.mountpoint)

    until(lambda: bool(full_node.complaints()))
    ballast.unlink()
    full_node.until_ended(pid)
    full_node.mount()
    assert_there({folder / "before": content, folder / "file": content})


def test_an_unmount_says_so_when_its_process_died_before_there_was_room(
    full_node: Node, ext4: Disk
) -> None:
    (full_node.backups / "b" / "file").write_bytes(os.urandom(3 * MIB))
    ext4.fill("ballast", leave_bytes=NO_ROOM_BYTES)
    with subprocess.Popen(
        [BIN / "libernet", "--state", full_node.state, "unmount"], stderr=subprocess.PIPE, text=True
    ) as unmounting:
        until(lambda: mount_at(full_node.mountpoint) is None)
        kill(full_node)
        _, said = unmounting.communicate(timeout=SECONDS)
    assert unmounting.returncode == 1
    assert "died before everything was durable" in said


def test_after_a_snapshot_that_found_no_room_writing_goes_on_once_there_is_some(
    full_node: Node, ext4: Disk
) -> None:
    folder = full_node.backups / "b"
    content = os.urandom(3 * MIB)
    write(folder / "file", content)
    ballast = ext4.fill("ballast", leave_bytes=NO_ROOM_BYTES)

    refused = full_node.try_libernet("snapshot", "b")

    assert refused.exit_code == 1
    assert "no space is left" in refused.err
    ballast.unlink()
    write(folder / "again", content)
    reference = full_node.snapshot("b")
    full_node.remount()
    assert_there({full_node.at(reference) / name: content for name in ("file", "again")})
