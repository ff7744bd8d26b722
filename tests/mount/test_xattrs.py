"""Extended attributes in the mount, by the programs that people use for them."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.support.node import Node

_NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_NEEDS_ATTR = pytest.mark.skipif(shutil.which("setfattr") is None, reason="attr is not installed")
_NEEDS_ACL = pytest.mark.skipif(shutil.which("setfacl") is None, reason="acl is not installed")
_NOBODY = 65534
_NOBODY_READS = bytes.fromhex(  # u::rw-, u:65534:r--, g::---, m::r--, o::---
    "0200000001000600ffffffff02000400feff0000040000 00ffffffff10000400ffffffff20000000ffffffff"
)


@pytest.fixture
def backup(shared_node: Node, request: pytest.FixtureRequest) -> Path:
    """An empty backup named after the test, in a mount that everybody sees."""
    if mount_at(shared_node.mountpoint) is None:
        shared_node.mount("--allow-other")
    folder = shared_node.backups / re.sub(r"\W+", " ", request.node.name.removeprefix("test_"))
    folder.mkdir()
    return folder


def _all(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _refused(code: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def _as_nobody(code: str, path: Path) -> list[str]:
    """Run lines of Python as somebody else; return for each what it gives, or its errno's name."""
    # The way to Python and to the mount may be closed to others; what the file stands in is not.
    script = f"""
import errno, os, sys
path = sys.argv[1]
os.setgroups([])
os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})
for line in {code.strip().splitlines()!r}:
    try:
        print(eval(line))
    except OSError as exc:
        print(errno.errorcode[exc.errno])
"""
    command = [sys.executable, "-I", "-c", script, path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _make_tree(root: Path) -> None:
    """Fill a new folder with attributes of all kinds that this machine's disk takes."""
    (root / "folder").mkdir(parents=True)
    for name in ("small", "large", "linked"):
        (root / "folder" / name).write_text(name)
    (root / "link").hardlink_to(root / "folder" / "linked")
    (root / "symlink").symlink_to("folder")
    os.setxattr(root, "user.root", b"of the top folder")
    os.setxattr(root / "folder", "user.folder", b"\0\xff")
    os.setxattr(root / "folder" / "small", "user.empty", b"")
    os.setxattr(root / "folder" / "small", b"user.\xc3\xbc", b"x" * 100)
    os.setxattr(root / "folder" / "large", "user.large", os.urandom(3000))
    os.setxattr(root / "link", "user.linked", b"by either name")
    if os.geteuid() == 0:
        os.setxattr(root / "folder" / "small", "trusted.root", b"root's")
        os.setxattr(root / "folder" / "small", "security.test", b"security")
        os.setxattr(root / "symlink", "trusted.link", b"of a link", follow_symlinks=False)


def _tree(root: Path) -> dict[str, dict[str, bytes]]:
    return {str(path.relative_to(root)): _all(path) for path in [root, *sorted(root.rglob("*"))]}


def _append(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def test_the_flags_of_setxattr_say_what_must_have_been_there(backup: Path) -> None:
    file = backup / "file"
    file.touch()
    _refused(errno.ENODATA, os.setxattr, file, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(file, "user.a", b"", os.XATTR_CREATE)
    _refused(errno.EEXIST, os.setxattr, file, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(file, "user.a", b"3", os.XATTR_REPLACE)
    assert _all(file) == {"user.a": b"3"}
    os.removexattr(file, "user.a")
    _refused(errno.ENODATA, os.removexattr, file, "user.a")
    _refused(errno.ENODATA, os.getxattr, file, "user.a")


def test_limits_are_those_of_linux(backup: Path) -> None:
    file = backup / "file"
    file.touch()
    longest_name, longest_value = "user." + "n" * 250, os.urandom(65536)
    os.setxattr(file, longest_name, longest_value)
    assert _all(file) == {longest_name: longest_value}
    _refused(errno.ERANGE, os.setxattr, file, longest_name + "n", b"")
    _refused(errno.E2BIG, os.setxattr, file, "user.b", longest_value + b"x")
    _refused(errno.EOPNOTSUPP, os.setxattr, file, "nonsense.a", b"")
    _refused(errno.EOPNOTSUPP, os.getxattr, file, "nonsense.a")
    for number in range(2):
        os.setxattr(file, f"user.{number}", longest_value)
    _refused(errno.ENOSPC, os.setxattr, file, "user.3", longest_value)
    assert len(_all(file)) == 3


def test_the_change_time_follows_and_nothing_else(backup: Path) -> None:
    file = backup / "file"
    file.touch()
    before = file.stat()
    os.setxattr(file, "user.a", b"1")
    between = file.stat()
    os.removexattr(file, "user.a")
    after = file.stat()
    assert before.st_ctime_ns < between.st_ctime_ns < after.st_ctime_ns
    assert before.st_mtime_ns == between.st_mtime_ns == after.st_mtime_ns


@_NEEDS_ROOT
def test_others_see_and_change_what_xattr_7_lets_them(backup: Path) -> None:
    file, own = backup / "file", backup / "own"
    for each in (file, own):
        each.write_text("content")
        os.setxattr(each, "user.a", b"1")
        os.setxattr(each, "trusted.a", b"2")
        os.setxattr(each, "security.a", b"3")
    os.chown(own, _NOBODY, _NOBODY)
    assert set(_all(file)) == {"user.a", "trusted.a", "security.a"}
    calls = """
sorted(os.listxattr(path))
os.getxattr(path, "user.a")
os.getxattr(path, "security.a")
os.getxattr(path, "trusted.a")
os.setxattr(path, "trusted.a", b"")
os.setxattr(path, "security.a", b"")
os.setxattr(path, "user.a", b"changed")
os.removexattr(path, "user.a")
os.stat(path).st_size
"""
    listed = ["['security.a', 'user.a']", "b'1'", "b'3'", "ENODATA", "EPERM", "EPERM"]
    assert _as_nobody(calls, file) == [*listed, "EACCES", "EACCES", "7"]
    assert _as_nobody(calls, own) == [*listed, "None", "None", "7"]
    assert set(_all(file)) == {"user.a", "trusted.a", "security.a"}
    assert set(_all(own)) == {"trusted.a", "security.a"}
    file.chmod(0o600)
    assert _as_nobody(calls, file)[1] == "EACCES"


@_NEEDS_ROOT
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"new"),
        lambda file: os.truncate(file, 1),
        lambda file: os.chown(file, 1, 1),
        _append,
    ],
    ids=["overwrite", "truncate", "chown", "append"],
)
def test_a_changed_file_has_no_capabilities_any_more(
    backup: Path, change: Callable[[Path], object]
) -> None:
    file = backup / "file"
    file.write_bytes(b"content")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep
    os.setxattr(file, "security.capability", capability)
    os.setxattr(file, "user.a", b"1")
    assert os.getxattr(file, "security.capability") == capability
    change(file)
    assert _all(file) == {"user.a": b"1"}


@_NEEDS_ATTR
def test_getfattr_restores_with_setfattr_what_it_dumped(
    backup: Path, shared_node: Node, tmp_path: Path
) -> None:
    _make_tree(backup / "a")
    dump = tmp_path / "dump"
    dump.write_text(shared_node.run("getfattr", "-hRd", "-m", "-", ".", cwd=backup / "a"))
    shutil.copytree(backup / "a", backup / "b", symlinks=True)
    for path in [backup / "b", *(backup / "b").rglob("*")]:
        for name in _all(path):
            os.removexattr(path, name, follow_symlinks=False)
    shared_node.run("setfattr", "-h", f"--restore={dump}", cwd=backup / "b")
    assert _tree(backup / "b") == _tree(backup / "a")


def test_cp_takes_them_in_and_out(backup: Path, shared_node: Node, tmp_path: Path) -> None:
    _make_tree(tmp_path / "source")
    shared_node.run("cp", "-a", tmp_path / "source", backup / "in")
    shared_node.run("cp", "-a", backup / "in", tmp_path / "out")
    expected = _tree(tmp_path / "source")
    assert _tree(backup / "in") == expected
    assert _tree(tmp_path / "out") == expected


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_a_second_rsync_finds_no_attribute_to_transfer(
    backup: Path, shared_node: Node, tmp_path: Path
) -> None:
    _make_tree(tmp_path / "source")
    command = ("rsync", "-aHXi", f"{tmp_path}/source/", f"{backup}/copy/")
    assert shared_node.run(*command) != ""
    assert shared_node.run(*command) == ""
    assert _tree(backup / "copy") == _tree(tmp_path / "source")
    os.setxattr(tmp_path / "source" / "folder" / "small", "user.new", b"1")
    assert shared_node.run(*command).split() == [".f........x", "folder/small"]
    assert _tree(backup / "copy") == _tree(tmp_path / "source")


def test_tar_keeps_them(backup: Path, shared_node: Node, tmp_path: Path) -> None:
    _make_tree(tmp_path / "source")
    options = ("--xattrs", "--xattrs-include=*")
    archive = backup / "archive.tar"
    shared_node.run("tar", *options, "-cf", archive, "-C", tmp_path / "source", ".")
    (backup / "out").mkdir()
    shared_node.run("tar", *options, "-xpf", archive, "-C", backup / "out")
    assert _tree(backup / "out") == _tree(tmp_path / "source")


def _make_shared_tree(root: Path, node: Node) -> None:
    """Fill a new folder with ACLs and, as root, with files of others."""
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("content")
    (root / "plain").touch()
    node.run("setfacl", "-m", "u:12345:rwx,g:54321:r-x,m:r-x", root / "folder", root)
    node.run("setfacl", "-d", "-m", "g:54321:rwx", root / "folder")
    node.run("setfacl", "-m", "u:12345:rw-", root / "folder" / "file")
    (root / "folder" / "heir").mkdir()


def _acls(node: Node, root: Path) -> list[str]:
    return sorted(node.run("getfacl", "-R", "-n", ".", cwd=root).split("\n\n"))


@_NEEDS_ACL
@pytest.mark.parametrize("options", [(), ("--allow-other",)])
def test_acls_and_modes_agree_at_once_whether_or_not_the_kernel_enforces_them(
    node: Node, options: tuple[str, ...]
) -> None:
    node.mount(*options)
    (node.backups / "b").mkdir()
    file = node.backups / "b" / "file"
    file.touch(mode=0o640)
    assert file.stat().st_mode & 0o777 == 0o640
    node.run("setfacl", "-m", "u:12345:rwx", file)
    assert file.stat().st_mode & 0o777 == 0o670
    assert "user:12345:rwx" in node.run("getfacl", "-n", file).split()
    file.chmod(0o604)
    assert "user:12345:rwx\t#effective:---\n" in node.run("getfacl", "-n", file)
    node.run("setfacl", "-b", file)
    assert _all(file) == {}
    assert file.stat().st_mode & 0o777 == 0o604
    _refused(errno.EACCES, os.setxattr, file, "system.posix_acl_default", _NOBODY_READS)
    _refused(errno.EINVAL, os.setxattr, file, "system.posix_acl_access", _NOBODY_READS[:-8])


@_NEEDS_ACL
def test_programs_keep_acls(backup: Path, shared_node: Node, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _make_shared_tree(source, shared_node)
    expected = _acls(shared_node, source)
    assert any("default:group:54321:rwx" in each for each in expected)
    shared_node.run("cp", "-a", source, backup / "cp")
    assert _acls(shared_node, backup / "cp") == expected
    shared_node.run("cp", "-a", backup / "cp", tmp_path / "out")
    assert _acls(shared_node, tmp_path / "out") == expected
    (backup / "tar").mkdir()
    shared_node.run("tar", "--acls", "-cf", tmp_path / "tar", "-C", source, ".")
    shared_node.run("tar", "--acls", "-xpf", tmp_path / "tar", "-C", backup / "tar")
    assert _acls(shared_node, backup / "tar") == expected


@_NEEDS_ACL
@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_a_second_rsync_finds_no_acl_to_transfer(
    backup: Path, shared_node: Node, tmp_path: Path
) -> None:
    _make_shared_tree(tmp_path / "source", shared_node)
    _make_tree(tmp_path / "source" / "more")
    command = ("rsync", "-aHAXi", f"{tmp_path}/source/", f"{backup}/copy/")
    assert shared_node.run(*command) != ""
    assert shared_node.run(*command) == ""
    assert _acls(shared_node, backup / "copy") == _acls(shared_node, tmp_path / "source")
    back = ("rsync", "-aHAXi", f"{backup}/copy/", f"{tmp_path}/source/")
    assert shared_node.run(*back) == ""


@_NEEDS_ACL
def test_snapshots_have_acls_and_a_remount_keeps_them(node: Node, tmp_path: Path) -> None:
    node.mount()
    (node.backups / "b").mkdir()
    _make_shared_tree(node.backups / "b" / "a", node)
    expected = _acls(node, node.backups / "b" / "a")
    node.snapshot("b")
    node.remount("--allow-other")
    assert _acls(node, node.backups / "b" / "a") == expected
    latest = node.snapshots / "b" / "latest"
    assert _acls(node, latest / "a") == expected
    node.run("cp", "-a", f"{latest}/a/.", tmp_path / "out")
    assert _acls(node, tmp_path / "out") == expected
    _refused(errno.EROFS, os.removexattr, latest / "a" / "folder", "system.posix_acl_default")


@_NEEDS_ACL
def test_backup_and_restore_keep_acls_and_attributes(node: Node, tmp_path: Path) -> None:
    node.mount()
    source = tmp_path / "source"
    _make_shared_tree(source, node)
    _make_tree(source / "more")
    expected = _acls(node, source), _tree(source)
    for _ in range(2):
        node.libernet("backup", str(source), "b")
        assert (_acls(node, node.backups / "b"), _tree(node.backups / "b")) == expected
    node.libernet("restore", "backups/b", str(tmp_path / "out"))
    assert (_acls(node, tmp_path / "out"), _tree(tmp_path / "out")) == expected


@_NEEDS_ROOT
@_NEEDS_ACL
def test_others_may_do_what_the_acl_says_and_no_more(backup: Path, shared_node: Node) -> None:
    file = backup / "file"
    file.write_text("content")
    look = "open(path).read()"
    change = "open(path, 'a').close()"
    for acl, mode, expected in (
        ("u::rw,g::-,o::-", 0o600, ["EACCES", "EACCES"]),
        (f"u::rw,u:{_NOBODY}:r,g::-,m::rw,o::-", 0o660, ["content", "EACCES"]),
        (f"u::rw,u:{_NOBODY}:rw,g::-,m::rw,o::-", 0o660, ["content", "None"]),
        (f"u::rw,u:{_NOBODY}:rw,g::-,m::r,o::-", 0o640, ["content", "EACCES"]),
        (f"u::rw,u:{_NOBODY}:-,g::r,m::rw,o::rw", 0o666, ["EACCES", "EACCES"]),
        (f"u::rw,u:1:rw,g:{_NOBODY}:r,g::-,m::rw,o::-", 0o660, ["content", "EACCES"]),
    ):
        shared_node.run("setfacl", "--set", acl, file)
        assert file.stat().st_mode & 0o777 == mode
        assert _as_nobody(f"{look}\n{change}", file) == expected, acl
    os.chown(file, 0, _NOBODY)  # the mode of a file with an ACL shows the mask, not its group's
    shared_node.run("setfacl", "--set", "u::rw,u:1:rw,g::-,m::rw,o::-", file)
    assert file.stat().st_mode & 0o777 == 0o660
    assert _as_nobody(look, file) == ["EACCES"]
    assert _as_nobody("os.setxattr(path, 'system.posix_acl_access', b'')", file) == ["EPERM"]


@_NEEDS_ACL
def test_what_is_made_in_a_folder_inherits_its_default_acl(backup: Path, shared_node: Node) -> None:
    shared_node.run("setfacl", "-d", "-m", "g:54321:rwx", backup)
    before = os.umask(0o002)
    try:
        (backup / "folder").mkdir()
        (backup / "folder" / "file").touch()
        (backup / "folder" / "link").symlink_to("file")
    finally:
        os.umask(before)
    shown = shared_node.run("getfacl", "-c", "-n", "folder", "folder/file", cwd=backup)
    folder, file, _ = shown.split("\n\n")
    assert "group:54321:rwx" in folder.split()
    assert "default:group:54321:rwx" in folder.split()
    assert file.split() == [
        *("user::rw-", "group::r-x", "#effective:r--", "group:54321:rwx", "#effective:rw-"),
        *("mask::rw-", "other::r--"),
    ]


def test_they_are_there_after_a_remount_and_go_with_their_file(node: Node) -> None:
    node.mount()
    (node.backups / "b").mkdir()
    _make_tree(node.backups / "b" / "a")
    before = _tree(node.backups / "b" / "a")
    node.remount()
    assert _tree(node.backups / "b" / "a") == before
    (node.backups / "b" / "a").rename(node.backups / "b" / "c")
    (node.backups / "b" / "c" / "link").unlink()
    (node.backups / "b" / "c" / "folder" / "small").unlink()
    (node.backups / "b" / "c" / "folder" / "small").touch()
    del before["link"]
    before["folder/small"] = {}
    assert _tree(node.backups / "b" / "c") == before
    node.remount()
    assert _tree(node.backups / "b" / "c") == before


def test_a_snapshot_has_all_of_them_and_gives_them_back(node: Node) -> None:
    node.mount()
    (node.backups / "b").mkdir()
    _make_tree(node.backups / "b" / "a")
    os.setxattr(node.backups / "b" / "a" / "folder", "user.large", os.urandom(65536))
    before = _tree(node.backups / "b" / "a")
    node.snapshot("b")
    shown = (node.snapshots / "b" / "latest").resolve() / "a"
    shutil.rmtree(node.backups / "b" / "a")
    node.remount()
    assert _tree(shown) == before
    node.run("cp", "-a", shown, node.backups / "b" / "a")
    assert _tree(node.backups / "b" / "a") == before
    for change in (os.removexattr, lambda path, name: os.setxattr(path, name, b"")):
        _refused(errno.EROFS, change, shown, "user.root")


@_NEEDS_ATTR
def test_programs_read_what_became_of_a_file_and_copy_none_of_it(
    node: Node, tmp_path: Path
) -> None:
    node.mount("--checkpoint-seconds", "4", "--publish-after-seconds", "86400")
    file = node.backups / "b" / "file"
    file.parent.mkdir()
    file.write_text("content")
    os.setxattr(file, "user.own", b"1")

    def told(path: Path) -> dict[str, str]:
        found = {}
        for name in ("durable", "published", "reference"):
            asked = ("getfattr", "--only-values", "-n", f"user.libernet.{name}", path)
            outcome = node.command(*asked)
            if outcome.exit_code == 0:
                found[name] = outcome.out
        return found

    node.libernet("sync")
    assert told(file) == {"durable": "1", "published": "0"}
    assert told(node.mountpoint) == {"durable": "1", "published": "0"}
    reference = node.snapshot("b")
    assert told(file.parent) == {"durable": "1", "published": "1", "reference": reference}
    shown = told(file)
    assert shown == {"durable": "1", "published": "1", "reference": f"{reference}/file"}
    assert node.at(shown["reference"]).read_text() == "content"
    assert told(node.at(shown["reference"])) == shown
    assert told(node.mountpoint) == {"durable": "1", "published": "1"}
    assert _all(file) == {"user.own": b"1"}
    _refused(errno.EPERM, os.setxattr, file, "user.libernet.durable", b"0")
    _refused(errno.EPERM, os.removexattr, file, "user.libernet.durable")
    node.run("cp", "-a", file, tmp_path / "copy")
    assert _all(tmp_path / "copy") == {"user.own": b"1"}


def test_what_was_set_before_an_fsync_is_there_after_a_kill(node: Node) -> None:
    node.mount("--checkpoint-seconds", "4")
    (node.backups / "b").mkdir()
    file = node.backups / "b" / "file"
    with file.open("wb") as opened:
        os.setxattr(file, "user.a", b"1")
        os.setxattr(file, "user.removed", b"2")
        os.fsync(opened.fileno())
        os.removexattr(file, "user.removed")
        os.setxattr(file.parent, "user.b", b"3")
        os.fsync(opened.fileno())
    node.kill()
    node.mount()
    assert _all(file) == {"user.a": b"1"}
    assert _all(file.parent) == {"user.b": b"3"}
