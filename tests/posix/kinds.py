"""Everything that a folder can hold, made anew."""

import os
import socket
import stat

from tests.support.actors import Actor

KINDS = ["file", "folder", "link", "fifo", "socket", "character device", "block device"]

DEVICES = {
    "character device": (stat.S_IFCHR, os.makedev(1, 3)),
    "block device": (stat.S_IFBLK, os.makedev(4095, 1_048_575)),
}


def make(user: Actor, kind: str, path: str) -> None:
    """Make something of that kind; a link's target is not there."""
    match kind:
        case "file":
            user.mknod(path, stat.S_IFREG | 0o644)
        case "folder":
            user.mkdir(path)
        case "link":
            user.symlink("nowhere", path)
        case "fifo":
            user.mkfifo(path)
        case "socket":
            user.does(_bind, path)
        case _:
            type_bits, device = DEVICES[kind]
            user.mknod(path, type_bits | 0o644, device)


def is_kind(mode: int, kind: str) -> bool:
    """Tell whether st_mode is that of a kind."""
    tests = {
        "file": stat.S_ISREG,
        "folder": stat.S_ISDIR,
        "link": stat.S_ISLNK,
        "fifo": stat.S_ISFIFO,
        "socket": stat.S_ISSOCK,
        "character device": stat.S_ISCHR,
        "block device": stat.S_ISBLK,
    }
    return tests[kind](mode)


def _bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)
