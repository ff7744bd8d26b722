"""Whether a folder can be mounted on, said so that the person knows what to do."""

import errno
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from libernet.blocks.errors import LibernetError
from libernet.fs.lock import find_holder, unmount_line
from libernet.fs.mount_table import FUSE_TYPE, Mount, mount_at

ANSWER_SECONDS = 5.0
"""How long a mount may take to answer before it counts as hanging."""

_PAUSE_SECONDS = 0.002

_FUSE_CONF = Path("/etc/fuse.conf")


def check_fuse(*, allow_other: bool) -> None:
    """Raise LibernetError when this machine or user cannot make FUSE mounts at all."""
    if not os.path.exists("/dev/fuse"):
        raise LibernetError(
            "this machine offers no FUSE: /dev/fuse is missing. Load it with: sudo modprobe fuse"
        )
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise LibernetError("fusermount3 is missing. Install it with: sudo apt install fuse3")
    if allow_other and not _users_may_allow_others():
        raise LibernetError(
            f"allow_other is root's to permit: add a line 'user_allow_other' to {_FUSE_CONF}, "
            "or mount without it"
        )


def check_apart(mountpoint: Path, data: Path) -> None:
    """Raise LibernetError when the state folder lies below the mount point.

    The process would then wait for itself: it reads its own mount to serve its own mount.
    """
    if Path(os.path.realpath(data)).is_relative_to(mountpoint):
        raise LibernetError(
            f"the state folder {data} lies inside the mount point {mountpoint}: "
            "choose a mount point beside it"
        )


def prepare(mountpoint: Path, *, detach_stale: bool = True) -> None:
    """Raise LibernetError unless *mountpoint*, a path from `resolved`, is free to mount on.

    Mounts that a killed process left there are detached first, or reported when *detach_stale*
    is false. Nothing is created.
    """
    mount = mount_at(mountpoint)
    while mount and mount.type != "autofs":
        _refuse_living(mount)
        if not detach_stale:
            raise LibernetError(
                f"a mount of a process that died is on {mountpoint}. "
                f"Detach it with: {_detach_line(mountpoint)}"
            )
        _detach(mountpoint)
        mount = mount_at(mountpoint)  # crashes with restarts stack them
    if mount is None:  # an automount point is empty by nature, and listing it would trigger it
        _check_folder(mountpoint)


def answers(mountpoint: Path, *, seconds: float = ANSWER_SECONDS) -> int | None:
    """Ask what is mounted on *mountpoint*; return 0 or an errno, None when no answer came in time.

    A child process asks: a caller stuck in a hanging mount cannot even be killed. Must not be
    called by a process with threads.
    """
    child = os.fork()
    if child == 0:
        os.closerange(3, 4096)  # a stuck child must not hold on to the state lock
        os._exit(_errno_of(mountpoint))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_PAUSE_SECONDS)
    return None


def _errno_of(mountpoint: Path) -> int:
    try:
        os.statvfs(mountpoint)  # a stat would be answered by the kernel, which keeps attributes
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _refuse_living(mount: Mount) -> None:
    """Raise LibernetError unless the process of *mount* is a Libernet that has died."""
    mountpoint = mount.mountpoint
    if mount.type != FUSE_TYPE:
        raise LibernetError(
            f"{mountpoint} is busy: {mount.source} ({mount.type}) is mounted on it. "
            f"Unmount that with: umount {_quoted(mountpoint)}, or choose another folder"
        )
    answer = answers(mountpoint)
    if answer == errno.ENOTCONN:
        return
    found = find_holder(mountpoint)
    who = f"pid {found[1].pid}" if found else "by another user or process"
    line = unmount_line(found[0]) if found else f"umount {_quoted(mountpoint)}"
    hanging = " and does not answer" if answer is None else ""
    raise LibernetError(
        f"{mountpoint} is already mounted ({who}){hanging}. Unmount it with: {line}"
    )


def _detach(mountpoint: Path) -> None:
    """Take a dead mount off *mountpoint*, even while something still has it open."""
    if os.geteuid() == 0:
        # -i: not through our own helper, which would look for the process that died.
        command = ["umount", "-i", "-l", str(mountpoint)]
    else:
        command = ["fusermount3", "-u", "-z", str(mountpoint)]
    outcome = subprocess.run(command, capture_output=True, check=False)
    if outcome.returncode != 0:
        raise LibernetError(
            f"a mount of a process that died is on {mountpoint} and cannot be detached "
            f"({os.fsdecode(outcome.stderr).strip()}). Try: {_detach_line(mountpoint)}"
        )


def _check_folder(mountpoint: Path) -> None:
    quoted = _quoted(mountpoint)
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError:
        raise LibernetError(
            f"the mount point {mountpoint} does not exist. Make it with: mkdir -p {quoted}"
        ) from None
    except NotADirectoryError:
        raise LibernetError(
            f"the mount point {mountpoint} is not a folder: choose another, or make one"
        ) from None
    except PermissionError:
        raise LibernetError(
            f"you may not look into the mount point {mountpoint}: choose a folder of your own"
        ) from None
    if names:
        raise LibernetError(
            f"the mount point {mountpoint} is not empty, and mounting would hide what is in it: "
            "choose or make an empty folder"
        )
    if not os.access(mountpoint, os.W_OK):
        raise LibernetError(
            f"you may not write to the mount point {mountpoint}, which FUSE asks for: "
            "choose a folder of your own"
        )


def _users_may_allow_others() -> bool:
    try:
        lines = _FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return True  # unreadable here; fusermount3 reads it as root and will say
    return any(line.strip() == "user_allow_other" for line in lines)


def _detach_line(mountpoint: Path) -> str:
    tool = "umount -l" if os.geteuid() == 0 else "fusermount3 -u -z"
    return f"{tool} {_quoted(mountpoint)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
