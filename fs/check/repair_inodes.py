"""Mending inodes: numbers, kinds and attributes, and those that only others speak of."""

import stat

from libernet.fs.check.journal_rules import MAX_INO
from libernet.fs.check.workbench import Workbench
from libernet.fs.inode import FIRST_INO, ROOT_INO
from libernet.fs.tree import MAX_LINK_BYTES

_NUMBERS = (
    ("inode", "ino"),
    ("entry", "parent"),
    ("entry", "ino"),
    ("extent", "ino"),
    ("xattr", "ino"),
    ("snapshot", "backup"),
)
"""Every column that holds inode numbers and is kept when a number changes; so is inode.parent."""

_NO_FOLDER = (0, 1)
"""What inode.parent is where it names no folder of the backups."""

_INTEGERS = ("mode", "uid", "gid", "size", "nlink", "rdev", "atime_ns", "mtime_ns", "ctime_ns")

_KINDS = frozenset(
    (
        *(stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFBLK),
        *(stat.S_IFREG, stat.S_IFLNK, stat.S_IFSOCK),
    )
)

LOST_TARGET = b"/dev/null/the text of this link is lost"
"""What a link leads to whose text is lost: to follow it fails, whatever the machine has."""


def mend_inodes(bench: Workbench) -> None:
    """Let every inode that anything speaks of be there, with attributes that it can have."""
    _mend_types(bench)
    _mend_numbers(bench)
    _mend_root(bench)
    _make_missing(bench)
    _mend_kinds(bench)
    _mend_owners(bench)
    _mend_links(bench)


def _mend_types(bench: Workbench) -> None:
    for column in (*_INTEGERS, "parent", "changed"):
        wrong = f"FROM inode WHERE typeof({column}) <> 'integer'"
        for ino, found in bench.rows(f"SELECT ino, {column} {wrong}"):
            bench.did(bench.paths.of(ino), f"{column} was {found!r} and is 0 now", ino)
        bench.rows(f"UPDATE inode SET {column} = 0 WHERE typeof({column}) <> 'integer'")
    for ino, found in bench.rows("SELECT ino, target FROM inode WHERE typeof(target) <> 'blob'"):
        bench.did(bench.paths.of(ino), f"the link's text was {found!r}, now its bytes", ino)
    bench.rows("UPDATE inode SET target = CAST(target AS BLOB) WHERE typeof(target) <> 'blob'")


