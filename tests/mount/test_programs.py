"""Programs of this machine at work in a backup, on one mount that all tests here share."""

import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.machine_tree import make_odd_tree
from tests.support.node import Node
from tests.support.tree import assert_same, picture

_STDLIB = Path(sysconfig.get_path("stdlib"))


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def backup(shared_node: Node, request: pytest.FixtureRequest) -> Path:
    """An empty backup named after the test."""
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount()
    folder = shared_node.backups / re.sub(r"\W+", " ", request.node.name.removeprefix("test_"))
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is seldom in one: owners, modes, times, devices, holes."""
    root = tmp_path_factory.mktemp("tree") / "odd"
    make_odd_tree(root)
    return root


def _git(node: Node, folder: Path, *arguments: str | Path) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    return node.run("git", *identity, "-C", folder, *arguments)


def test_git_clones_in_and_out_and_sees_after_a_remount_that_nothing_changed(
    backup: Path, shared_node: Node, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(_STDLIB / "email", origin)
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        _git(shared_node, origin, *command)
    shared_node.run("git", "clone", "-q", "--no-local", origin, backup / "clone")
    shared_node.run("git", "clone", "-q", "--no-local", backup / "clone", tmp_path / "out")
    shared_node.remount()
    # Without a look at any content: times, owners, sizes and inode numbers must be as they were.
    assert _git(shared_node, backup / "clone", "diff-files", "--name-only") == ""
    for clone in (backup / "clone", tmp_path / "out"):
        _git(shared_node, clone, "fsck", "--full", "--strict")
        assert _git(shared_node, clone, "status", "--porcelain") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")
@_needs("rsync")
def test_rsync_takes_a_tree_in_and_out_and_has_nothing_to_do_the_second_time(
    backup: Path, shared_node: Node, odd_tree: Path, tmp_path: Path
) -> None:
    expected = picture(odd_tree)
    # Else two times in one second are the same to it.
    exactly = ("--numeric-ids", "--modify-window=-1")
    command = ("rsync", "-aHAX", *exactly, "--itemize-changes")
    for old, new in ((odd_tree, backup / "in"), (backup / "in", tmp_path / "out")):
        assert shared_node.run(*command, f"{old}/", f"{new}/") != ""
        assert shared_node.run(*command, f"{old}/", f"{new}/") == ""
        assert shared_node.run(*command, "--checksum", "--delete", f"{old}/", f"{new}/") == ""
        assert_same(expected, picture(new))


@pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")
def test_cp_tar_and_mv_take_a_tree_in_and_out(
    backup: Path, shared_node: Node, odd_tree: Path, tmp_path: Path
) -> None:
    expected = picture(odd_tree)
    shared_node.run("cp", "-a", odd_tree, backup / "copied")
    assert_same(expected, picture(backup / "copied"))
    shared_node.run("tar", "-cf", tmp_path / "odd.tar", "-C", backup / "copied", ".")
    shared_node.run("mv", backup / "copied", tmp_path / "moved")
    assert_same(expected, picture(tmp_path / "moved"))
    shared_node.run("mv", tmp_path / "moved", backup / "back")
    assert_same(expected, picture(backup / "back"))
    assert os.listdir(backup) == ["back"]
    (backup / "unpacked").mkdir()
    # Sockets are what tar leaves out.
    shared_node.run("tar", "-xpf", tmp_path / "odd.tar", "--same-owner", "-C", backup / "unpacked")
    found = picture(backup / "unpacked")
    unpacked = {path for path, look in expected.items() if look.type != "s"}
    assert found.keys() == unpacked
    assert all(found[path].content == expected[path].content for path in unpacked)


@pytest.mark.parametrize("sparse", ["always", "auto", "never"])
def test_cp_copies_files_with_holes(
    backup: Path, shared_node: Node, tmp_path: Path, sparse: str
) -> None:
    bits = random.Random(7)
    original = tmp_path / "original"
    with original.open("wb") as file:
        for offset in (0, 3_000_000, 9_000_001):
            file.seek(offset)
            file.write(bits.randbytes(100_000))
        file.truncate(20_000_000)
    copy = ("cp", f"--sparse={sparse}")
    shared_node.run(*copy, original, backup / "in")
    shared_node.run(*copy, backup / "in", backup / "inside")
    shared_node.run(*copy, backup / "inside", tmp_path / "out")
    for path in (backup / "in", backup / "inside", tmp_path / "out"):
        shared_node.run("cmp", original, path)


def test_a_package_is_built_installed_and_run(backup: Path, shared_node: Node) -> None:
    source = backup / "source"
    (source / "hello").mkdir(parents=True)
    (source / "hello" / "__init__.py").write_text("def greet(name):\n    return f'Hello {name}'\n")
    (source / "hello" / "__main__.py").write_text(
        "import sys\nfrom hello import greet\nprint(greet(sys.argv[1]))\n"
    )
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "hello"\nversion = "1.0"\n'
        "[tool.setuptools]\npackages = ['hello']\n"
    )
    (backup / "tmp").mkdir()
    pip = (sys.executable, "-m", "pip", "--quiet", "--no-cache-dir", "--no-input")
    offline = ("--no-index", "--no-deps")
    run = ("env", f"TMPDIR={backup / 'tmp'}")
    shared_node.run(
        *run, *pip, "wheel", "--no-build-isolation", *offline, "-w", backup / "wheels", source
    )
    [wheel] = (backup / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as opened:
        assert opened.testzip() is None
    shared_node.run(*run, *pip, "install", *offline, "--target", backup / "site", wheel)
    command = ("env", f"PYTHONPATH={backup / 'site'}", sys.executable, "-m", "hello", "Ada")
    assert shared_node.run(*command) == "Hello Ada\n"
    assert os.listdir(backup / "tmp") == []


@_needs("make")
@_needs("gcc")
def test_make_builds_once(backup: Path, shared_node: Node) -> None:
    (backup / "hello.h").write_text('#define HELLO "hello"\n')
    (backup / "hello.c").write_text(
        '#include <stdio.h>\n#include "hello.h"\nint main(void) { return puts(HELLO) < 0; }\n'
    )
    (backup / "Makefile").write_text(
        "hello: hello.o\n\tgcc -o hello hello.o\nhello.o: hello.c hello.h\n\tgcc -c hello.c\n"
    )
    shared_node.run("make", cwd=backup)
    assert shared_node.run(backup / "hello") == "hello\n"
    assert "up to date" in shared_node.run("make", cwd=backup)
    shared_node.remount()
    assert "up to date" in shared_node.run("make", cwd=backup)
    (backup / "hello.h").write_text('#define HELLO "good bye"\n')
    shared_node.run("make", cwd=backup)
    assert shared_node.run(backup / "hello") == "good bye\n"


@_needs("vim")
@pytest.mark.parametrize("how", ["yes", "no", "auto"])
def test_vim_saves_whatever_way_it_keeps_a_backup(
    backup: Path, shared_node: Node, how: str
) -> None:
    letter = backup / "letter"
    letter.write_text("first line\nsecond line\n")
    letter.chmod(0o640)
    letter.with_name("twin").hardlink_to(letter)
    shared_node.run(
        *("vim", "-u", "NONE", "-i", "NONE", "-es", "-N"),
        # Vim keeps no backups of what lies below the folder for temporary files, as this may.
        *("-c", f"set backup backupskip= backupcopy={how} fsync"),
        *("-c", "%s/line/verse/", "-c", "wq"),
        letter,
    )
    assert letter.read_text() == "first verse\nsecond verse\n"
    assert letter.stat().st_mode & 0o777 == 0o640
    assert (backup / "letter~").read_text() == "first line\nsecond line\n"
    assert sorted(os.listdir(backup)) == ["letter", "letter~", "twin"]


def test_an_editor_saves_by_writing_over_the_file(backup: Path) -> None:
    letter = backup / "letter"
    for text in ("long " * 100_000, "short", "", "longer again"):
        with letter.open("r+" if letter.exists() else "w") as file:
            file.truncate(0)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        assert letter.read_text() == text


def test_filters_change_files_in_place(backup: Path, shared_node: Node) -> None:
    numbers = backup / "numbers"
    numbers.write_text("".join(f"{number}\n" for number in range(20_000, 0, -1)))
    shared_node.run("sort", "-n", "-T", backup, "-S", "64K", "-o", numbers, numbers)
    shared_node.run("sed", "-i.old", "s/^1$/one/", numbers)
    shared_node.run("dd", f"if={numbers}", f"of={numbers}", "bs=1", "count=3", "conv=notrunc")
    assert numbers.read_text().startswith("one\n2\n3\n")
    assert (backup / "numbers.old").read_text().startswith("1\n2\n3\n")
    assert len(numbers.read_text().splitlines()) == 20_000


@_needs("zip")
@_needs("unzip")
def test_zip_packs_and_updates_in_place(backup: Path, shared_node: Node) -> None:
    shutil.copytree(_STDLIB / "json", backup / "json", ignore=shutil.ignore_patterns("*.pyc"))
    shared_node.run("zip", "-q", "-r", "all.zip", "json", cwd=backup)
    (backup / "json" / "new.py").write_text("new")
    shared_node.run("zip", "-q", "-r", "-u", "all.zip", "json", cwd=backup)
    shared_node.run("unzip", "-q", "all.zip", "-d", "out", cwd=backup)
    shared_node.run("diff", "-r", backup / "json", backup / "out" / "json")


def test_programs_that_walk_agree_with_each_other(backup: Path, shared_node: Node) -> None:
    shutil.copytree(_STDLIB / "asyncio", backup / "asyncio")
    names = shared_node.run("find", ".", cwd=backup).splitlines()
    assert len(names) == len(set(names)) == 2 + len(list((backup / "asyncio").rglob("*")))
    listed = shared_node.run("ls", "-aR", cwd=backup).split()
    assert (
        listed.count(".")
        == listed.count("..")
        == sum(1 for path in (backup, *backup.rglob("*")) if path.is_dir())
    )
    sums = shared_node.run(
        "sh", "-c", "sha256sum asyncio/*.py > sums; sha256sum -c sums", cwd=backup
    )
    assert sums.count(": OK\n") == len(list((backup / "asyncio").glob("*.py")))
    shared_node.run("grep", "-rq", "async def", backup)
    size = sum(path.stat().st_size for path in backup.rglob("*.py"))
    shown = shared_node.run("du", "--apparent-size", "-cb", *sorted(backup.rglob("*.py")))
    assert shown.splitlines()[-1] == f"{size}\ttotal"


def test_what_the_programs_left_is_in_a_snapshot(backup: Path, shared_node: Node) -> None:
    for name in os.listdir(shared_node.backups):
        shown = shared_node.at(shared_node.snapshot(name))
        expected = picture(shared_node.backups / name, links=False, top=False)
        assert_same(expected, picture(shown, links=False, top=False))


def test_a_tool_that_is_killed_leaves_a_tree_that_can_be_removed(
    backup: Path, shared_node: Node
) -> None:
    with subprocess.Popen(["cp", "-a", _STDLIB, backup / "half"]) as copying:
        while not (backup / "half" / "asyncio").exists():
            assert copying.poll() is None
        copying.kill()
    shared_node.run("rm", "-r", backup / "half")
    assert os.listdir(backup) == []
