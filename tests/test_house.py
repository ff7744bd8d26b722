"""The house keeps its order: who imports whom, what is installed, what the scripts promise."""

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import dependency_rule
import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("blocks", "net", "fs")


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write *files*, sources by path, below *root*, beside an empty module in each wing."""
    empty = {f"{wing}/__init__.py": "" for wing in WINGS}
    for path, source in (empty | files).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source)
    return root


def messages(root: Path, files: dict[str, str]) -> list[str]:
    return [str(found) for found in dependency_rule.violations(write_tree(root, files))]


@pytest.mark.parametrize(
    ("path", "line", "message"),
    [
        ("blocks/a.py", "import libernet.net.peers", "only net and fs/mount.py import net"),
        ("blocks/a.py", "from libernet.fs import tree", "only fs imports fs"),
        ("blocks/a.py", "from libernet import fs", "only fs imports fs"),
        ("blocks/a.py", "import trio", "blocks is synchronous"),
        ("net/a.py", "from libernet.fs.tree import Tree", "only fs imports fs"),
        ("net/a.py", "from ..fs import tree", "only fs imports fs"),
        ("net/__init__.py", "from ..fs import tree", "only fs imports fs"),
        ("fs/a.py", "from libernet.net import peers", "only net and fs/mount.py import net"),
        ("fs/deep/mount.py", "import libernet.net", "only net and fs/mount.py import net"),
        ("fs/namespace.py", "from pyfuse3 import FUSEError", "only fs/fuse/ speaks to the kernel"),
        ("net/a.py", "import asyncio.events", "only net/dht/ runs asyncio"),
        ("net/a.py", "from kademlia.node import Node", "only net/dht/ knows the DHT's library"),
        ("net/a.py", "import rpcudp", "only net/dht/ knows the DHT's library"),
        ("fs/a.py", "import appdirs", "only fs/places.py decides where state lives"),
        ("fs/a.py", "import net.peers", "write libernet.net"),
        ("tests/test_a.py", "from blocks import ids", "write libernet.blocks"),
        ("scripts/a.py", "import fs", "write libernet.fs"),
    ],
)
def test_an_import_across_the_rule_is_reported_where_it_stands(
    tmp_path: Path, path: str, line: str, message: str
) -> None:
    [found] = messages(tmp_path, {path: f"import os\n\n{line}\n"})
    assert found.startswith(f"{path}:3: ")
    assert message in found


@pytest.mark.parametrize(
    "source",
    [
        "def later():\n    import libernet.net\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import libernet.net\n",
        "try:\n    import libernet.net\nexcept ImportError:\n    pass\n",
        "class A:\n    async def b(self):\n        with c:\n            import libernet.net\n",
    ],
)
def test_the_rule_holds_for_imports_at_any_depth(tmp_path: Path, source: str) -> None:
    [found] = messages(tmp_path, {"blocks/a.py": source})
    assert "only net and fs/mount.py import net" in found


def test_each_wing_may_import_what_the_design_grants_it(tmp_path: Path) -> None:
    granted = {
        "blocks/store.py": "import sqlite3\nfrom libernet.blocks import ids\n",
        "blocks/ids.py": "import hashlib\n",
        "net/peers.py": "import trio\nimport libernet.blocks.ids\n",
        "net/dht/server.py": "import asyncio, kademlia.node, rpcudp\n",
        "fs/places.py": "import appdirs\n",
        "fs/fuse/view.py": "import pyfuse3, trio\nfrom libernet.fs import places\n",
        "fs/mount.py": "from libernet.net import peers\nfrom libernet.blocks import ids\n",
        "fs/network.py": "import network, fsspec, libernet.networking\n",
        "tests/test_a.py": "import asyncio, pyfuse3, appdirs, trio\nimport libernet.net.peers\n",
    }
    assert messages(tmp_path, granted) == []


def test_an_import_cycle_is_reported_once_with_the_way_around(tmp_path: Path) -> None:
    files = {
        "fs/a.py": "from libernet.fs.b import B\n",
        "fs/b.py": "import os\nfrom libernet.fs import c\n",
        "fs/c.py": "import libernet.fs.a\n",
        "fs/outside.py": "import libernet.fs.a\n",
    }
    assert messages(tmp_path, files) == [
        "fs/a.py:1: import cycle: libernet.fs.a -> libernet.fs.b -> libernet.fs.c -> libernet.fs.a"
    ]


def test_modules_that_only_need_each_other_later_are_no_cycle(tmp_path: Path) -> None:
    files = {
        "fs/a.py": "from libernet.fs.b import B\n",
        "fs/b.py": "def later():\n    from libernet.fs.a import A\n",
        "fs/c.py": "import typing\nif typing.TYPE_CHECKING:\n    import libernet.fs.d\n",
        "fs/d.py": "import libernet.fs.c\n",
    }
    assert messages(tmp_path, files) == []


def test_a_package_and_what_it_offers_from_its_modules_are_no_cycle(tmp_path: Path) -> None:
    files = {
        "fs/__init__.py": "from libernet.fs.a import A\n",
        "fs/a.py": "from libernet.fs import b\n",
        "fs/b.py": "",
    }
    assert messages(tmp_path, files) == []


def test_a_module_over_the_limit_is_reported_and_a_test_is_not(tmp_path: Path) -> None:
    files = dict.fromkeys(("fs/a.py", "tests/test_a.py"), "\n" * 501) | {"fs/b.py": "\n" * 500}
    assert messages(tmp_path, files) == ["fs/a.py:501: has 501 lines, the limit is 500; split it"]


def test_a_file_that_is_not_python_is_reported(tmp_path: Path) -> None:
    [found] = messages(tmp_path, {"net/a.py": "import os\nimport = 3\n"})
    assert found.startswith("net/a.py:2: is not valid Python")


def test_checking_a_folder_without_the_wings_is_an_error_and_no_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Python module"):
        dependency_rule.violations(tmp_path)


def test_the_check_prints_each_violation_on_a_line_and_fails(tmp_path: Path) -> None:
    write_tree(tmp_path, {"net/a.py": "import appdirs\nimport asyncio\n"})
    outcome = run(sys.executable, ROOT / "scripts/dependency_rule.py", tmp_path)
    assert outcome.returncode == 1
    assert [line[:12] for line in outcome.stdout.splitlines()] == ["net/a.py:1: ", "net/a.py:2: "]


def test_this_project_keeps_the_dependency_rule() -> None:
    assert list(map(str, dependency_rule.violations(ROOT))) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build a wheel from a copy of the project, so that no build folder stays behind.

    The copy is a git repository like a clone: what git tracks can have a say in what is packed.
    """
    copy = tmp_path_factory.mktemp("project")
    for name in ("libernet", *WINGS, "tests", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for arguments in (["init"], ["add", "--all"], [*author, "commit", "--message", "all"]):
        run("git", "-C", copy, *arguments, check=True)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", copy, copy, check=True)
    [path] = copy.glob("libernet-*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_every_module_as_a_file_of_its_own(wheel: zipfile.ZipFile) -> None:
    sources = {"libernet/__init__.py": ROOT / "libernet/__init__.py"}
    for wing in WINGS:
        for path in (ROOT / wing).rglob("*.py"):
            sources[f"libernet/{path.relative_to(ROOT)}"] = path
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == set(sources)
    for name, path in sources.items():
        assert stat.S_ISREG(wheel.getinfo(name).external_attr >> 16), name
        assert wheel.read(name) == path.read_bytes(), name


def test_the_wheel_holds_nothing_beside_the_package_and_its_description(
    wheel: zipfile.ZipFile,
) -> None:
    assert {name.partition("/")[0] for name in wheel.namelist()} == {
        "libernet",
        "libernet-0.1.0.dist-info",
    }
    assert "libernet/py.typed" in wheel.namelist()
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_the_wheel_installs_the_three_commands(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert set(entries["console_scripts"]) == {
        "libernet",
        "mount.libernet",
        "umount.fuse.libernet",
    }


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, list[str]]:
    """Return the hashes of each ``package==version`` in a lock file."""
    lines = (ROOT / "requirements" / name).read_text().replace("\\\n", "").splitlines()
    entries = [line.split() for line in lines if line and not line.startswith("#")]
    return {package: hashes for package, *hashes in entries}


@pytest.mark.parametrize("name", ["build.txt", "lock.txt"])
def test_the_lock_pins_every_package_by_version_and_hashes(name: str) -> None:
    for package, hashes in locked(name).items():
        assert re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.]+", package)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


def test_the_locks_cover_what_the_project_asks_for(project: dict) -> None:
    def names(requirements: list[str]) -> set[str]:
        found = (re.match(r"[\w.-]+", each)[0] for each in requirements)
        return {name.lower().replace("_", "-") for name in found}

    groups = project["dependency-groups"]
    in_lock = {package.partition("==")[0] for package in locked("lock.txt")}
    in_build = {package.partition("==")[0] for package in locked("build.txt")}
    assert names(project["project"]["dependencies"] + groups["dev"]) <= in_lock
    assert names(project["build-system"]["requires"] + groups["build"]) <= in_build


def test_both_locks_agree_on_the_packages_they_share() -> None:
    versions = [
        dict(each.split("==") for each in locked(name)) for name in ("build.txt", "lock.txt")
    ]
    shared = versions[0].keys() & versions[1].keys()
    assert {name: versions[0][name] for name in shared} == {
        name: versions[1][name] for name in shared
    }


@pytest.mark.parametrize(
    "script", ["setup", "run", "test", "check", "install", "lock", "fuzz", "bench", "../.ci/run"]
)
def test_each_script_can_be_started_and_stops_at_its_first_error(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines


def test_install_links_the_mount_helpers_and_may_be_repeated(tmp_path: Path) -> None:
    applications = tmp_path / "applications"
    for _ in range(2):
        run(ROOT / "scripts/install", SBIN=tmp_path, APPLICATIONS=applications, check=True)
    entry = (applications / "libernet.desktop").read_text()
    assert f'Exec="{ROOT}/.venv/bin/libernet" open %u\n' in entry
    assert "MimeType=x-scheme-handler/libernet;\n" in entry
    for helper in ("mount.libernet", "umount.fuse.libernet"):
        assert (tmp_path / helper).readlink() == ROOT / ".venv/bin" / helper
        assert os.access(tmp_path / helper, os.X_OK)


def test_install_does_not_replace_a_program_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "umount.fuse.libernet").write_text("theirs")
    outcome = run(ROOT / "scripts/install", SBIN=tmp_path, APPLICATIONS=tmp_path)
    assert outcome.returncode == 1
    assert "is there and not a link" in outcome.stderr
    assert not (tmp_path / "mount.libernet").exists()
    assert (tmp_path / "umount.fuse.libernet").read_text() == "theirs"


@pytest.mark.parametrize("arguments", [["--port", "4848"], ["a", "b"]])
def test_run_refuses_what_it_does_not_know_before_it_does_anything(
    tmp_path: Path, arguments: list[str]
) -> None:
    outcome = run(ROOT / "scripts/run", *arguments, HOME=tmp_path)
    assert outcome.returncode == 2
    assert "usage: scripts/run [MOUNTPOINT] [-- OPTIONS OF mount.libernet]" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def run(
    *command: str | Path, check: bool = False, **environment: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run *command* with *environment* added to this one, and return what it said."""
    outcome = subprocess.run(
        command,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert not check or outcome.returncode == 0, outcome.stderr
    return outcome
