"""umount.fuse.libernet: unmount, and come back when everything is durable.

umount(8) calls it from /sbin. The kernel takes a mount away at once, while its process goes on
writing and holds the lock of its state folder until it has finished; so after the unmounting
this waits for that lock. Which lock belongs to the mount point is asked before, of the processes
themselves (`find_holder`).
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from libernet.blocks.errors import FormatError, LibernetError
from libernet.fs.lock import find_holder, holder, lost_its_end, wait_released
from libernet.fs.mount_table import mount_at, resolved

EX_OK = 0
EX_USAGE = 1
EX_SYSTEM = 2
EX_USER = 8
EX_FAIL = 32

UNMOUNT_SECONDS = 600.0
"""How long to wait for the process to write and publish what is left; then it goes on alone."""

_MAX_USERS_NAMED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv*, by default the process's own arguments; return its exit code."""
    try:
        found = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        flags = [f"-{letter}" for letter in "flnrv" if getattr(found, letter)]
        if found.N:
            flags += ["-N", found.N]
        unmount_and_wait(resolved(Path(found.folder)), flags=flags)
    except KeyboardInterrupt:
        return EX_USER
    except FormatError as error:
        return _report(str(error), EX_USAGE)
    except LibernetError as error:
        return _report(str(error), EX_FAIL)
    except OSError as error:
        return _report(str(error), EX_SYSTEM)
    return EX_OK


def unmount_and_wait(
    mountpoint: Path,
    data: Path | None = None,
    *,
    flags: Sequence[str] = (),
    seconds: float = UNMOUNT_SECONDS,
) -> None:
    """Unmount *mountpoint*, a path from `resolved`, and wait until its process is done writing.

    *data* is the state folder of the mount, searched for when None. *flags* go to umount(8);
    with -l (lazy) nothing is waited for, since the mount lives until its last user has gone.
    A mount that has gone already is only waited for. Raises LibernetError when something still
    uses the mount, when it cannot be unmounted, when the process is not done in *seconds*, or when
    it died before everything was durable.
    """
    if data is None:
        found = find_holder(mountpoint)
        data, current = found or (None, None)
    else:
        current = holder(data)
    if mount_at(mountpoint):
        _unmount(mountpoint, flags)
    elif current is None:
        raise LibernetError(f"nothing is mounted on {mountpoint}")
    if data is None or current is None or "-l" in flags:
        return
    if not wait_released(data, seconds, pid=current.pid):
        raise LibernetError(
            f"{mountpoint} is unmounted, but pid {current.pid} is still writing to disk. "
            "Do not switch the machine off before it has ended"
        )
    if lost_its_end(data, current.pid):
        raise LibernetError(
            f"{mountpoint} is unmounted, but pid {current.pid} died before everything was durable: "
            f"what was written last is lost. Why, the log of {data} says"
        )


def _unmount(mountpoint: Path, flags: Sequence[str]) -> None:
    outcome = subprocess.run(
        _tool(mountpoint, flags),
        stdout=None,
        stderr=subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if outcome.returncode == 0:
        return
    said = os.fsdecode(outcome.stderr).strip()
    if "busy" not in said:
        raise LibernetError(f"{mountpoint} could not be unmounted: {said}")
    users = list(_users(mountpoint))
    who = ", ".join(users[:_MAX_USERS_NAMED]) or "a process of another user"
    more = f" and {len(users) - _MAX_USERS_NAMED} more" if len(users) > _MAX_USERS_NAMED else ""
    raise LibernetError(
        f"{mountpoint} is in use by {who}{more}. "
        "Leave the folder or end what uses it, then try again"
    )


def _tool(mountpoint: Path, flags: Sequence[str]) -> list[str]:
    if os.geteuid() != 0 and shutil.which("fusermount3"):
        lazy = ["-z"] if "-l" in flags else []
        return ["fusermount3", "-u", *lazy, str(mountpoint)]
    # -i: not through this very helper again.
    return ["umount", "-i", *flags, str(mountpoint)]


def _users(mountpoint: Path) -> Iterator[str]:
    """Yield 'NAME (pid N)' of the processes that have something below *mountpoint* open.

    Only links in /proc are read, so a mount that hangs does not matter. Of other users'
    processes nothing is seen, except by root.
    """
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            if any(_is_below(path, mountpoint) for path in _open_paths(pid)):
                name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
                yield f"{name} (pid {pid})"
        except OSError:  # it ended, or belongs to somebody else
            continue


def _open_paths(pid: str) -> Iterator[str]:
    links = [f"/proc/{pid}/{name}" for name in ("cwd", "root", "exe")]
    links += [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    for link in links:
        try:
            yield os.readlink(link)
        except FileNotFoundError:  # closed in the meantime; a kernel thread has no exe
            continue


def _is_below(path: str, mountpoint: Path) -> bool:
    return path == str(mountpoint) or path.startswith(f"{mountpoint}/")


def _report(sentence: str, exit_code: int) -> int:
    print(f"umount.fuse.libernet: {sentence}", file=sys.stderr)
    return exit_code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FormatError(f"{message}. See: umount.fuse.libernet --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="umount.fuse.libernet",
        description="Unmount Libernet and wait until everything is durable. umount(8) calls this.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="MOUNTPOINT")
    parser.add_argument("-f", action="store_true", help="force, as umount -f does")
    parser.add_argument("-l", action="store_true", help="detach now, end when unused; do not wait")
    parser.add_argument("-n", action="store_true", help="passed on to umount")
    parser.add_argument("-r", action="store_true", help="passed on to umount")
    parser.add_argument("-v", action="store_true", help="passed on to umount")
    parser.add_argument("-N", metavar="NAMESPACE", help=argparse.SUPPRESS)
    parser.add_argument("-t", metavar="TYPE", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
