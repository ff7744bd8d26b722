"""A real tree for the tests: files of this machine, and everything odd that a folder can hold."""

import os
import random
import shutil
import socket
import stat
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MIN_FILES = 10_000
MIN_BYTES = 100 * 1000 * 1000

_LARGEST_BYTES = 24 * 1024 * 1024  # leaves out what is huge for its own sake
_SMALL_BYTES = 16 * 1024  # taken when bytes are enough, and files are still to come

_BEFORE_1970_NS = -86_400 * 10**9 * 365 + 123_456_789
_YEAR_2262_NS = 2**63 - 1  # the last that can be kept


def make_machine_tree(root: Path) -> None:
    """Fill the new folder *root* with copies of this machine's files, and with oddities.

    The files are Python's packages, its standard library and /usr/share, then /usr/lib, as many as
    it takes to have MIN_FILES of MIN_BYTES.
    """
    root.mkdir()
    _copy_machine(root / "machine")
    make_odd_tree(root / "odd")
    _deep_and_wide(root / "odd")


def make_odd_tree(odd: Path) -> None:
    """Fill the new folder *odd* with what is seldom in a folder, a few of each kind."""
    odd.mkdir()
    _names(odd / "names")
    _empty(odd / "empty")
    _links(odd / "links")
    _hard_links(odd / "hard links")
    _contents(odd / "contents")
    _times(odd / "times")
    _special(odd / "special")
    _modes(odd / "modes")
    if os.geteuid() == 0:
        _owners(odd / "owners")


def _copy_machine(target: Path) -> None:
    files = taken_bytes = 0
    folders = set()
    for source, top in _sources():
        size = os.lstat(source).st_size
        if files >= MIN_FILES and taken_bytes >= MIN_BYTES:
            break
        if size > (_LARGEST_BYTES if taken_bytes < MIN_BYTES else _SMALL_BYTES):
            continue
        copy = target / source.relative_to(top.parent)
        if source.parent not in folders:
            folders.add(source.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)
        files += 1
        taken_bytes += size
    assert files >= MIN_FILES, f"this machine has only {files} files to test with"
    assert taken_bytes >= MIN_BYTES, f"this machine has only {taken_bytes} bytes to test with"


def _sources() -> Iterator[tuple[Path, Path]]:
    """Yield files and symbolic links, each with the folder it was found below."""
    tops = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "/usr/share", "/usr/lib"]
    for top in map(Path, tops):
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                kind = stat.S_IFMT(os.lstat(path).st_mode)
                if kind == stat.S_IFLNK or (kind == stat.S_IFREG and os.access(path, os.R_OK)):
                    yield path, top


def _names(folder: Path) -> None:
    folder.mkdir()
    names = [
        b"not utf-8 \xff\xfe\xe9",
        b"line\nbreak",
        b"tab\tand \x01 bell \x07",
        b"back\\slash 'quotes\" $HOME `x` *?",
        b"-rf",
        b" ",
        b"...",
        b"~",
        b"percent %2F %00",
        b"\xed\xa0\x80",  # a surrogate, as if it were UTF-8
        "e\u0301".encode(),
        "\u00e9".encode(),
        "\U0001f9ff".encode(),
        b"Case",
        b"case",
        b"n" * 255,
        "\u00fc".encode() * 127,
    ]
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(folder), name)
        Path(os.fsdecode(path)).write_bytes(b"%d" % number)
    inner = Path(os.fsdecode(os.path.join(os.fsencode(folder), b"folder \xe9\xff")))
    inner.mkdir()
    (inner / "file").write_text("in a folder whose name is not UTF-8")


def _empty(folder: Path) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "file").touch()


def _links(folder: Path) -> None:
    folder.mkdir()
    targets: dict[str, str | bytes] = {
        "dangling": "no/such/file",
        "absolute": "/usr/share",
        "up": "../empty",
        "to itself": "to itself",
        "to another": "dangling",
        "not utf-8": b"\xff\xfe/\xe9",
        "long": "x/" * 2000 + "end",
        "space": " ",
    }
    for name, target in targets.items():
        (folder / name).symlink_to(os.fsdecode(target))
    os.utime(folder / "dangling", ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)