def _mend_numbers(bench: Workbench) -> None:
    """Give new numbers to what has one that no inode can have."""
    numbers = " UNION ".join(f"SELECT {column} AS ino FROM {table}" for table, column in _NUMBERS)
    proper = (
        f"(typeof(ino) = 'integer' AND (ino BETWEEN {FIRST_INO} AND {MAX_INO} OR ino = {ROOT_INO}))"
    )
    known = bench.rows(
        f"SELECT max(ino) FROM ({numbers} UNION SELECT value - 1 FROM meta WHERE key = 'next_ino')"
        f" WHERE {proper}"
    )[0][0]
    bench.next_ino = max(FIRST_INO, known + 1) if known else FIRST_INO
    for (ino,) in bench.rows(f"SELECT ino FROM ({numbers}) WHERE NOT {proper}"):
        number = bench.new_ino()
        for table, column in _NUMBERS:
            bench.rows(f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", number, ino)
        if ino not in _NO_FOLDER:
            bench.rows("UPDATE inode SET parent = ? WHERE parent IS ?", number, ino)
        bench.did(bench.paths.of(number), f"its number was {ino!r}", number)


def _mend_root(bench: Workbench) -> None:
    for row in bench.rows("SELECT parent, name FROM entry WHERE ino = ?", ROOT_INO):
        where = bench.paths.of_name(*row)
        bench.took_out("entry", row, where, "the name led to the folder of all backups")
    bench.rows("DELETE FROM entry WHERE ino = ?", ROOT_INO)
    if not bench.rows("SELECT 1 FROM inode WHERE ino = ?", ROOT_INO):
        bench.make(ROOT_INO, folder=True, parent=1)
        bench.did("backups", "made anew", ROOT_INO)
    if bench.rows("SELECT 1 FROM inode WHERE ino = ? AND mode & 61440 <> 16384", ROOT_INO):
        bench.rows("UPDATE inode SET mode = ? WHERE ino = ?", stat.S_IFDIR | 0o755, ROOT_INO)
        bench.did("backups", "it is a folder again", ROOT_INO)
    if bench.rows("SELECT 1 FROM inode WHERE ino = ? AND parent <> 1", ROOT_INO):
        bench.rows("UPDATE inode SET parent = 1 WHERE ino = ?", ROOT_INO)
        bench.did("backups", "no folder stands above it any more", ROOT_INO)


def _make_missing(bench: Workbench) -> None:
    """Make the inodes that others prove to have been: folders with names, files with bytes."""
    missing = f"ino NOT IN (SELECT ino FROM inode) AND ino >= {FIRST_INO}"
    folders = bench.rows(
        "SELECT ino FROM (SELECT parent AS ino FROM entry UNION SELECT ino FROM folder_document"
        f"  WHERE ino IN (SELECT ino FROM entry)) WHERE {missing}"
    )
    for (ino,) in folders:
        bench.make(ino, folder=True)
        bench.did(bench.paths.of(ino), "the folder was made anew: its attributes were lost", ino)
    files = bench.rows(
        f"SELECT ino, max(start + length) FROM extent WHERE {missing} GROUP BY ino",
    )
    for ino, end in files:
        size = end if isinstance(end, int) and end > 0 else 0
        bench.make(ino, size=size)
        bench.did(bench.paths.of(ino), "the file was made anew: its attributes were lost", ino)


def _mend_kinds(bench: Workbench) -> None:
    """Let an inode be what the rest shows that it is, where its mode cannot be right."""
    rows = bench.rows(
        "SELECT ino, mode, parent, target,"
        " EXISTS (SELECT 1 FROM entry WHERE entry.parent = inode.ino),"
        " EXISTS (SELECT 1 FROM extent WHERE extent.ino = inode.ino) FROM inode"
        " WHERE mode NOT BETWEEN 0 AND 65535"
        f" OR mode & 61440 NOT IN ({', '.join(map(str, _KINDS))})"
        " OR (mode & 61440 <> 16384 AND (parent <> 0"
        "  OR EXISTS (SELECT 1 FROM entry WHERE entry.parent = inode.ino)))"
        " OR (mode & 61440 <> 32768"
        "  AND EXISTS (SELECT 1 FROM extent WHERE extent.ino = inode.ino))"
    )
    for ino, mode, parent, target, has_names, has_bytes in rows:
        kind, permissions = mode & 0o170000, mode & 0o7777
        if not 0 <= mode <= 65535:
            kind, permissions = 0, 0o600
        if kind not in _KINDS:
            kind = _kind(parent != 0 or has_names, has_bytes, target)
        elif kind != stat.S_IFDIR and parent != 0 and has_names and not has_bytes:
            kind = stat.S_IFDIR
        elif kind != stat.S_IFREG and has_bytes and not has_names and parent == 0:
            kind = stat.S_IFREG
        if kind | permissions == mode:
            continue
        bench.rows("UPDATE inode SET mode = ? WHERE ino = ?", kind | permissions, ino)
        bench.did(bench.paths.of(ino), f"its mode was {mode:#o}, now {kind | permissions:#o}", ino)


def _kind(is_folder: bool, has_bytes: bool, target: bytes) -> int:
    if is_folder:
        return stat.S_IFDIR
    return stat.S_IFLNK if target and not has_bytes else stat.S_IFREG


def _mend_owners(bench: Workbench) -> None:
    """Give what belongs to an impossible owner to that of `backups/`, without privileges."""
    wrong = "(uid NOT BETWEEN 0 AND 4294967295 OR gid NOT BETWEEN 0 AND 4294967295)"
    uid, gid = bench.owner()
    for ino, *found in bench.rows(f"SELECT ino, uid, gid FROM inode WHERE {wrong}"):
        bench.did(bench.paths.of(ino), f"its owner was {found}, now {[uid, gid]}", ino)
    bench.rows(f"UPDATE inode SET uid = ?, gid = ?, mode = mode & ~3072 WHERE {wrong}", uid, gid)
    wrong = "rdev NOT BETWEEN 0 AND 4294967295"
    for ino, found in bench.rows(f"SELECT ino, rdev FROM inode WHERE {wrong}"):
        bench.did(bench.paths.of(ino), f"its device number was {found}, now 0", ino)
    bench.rows(f"UPDATE inode SET rdev = 0 WHERE {wrong}")


def _mend_links(bench: Workbench) -> None:
    rows = bench.rows(
        "SELECT ino, mode, target FROM inode WHERE length(target) > 0 OR mode & 61440 = 40960"
    )
    for ino, mode, target in rows:
        if not stat.S_ISLNK(mode):
            bench.took_out("inode", (ino, target), bench.paths.of(ino), "it had a link's text")
            bench.rows("UPDATE inode SET target = x'' WHERE ino = ?", ino)
            bench.touched.add(ino)
        elif not target or len(target) > MAX_LINK_BYTES or b"\0" in target:
            if target:
                where = bench.paths.of(ino)
                bench.took_out("inode", (ino, target), where, "a link cannot have this text")
            bench.rows(
                "UPDATE inode SET target = ?, size = ? WHERE ino = ?",
                *(LOST_TARGET, len(LOST_TARGET), ino),
            )
            bench.did(bench.paths.of(ino), "the link's text is lost: it leads nowhere now", ino)
