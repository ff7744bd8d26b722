"""Two processes at once on the same files of a backup."""

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.node import SECONDS, Node


@pytest.fixture
def backup(shared_node: Node, request: pytest.FixtureRequest) -> Path:
    """An empty backup named after the test."""
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    folder = shared_node.backups / re.sub(r"\W+", " ", request.node.name.removeprefix("test_"))
    folder.mkdir()
    return folder


def _together(code: str, folder: Path, *names: str) -> list[str]:
    """Run *code* in a process for each name, all at once; return what each printed.

    sys.argv[1] is its name. The working folder is *folder*.
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", f"if True:\n{code}", name],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    outs = [child.communicate(timeout=SECONDS)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(names)
    return outs


@pytest.mark.parametrize("lock", ["flock", "lockf"])
def test_who_has_the_lock_counts_alone(backup: Path, lock: str) -> None:
    (backup / "count").write_text("0")
    code = f"""
    import fcntl, os
    for _ in range(300):
        with open("count", "r+") as file:
            fcntl.{lock}(file, fcntl.LOCK_EX)
            count = int(file.read())
            file.seek(0)
            file.write(str(count + 1))
            file.flush()
            fcntl.{lock}(file, fcntl.LOCK_UN)
    """
    _together(code, backup, "a", "b", "c")
    assert (backup / "count").read_text() == "900"


def test_locks_of_ranges_keep_others_out_of_these_alone(backup: Path) -> None:
    (backup / "file").write_bytes(bytes(100))
    code = """
    import fcntl, sys
    with open("file", "r+b") as file:
        for start in (0, 50):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, start)
            except OSError as exc:
                print("taken", start)
            else:
                print("free", start)
    """
    import fcntl

    with (backup / "file").open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 50, 50)
        assert _together(code, backup, "a") == ["free 0\ntaken 50\n"]
    assert _together(code, backup, "a") == ["free 0\nfree 50\n"]


@pytest.mark.parametrize(
    "take",
    [
        "os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))",
        "os.mkdir(name)",
        "os.symlink('x', name)",
        "os.link('source', name)",
        "os.mkfifo(name)",
    ],
    ids=["create", "mkdir", "symlink", "link", "mkfifo"],
)
def test_a_name_is_made_by_one_of_them(backup: Path, take: str) -> None:
    (backup / "source").touch()
    code = f"""
    import os
    for number in range(200):
        name = f"name {{number}}"
        try:
            {take}
        except FileExistsError:
            continue
        print(number)
    """
    outs = _together(code, backup, "a", "b", "c")
    won = [int(number) for out in outs for number in out.split()]
    assert sorted(won) == list(range(200))
    assert len(os.listdir(backup)) == 201


def test_a_file_that_is_replaced_is_always_there_and_always_whole(backup: Path) -> None:
    (backup / "letter").write_text("start " * 10_000)
    writer = """
    import os, sys
    for number in range(150):
        with open(f"draft {sys.argv[1]}", "w") as draft:
            draft.write(f"{sys.argv[1]}{number:04} " * 10_000)
        os.rename(f"draft {sys.argv[1]}", "letter")
    open(f"done {sys.argv[1]}", "x").close()
    """
    reader = """
    import os
    seen = 0
    while not (os.path.exists("done a") and os.path.exists("done b")):
        with open("letter") as file:
            words = file.read().split(" ")
        assert len(words) == 10_001 and set(words[:-1]) == {words[0]}, set(words)
        seen += 1
    print(seen)
    """
    both = f"""
    import sys
    exec({{"a": {_dedented(writer)!r}, "b": {_dedented(writer)!r}}}.get(
        sys.argv[1], {_dedented(reader)!r}))
    """
    outs = _together(both, backup, "a", "b", "reader")
    assert int(outs[2]) > 0
    assert (backup / "letter").read_text().split()[0] in {"a0149", "b0149"}


def test_letters_are_moved_by_one_of_them_each(backup: Path) -> None:
    """A mail folder: who renames a letter has it, and no letter is lost or delivered twice."""
    for name in ("new", "a", "b"):
        (backup / name).mkdir()
    for number in range(500):
        (backup / "new" / str(number)).write_text(str(number))
    code = """
    import os, sys
    while names := os.listdir("new"):
        for name in names:
            try:
                os.rename(f"new/{name}", f"{sys.argv[1]}/{name}")
            except FileNotFoundError:
                pass
    """
    _together(code, backup, "a", "b")
    found = collections.Counter(
        path.read_text() for name in ("a", "b") for path in (backup / name).iterdir()
    )
    assert found == {str(number): 1 for number in range(500)}
    assert os.listdir(backup / "new") == []


def test_folders_are_made_and_removed_under_each_others_hands(backup: Path) -> None:
    code = """
    import os, random, sys
    play = random.Random(sys.argv[1])
    for number in range(600):
        top = f"folder {play.randrange(4)}"
        try:
            match play.randrange(4):
                case 0:
                    os.makedirs(f"{top}/inner", exist_ok=True)
                case 1:
                    with open(f"{top}/{sys.argv[1]}", "a") as file:
                        file.write(f"{number}\\n")
                case 2:
                    os.rename(top, f"folder {play.randrange(4)}")
                case _:
                    os.rmdir(f"{top}/inner")
                    os.rmdir(top)
        except (FileNotFoundError, FileExistsError):
            pass
        except OSError as exc:
            assert exc.errno in {39, 22}, exc  # not empty; into itself
    """
    _together(code, backup, "a", "b", "c")
    for path in backup.rglob("*"):
        assert path.is_dir() == (path.name not in "abc")
    count = sum(1 for path in backup.iterdir() if path.is_dir())
    assert backup.stat().st_nlink == 2 + count


def test_one_writes_at_the_end_while_another_reads_on(backup: Path) -> None:
    (backup / "log").touch()
    code = """
    import os, sys
    if sys.argv[1] == "writer":
        with open("log", "ab", buffering=0) as log:
            for number in range(4000):
                log.write(b"%08d\\n" % number)
    else:
        found = b""
        with open("log", "rb", buffering=0) as log:
            while len(found) < 36_000:
                found += log.read(1000)
        assert found == b"".join(b"%08d\\n" % number for number in range(4000))
    """
    _together(code, backup, "writer", "reader", "another reader")


def test_a_map_is_shared_by_two_processes(backup: Path) -> None:
    (backup / "file").write_bytes(bytes(8192))
    code = """
    import mmap, sys, time
    mine, other = {"a": (0, 4096), "b": (4096, 0)}[sys.argv[1]]
    with open("file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        for turn in range(1, 200):
            mapped[mine] = turn
            while mapped[other] < turn - 1:
                time.sleep(0)
    """
    _together(code, backup, "a", "b")
    content = (backup / "file").read_bytes()
    assert (content[0], content[4096]) == (199, 199)


def _dedented(code: str) -> str:
    return re.sub(r"^    ", "", code, flags=re.MULTILINE)