def _hard_links(folder: Path) -> None:
    for name in ("here", "there"):
        (folder / name).mkdir(parents=True)
    (folder / "here" / "one").write_text("three names")
    (folder / "here" / "two").hardlink_to(folder / "here" / "one")
    (folder / "there" / "three").hardlink_to(folder / "here" / "one")
    (folder / "here" / "link").symlink_to("one")
    os.link(folder / "here" / "link", folder / "there" / "link", follow_symlinks=False)
    (folder / "empty").touch()
    (folder / "empty too").hardlink_to(folder / "empty")


def _contents(folder: Path) -> None:
    folder.mkdir()
    bits = random.Random(2)
    (folder / "five MiB").write_bytes(bits.randbytes(5 * 1024 * 1024 + 7))
    (folder / "one chunk").write_bytes(bits.randbytes(1024 * 1024 - 32))
    (folder / "one chunk and a byte").write_bytes(bits.randbytes(1024 * 1024 - 31))
    (folder / "zeros").write_bytes(bytes(3 * 1024 * 1024))
    (folder / "one byte").write_bytes(b"\0")
    (folder / "nothing but a hole").touch()
    os.truncate(folder / "nothing but a hole", 2 * 1024 * 1024)
    with (folder / "sparse").open("wb") as file:
        for offset in (0, 5_000_000, 20_000_000):
            file.seek(offset)
            file.write(bits.randbytes(70_000))
        file.truncate(30_000_001)
    (folder / "twin").write_bytes((folder / "five MiB").read_bytes())


def _deep_and_wide(odd: Path) -> None:
    deep = odd.joinpath("deep", *(f"level {level}" for level in range(100)))
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("far down")
    wide = odd / "wide"
    wide.mkdir()
    for number in range(3000):  # more than one document of 1 MiB can list
        name = f"{number:04} {'a rather long name ' * 12}"
        (wide / name).write_text(str(number % 7))
    for number in range(300):
        (odd / "many folders" / str(number)).mkdir(parents=True)
        (odd / "many folders" / str(number) / "file").write_text(f"{number}")


def _times(folder: Path) -> None:
    folder.mkdir()
    times = {
        "epoch": 0,
        "one nanosecond": 1,
        "before 1970": _BEFORE_1970_NS,
        "last nanosecond before 1970": -1,
        "full second before 1970": -(10**9),
        "before 2001": 978_307_199_999_999_999,
        "year 2262": _YEAR_2262_NS,
        "after 2038": 2**31 * 10**9 + 5,
    }
    for name, mtime_ns in times.items():
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(0, mtime_ns))
    (folder / "folder").mkdir()
    (folder / "folder" / "file").touch()
    os.utime(folder / "folder", ns=(0, _BEFORE_1970_NS))


def _special(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "fifo", 0o622)
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(folder, os.O_PATH)
        made.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(folder / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))


def _modes(folder: Path) -> None:
    """Files and folders of odd modes; those that only root can read when root it is."""
    folder.mkdir()
    modes = [0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777]
    if os.geteuid() == 0:
        modes += [0o000, 0o001, 0o200]
    for mode in modes:
        file, inner = folder / f"file {mode:04o}", folder / f"folder {mode:04o}"
        file.write_text(oct(mode))
        file.chmod(mode)
        inner.mkdir()
        if mode & 0o500 == 0o500 or os.geteuid() == 0:
            (inner / "file").touch()
            inner.chmod(mode)


def _owners(folder: Path) -> None:
    folder.mkdir()
    for uid, gid in ((1, 2), (12_345, 54_321), (2**31, 2**32 - 2)):
        for kind in ("file", "folder", "link"):
            path = folder / f"{kind} {uid} {gid}"
            if kind == "file":
                path.touch()
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to("x")
            os.chown(path, uid, gid, follow_symlinks=False)
    (folder / "setuid of another").touch()
    os.chown(folder / "setuid of another", 1, 2)
    (folder / "setuid of another").chmod(0o6755)
