"""What people and their programs do in a backup, on one mount that all tests here share."""

import errno
import fcntl
import mmap
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.node import SECONDS, Node
from tests.support.tree import assert_same, picture

_STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture
def backup(shared_node: Node, request: pytest.FixtureRequest) -> Path:
    """An empty backup named after the test."""
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount("--publish-after-seconds", "1")
    folder = shared_node.backups / re.sub(r"\W+", " ", request.node.name.removeprefix("test_"))
    folder.mkdir()
    return folder


def _script(code: str, *arguments: str | Path) -> "subprocess.Popen[bytes]":
    """Start another process that runs *code*, with *arguments* in sys.argv[1:]."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments])


def test_git_works_in_a_backup(backup: Path, shared_node: Node) -> None:
    def git(*arguments: str | Path) -> str:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        return shared_node.run("git", *identity, *arguments, cwd=backup)

    git("init", "-q", "-b", "main", "origin")
    shutil.copytree(_STDLIB / "json", backup / "origin" / "json")
    git("-C", "origin", "add", ".")
    git("-C", "origin", "commit", "-q", "-m", "first")
    (backup / "origin" / "json" / "tool.py").write_text("changed\n")
    git("-C", "origin", "commit", "-q", "-a", "-m", "second")
    git("clone", "-q", "origin", "clone")
    git("-C", "clone", "gc", "-q")
    git("-C", "clone", "fsck", "--full", "--strict")
    assert git("-C", "clone", "log", "--format=%s") == "second\nfirst\n"
    assert git("-C", "clone", "status", "--porcelain") == ""
    git("-C", "clone", "checkout", "-q", "HEAD~1")
    assert (backup / "clone" / "json" / "tool.py").read_text() != "changed\n"


def test_tar_puts_a_tree_in_and_takes_it_out(
    backup: Path, shared_node: Node, tmp_path: Path
) -> None:
    archive = backup / "archive.tar"
    shared_node.run("tar", "-cf", archive, "-C", _STDLIB, "email", "json", "asyncio")
    for place in (backup / "here", tmp_path / "there"):
        place.mkdir()
        shared_node.run("tar", "-xpf", archive, "-C", place)
    expected, found = (picture(place, top=False) for place in (tmp_path / "there", backup / "here"))
    assert_same(expected, found)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_a_second_rsync_finds_nothing_to_do(backup: Path, shared_node: Node) -> None:
    command = ("rsync", "-aHi", "--delete", f"{_STDLIB}/email/", f"{backup}/email/")
    assert shared_node.run(*command) != ""
    assert shared_node.run(*command) == ""
    assert shared_node.run(*command, "--checksum") == ""
    (backup / "email" / "more").touch()
    assert shared_node.run(*command).split() == ["*deleting", "more", ".d..t......", "./"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_lives_in_a_backup(backup: Path, journal: str) -> None:
    path = backup / "bank.sqlite"
    with sqlite3.connect(path, isolation_level=None) as first, sqlite3.connect(path) as second:
        assert first.execute(f"PRAGMA journal_mode = {journal}").fetchone() == (journal,)
        first.execute("CREATE TABLE account (name TEXT PRIMARY KEY, coins INTEGER)")
        for turn in range(20):
            first.execute("BEGIN IMMEDIATE")
            rows = ((f"{turn} {number}", number) for number in range(100))
            first.executemany("INSERT INTO account VALUES (?, ?)", rows)
            first.execute("COMMIT" if turn % 5 else "ROLLBACK")
            assert second.execute("SELECT count(*) FROM account").fetchone()[0] % 100 == 0
        first.execute("VACUUM")
        assert second.execute("SELECT count(*) FROM account").fetchone() == (1600,)
        assert second.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    first.close()
    second.close()


def test_an_editor_saves_by_renaming_a_new_file_over_the_old_one(backup: Path) -> None:
    letter = backup / "letter"
    letter.write_text("first")
    letter.chmod(0o640)
    with letter.open() as reader:
        for version in ("second", "third"):
            with (backup / ".letter.new").open("w") as draft:
                draft.write(version)
                draft.flush()
                os.fchmod(draft.fileno(), letter.stat().st_mode)
                os.fsync(draft.fileno())
            (backup / ".letter.new").rename(letter)
            assert letter.read_text() == version
        assert reader.read() == "first"
    assert letter.stat().st_mode & 0o777 == 0o640
    assert os.listdir(backup) == ["letter"]


def test_an_editor_saves_by_moving_the_old_file_away(backup: Path) -> None:
    letter, old = backup / "letter", backup / "letter~"
    letter.write_text("first")
    letter.rename(old)
    with letter.open("x") as draft:
        draft.write("second")
    assert (letter.read_text(), old.read_text()) == ("second", "first")
    old.unlink()
    assert os.listdir(backup) == ["letter"]


def test_files_grow_shrink_and_are_made_anew(backup: Path) -> None:
    path = backup / "file"
    bits = random.Random(3).randbytes(3_000_000)
    path.write_bytes(bits)
    with path.open("ab") as file:
        file.write(b"more")
    assert path.read_bytes() == bits + b"more"
    os.truncate(path, 1_500_000)
    assert path.read_bytes() == bits[:1_500_000]
    os.truncate(path, 1_500_010)
    assert path.read_bytes() == bits[:1_500_000] + bytes(10)
    with path.open("r+b") as file:
        file.seek(700_000)
        file.write(b"in the middle")
        file.seek(2_000_000)
        file.write(b"behind a hole")
    expected = bytearray(bits[:1_500_000] + bytes(500_000) + b"behind a hole")
    expected[700_000:700_013] = b"in the middle"
    assert path.read_bytes() == expected
    path.write_bytes(b"anew")
    assert path.read_bytes() == b"anew"
    assert path.stat().st_size == 4
    with pytest.raises(FileExistsError):
        path.open("x")


def test_opening_with_o_trunc_empties_the_file_for_those_who_have_it_open(backup: Path) -> None:
    path = backup / "file"
    path.write_bytes(b"x" * 100_000)
    with path.open("rb", buffering=0) as reader:
        assert reader.read(10) == b"x" * 10
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        assert reader.read(10) == b""
        path.write_bytes(b"y" * 20)
        assert reader.read(100) == b"y" * 10


def test_a_mapped_file_is_read_and_written(backup: Path) -> None:
    path = backup / "file"
    path.write_bytes(bytes(2_000_000))
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as shared:
            shared[1_000_000:1_000_005] = b"hello"
            shared[-1] = 7
            shared.flush()
            assert os.pread(file.fileno(), 5, 1_000_000) == b"hello"
            os.pwrite(file.fileno(), b"J", 1_000_000)
            assert shared[1_000_000:1_000_005] == b"Jello"
        os.fsync(file.fileno())
    with path.open("rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped.find(b"Jello") == 1_000_000
        assert mapped[-1] == 7


def test_an_unlinked_file_lives_as_long_as_it_is_open(backup: Path, shared_node: Node) -> None:
    path = backup / "file"
    bits = random.Random(4).randbytes(2_000_000)
    with path.open("w+b") as file:
        file.write(bits)
        file.flush()
        path.unlink()
        assert not path.exists()
        file.write(b"more")
        file.flush()
        shared_node.libernet("sync")
        assert os.fstat(file.fileno()).st_nlink == 0
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        assert file.read() == bits + b"more"
        path.write_text("another of its name")
    assert path.read_text() == "another of its name"


def test_what_two_processes_append_is_all_there(backup: Path) -> None:
    path = backup / "log"
    code = """if True:
        import os, sys
        file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for number in range(500):
            os.write(file, f"{sys.argv[2]} {number:03} {'.' * (number % 90)}\\n".encode())
    """
    writers = [_script(code, path, name) for name in ("a", "b")]
    assert [writer.wait(SECONDS) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    for name in ("a", "b"):
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [f"{name} {number:03} {'.' * (number % 90)}" for number in range(500)]
    assert len(lines) == 1000


def test_two_processes_write_their_parts_of_one_file(backup: Path) -> None:
    path = backup / "file"
    code = """if True:
        import os, sys
        file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
        part = int(sys.argv[2])
        for number in range(part, 400, 2):
            os.pwrite(file, bytes([number % 251]) * 10_000, number * 10_000)
    """
    writers = [_script(code, path, part) for part in ("0", "1")]
    assert [writer.wait(SECONDS) for writer in writers] == [0, 0]
    assert path.read_bytes() == b"".join(bytes([n % 251]) * 10_000 for n in range(400))


def test_a_lock_keeps_another_process_out(backup: Path) -> None:
    path = backup / "lock"
    path.touch()
    code = """if True:
        import fcntl, sys
        with open(sys.argv[1], "r+") as file:
            getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    """
    for kind in ("flock", "lockf"):
        with path.open("r+") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            assert _script(f"import sys; sys.stderr = None\n{code}", path, kind).wait(SECONDS) == 1
        assert _script(code, path, kind).wait(SECONDS) == 0


def test_a_listing_survives_what_is_removed_and_made_meanwhile(backup: Path) -> None:
    wide = backup / "wide"
    wide.mkdir()
    names = {f"file {number:04}" for number in range(5000)}
    for name in names:
        (wide / name).touch()
    seen = []
    removed = {f"file {number:04}" for number in range(0, 5000, 3)}
    with os.scandir(wide) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count == 1000:
                for name in removed:
                    (wide / name).unlink()
                for number in range(100):
                    (wide / f"new {number}").touch()
    old = [name for name in seen if name in names]
    assert len(old) == len(set(old))
    assert names - removed <= set(old)
    assert len(os.listdir(wide)) == len(names - removed) + 100


def test_rm_removes_a_wide_and_a_deep_folder(backup: Path, shared_node: Node) -> None:
    for number in range(2000):
        (backup / "tree" / str(number % 20) / "deeper").mkdir(parents=True, exist_ok=True)
        (backup / "tree" / str(number % 20) / "deeper" / str(number)).touch()
    lister = _script(
        "import os, sys\nwhile True: [None for _ in os.walk(sys.argv[1])]", backup / "tree"
    )
    try:
        shared_node.run("rm", "-r", backup / "tree")
    finally:
        lister.kill()
        lister.wait(SECONDS)
    assert os.listdir(backup) == []


def test_what_no_file_system_allows_is_refused(backup: Path) -> None:
    folder, file = backup / "folder", backup / "file"
    (folder / "inner").mkdir(parents=True)
    file.touch()
    refused: list[tuple[int, Callable[[], object]]] = [
        (errno.ENOTEMPTY, folder.rmdir),
        (errno.ENOTDIR, file.rmdir),
        (errno.EISDIR, folder.unlink),
        (errno.EISDIR, partial(folder.write_text, "")),
        (errno.ENOTDIR, (file / "below").touch),
        (errno.EEXIST, folder.mkdir),
        (errno.ENAMETOOLONG, (backup / ("n" * 256)).touch),
        (errno.EINVAL, partial(folder.rename, folder / "inner" / "x")),
        (errno.ENOTDIR, partial(folder.rename, file)),
        (errno.EISDIR, partial(file.rename, folder)),
        (errno.ENOENT, partial((backup / "nothing").rename, backup / "something")),
        (errno.EPERM, (backup.parent / "a file").touch),
        (errno.EPERM, partial((backup.parent / "a link").symlink_to, "x")),
        (errno.EXDEV, partial(_link_into_another_backup, backup)),
    ]
    for number, act in refused:
        with pytest.raises(OSError) as caught:
            act()
        assert caught.value.errno == number, caught.value


def _link_into_another_backup(backup: Path) -> None:
    other = backup.parent / "another backup"
    other.mkdir()
    (other / "link").hardlink_to(backup / "file")


def test_files_move_between_backups_and_backups_are_renamed(backup: Path) -> None:
    other = backup.parent / "moved to"
    other.mkdir()
    (backup / "file").write_text("moves")
    (backup / "folder" / "inner").mkdir(parents=True)
    (backup / "file").rename(other / "file")
    (backup / "folder").rename(other / "folder")
    other.rename(backup.parent / "renamed")
    assert sorted(os.listdir(backup.parent / "renamed")) == ["file", "folder"]
    assert os.listdir(backup) == []


def test_times_are_kept_to_the_nanosecond_and_within_what_can_be_stored(
    backup: Path, shared_node: Node
) -> None:
    path = backup / "file"
    path.touch()
    for wanted_ns in (0, 1, -1, -(10**18) + 1, 2**63 - 1, -(2**63)):
        os.utime(path, ns=(5, wanted_ns))
        assert path.stat().st_mtime_ns == wanted_ns
    os.utime(path, ns=(0, 13_569_465_600 * 10**9))  # the year 2400
    assert path.stat().st_mtime_ns == 2**63 - 1
    shared_node.libernet("sync")


def test_programs_are_told_to_write_a_mebibyte_at_a_time(backup: Path) -> None:
    (backup / "file").write_bytes(b"x")
    assert (backup / "file").stat().st_blksize == 1024 * 1024


def test_the_disk_shown_is_the_one_that_the_state_is_on(shared_node: Node, backup: Path) -> None:
    shown, real = os.statvfs(backup), os.statvfs(shared_node.state)
    assert (shown.f_blocks * shown.f_frsize, shown.f_namemax) == (
        real.f_blocks * real.f_frsize,
        255,
    )
    assert shown.f_bavail
    shared_node.run("df", "-h", backup)


def test_a_file_that_stays_open_is_in_each_snapshot_as_far_as_it_got(
    backup: Path, shared_node: Node
) -> None:
    with (backup / "log").open("w") as log:
        shown = []
        for number in range(3):
            print("line", number, file=log, flush=True)
            shown.append(shared_node.at(shared_node.snapshot(backup.name)) / "log")
        assert [path.read_text() for path in shown] == [
            "line 0\n",
            "line 0\nline 1\n",
            "line 0\nline 1\nline 2\n",
        ]


def test_an_older_snapshot_keeps_what_was_changed_since(backup: Path, shared_node: Node) -> None:
    (backup / "inner").mkdir()
    (backup / "inner" / "changed").write_text("before")
    (backup / "inner" / "removed").write_text("gone")
    before = picture(backup, top=False)
    first = shared_node.at(shared_node.snapshot(backup.name))
    (backup / "inner" / "changed").write_text("after")
    (backup / "inner" / "removed").unlink()
    (backup / "inner").rename(backup / "outer")
    after = picture(backup, top=False)
    second = shared_node.at(shared_node.snapshot(backup.name))
    assert_same(before, picture(first, top=False))
    assert_same(after, picture(second, top=False))
    assert_same(after, picture(shared_node.snapshots / backup.name / "latest", top=False))


def test_all_that_was_left_here_is_there_after_a_remount(shared_node: Node, backup: Path) -> None:
    (backup / "file").write_text("the last one")
    expected = picture(shared_node.backups)
    shared_node.remount()
    assert_same(expected, picture(shared_node.backups))
    for database in shared_node.backups.glob("*/*.sqlite"):
        with sqlite3.connect(database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM account").fetchone() == (1600,)
        connection.close()
    for name in os.listdir(shared_node.backups):
        latest = shared_node.snapshots / name / "latest"
        expected = picture(shared_node.backups / name, links=False, top=False)
        assert_same(expected, picture(latest, links=False, top=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda backup, name: name.write_text("made"),
        lambda backup, name: name.mkdir(),
        lambda backup, name: name.symlink_to("nowhere"),
        lambda backup, name: os.mkfifo(name),
        lambda backup, name: (backup / "old").rename(name),
        lambda backup, name: name.hardlink_to(backup / "old"),
    ],
    ids=["written", "folder", "symbolic link", "fifo", "renamed", "hard link"],
)
def test_a_name_that_was_looked_for_in_vain_is_there_once_it_is_made(
    backup: Path, make: Callable[[Path, Path], object]
) -> None:
    (backup / "old").touch()
    name = backup / "name"
    for _ in range(3):
        assert not os.path.lexists(name)
        make(backup, name)
        assert os.path.lexists(name)
        assert "name" in os.listdir(backup)
        if name.is_dir():
            name.rmdir()
        else:
            name.unlink()
        (backup / "old").touch()
