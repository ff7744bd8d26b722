"""Mending names: each in a folder, each leading to something, and a path to everything."""

from collections.abc import Iterator

from libernet.fs.check.journal_rules import QUERIES, bad_name
from libernet.fs.check.workbench import LOST_AND_FOUND, Workbench
from libernet.fs.inode import ROOT_INO

_REACHED = (
    "WITH RECURSIVE reached (ino) AS ("
    f" SELECT {ROOT_INO} UNION"
    " SELECT entry.ino FROM entry JOIN reached ON entry.parent = reached.ino)"
)


def mend_names(bench: Workbench) -> None:
    """Let a path lead to every inode, and no name anywhere else; then count links anew."""
    _drop_dangling(bench)
    _mend_forms(bench)
    _mend_places(bench)
    _mend_folders_with_names(bench)
    _find_again(bench)
    _mend_parents(bench)
    _count_links(bench)


def _drop_dangling(bench: Workbench) -> None:
    dangling = "ino NOT IN (SELECT ino FROM inode)"
    for row in bench.rows(f"SELECT parent, name, ino FROM entry WHERE {dangling}"):
        where = bench.paths.of_name(row[0], row[1])
        bench.took_out("entry", row, where, "the name led to nothing")
        bench.touched.add(row[0])
    bench.rows(f"DELETE FROM entry WHERE {dangling}")
    for row in bench.rows(f"SELECT ino, name, value FROM xattr WHERE {dangling}"):
        bench.took_out("xattr", row, f"#{row[0]}", "the extended attribute belonged to nothing")
    bench.rows(f"DELETE FROM xattr WHERE {dangling}")


def _mend_forms(bench: Workbench) -> None:
    """Call `#INO` what has a name that no file can have."""
    rows = bench.rows(f"SELECT parent, name, ino FROM entry WHERE {bad_name('name')}")
    for parent, name, ino in rows:
        where = bench.paths.of_name(parent, name)
        bench.rows("DELETE FROM entry WHERE parent = ? AND name IS ?", parent, name)
        free = bench.put_name(parent, b"#%d" % ino, ino)
        bench.did(where, f"called {free.decode()} now, as nothing can have that name", ino, parent)


def _mend_places(bench: Workbench) -> None:
    """Let names stand in folders, and directly in `backups/` only folders."""
    places = bench.rows(
        "SELECT DISTINCT entry.parent FROM entry JOIN inode ON inode.ino = entry.parent"
        " WHERE mode & 61440 <> 16384"
    )
    for (parent,) in places:
        folder = bench.new_ino()
        bench.make(folder, folder=True)
        bench.rows("UPDATE entry SET parent = ? WHERE parent = ?", folder, parent)
        backup = bench.backup_of(parent)
        sentence = f"holds the names that stood in #{parent}, which is no folder"
        bench.found_again(folder, b"#%d.names" % parent, backup=backup, sentence=sentence)
    rows = bench.rows(
        "SELECT name, ino FROM entry JOIN inode USING (ino)"
        " WHERE entry.parent = ? AND mode & 61440 <> 16384",
        ROOT_INO,
    )
    for name, ino in rows:
        bench.rows("DELETE FROM entry WHERE parent = ? AND name = ?", ROOT_INO, name)
        if name == LOST_AND_FOUND:
            name = b"#%d" % ino  # noqa: PLW2901 - or it would be found in itself
        bench.found_again(
            ino, name, backup=None, sentence="was directly in backups/, where only folders are"
        )


def _mend_folders_with_names(bench: Workbench) -> None:
    """Let each folder have the one name that it knows of itself, or any one."""
    folders = bench.rows(
        "SELECT ino, inode.parent FROM entry JOIN inode USING (ino)"
        " WHERE mode & 61440 = 16384 GROUP BY ino HAVING count(*) > 1"
    )
    for ino, known in folders:
        names = bench.rows("SELECT parent, name FROM entry WHERE ino = ?", ino)
        names.sort(key=lambda row: (row[0] != known, row))
        for parent, name in names[1:]:
            where = bench.paths.of_name(parent, name)
            bench.took_out("entry", (parent, name, ino), where, "a folder can have only one name")
            bench.rows("DELETE FROM entry WHERE parent = ? AND name = ?", parent, name)
            bench.touched.update((parent, ino))


def _find_again(bench: Workbench) -> None:
    """Give names in `lost+found` to all that no path leads to."""
    # What is in a folder that was removed is found with it.
    bench.rows(
        "UPDATE inode SET nlink = 2 WHERE nlink = 0 AND mode & 61440 = 16384"
        " AND EXISTS (SELECT 1 FROM entry WHERE entry.parent = inode.ino)"
    )
    while lost := _unreached(bench):
        nameless = [row for row in lost if not row[2]]
        for ino, parent, _ in nameless or [_in_circle(bench, lost[0][0])]:
            backup = bench.backup_of(parent) if nameless else None
            bench.found_again(
                ino, b"#%d" % ino, backup=backup, sentence="found again: no path led to it"
            )


def _unreached(bench: Workbench) -> list[tuple[int, int, int]]:
    """Return inodes that no path leads to: number, folder noted, whether there is a name."""
    return bench.rows(
        f"{_REACHED} SELECT ino, parent, EXISTS (SELECT 1 FROM entry WHERE entry.ino = inode.ino)"
        " FROM inode WHERE ino NOT IN (SELECT ino FROM reached) AND (nlink <> 0"
        "  OR EXISTS (SELECT 1 FROM entry WHERE entry.ino = inode.ino)) ORDER BY ino"
    )


def _in_circle(bench: Workbench, ino: int) -> tuple[int, int, int]:
    """Take the name away from a folder that stands in itself, found above *ino*."""
    seen: set[int] = set()
    at = ino
    for at in _above(bench, ino):
        if at in seen:
            break
        seen.add(at)
    [(parent, name)] = bench.rows("SELECT parent, name FROM entry WHERE ino = ?", at)
    bench.rows("DELETE FROM entry WHERE parent = ? AND name = ?", parent, name)
    bench.did(f"#{parent}", f"#{at} stood in it as {name!r}, and it in #{at}", parent, at)
    return at, 0, 0


def _above(bench: Workbench, ino: int) -> Iterator[int]:
    at = ino
    while True:
        at = bench.rows("SELECT parent FROM entry WHERE ino = ? LIMIT 1", at)[0][0]
        yield at


def _mend_parents(bench: Workbench) -> None:
    rows = bench.rows(
        "SELECT ino, inode.parent, coalesce(entry.parent, 0) FROM inode"
        " LEFT JOIN entry USING (ino) WHERE mode & 61440 = 16384 AND ino <> ?"
        " AND entry.parent <> inode.parent UNION ALL"
        " SELECT ino, parent, 0 FROM inode WHERE mode & 61440 <> 16384 AND parent <> 0",
        ROOT_INO,
    )
    for ino, noted, above in rows:
        bench.rows("UPDATE inode SET parent = ? WHERE ino = ?", above, ino)
        sentence = f"the folder above was noted as {noted}, now as {above}"
        bench.did(bench.paths.of(ino), sentence, ino)


def _count_links(bench: Workbench) -> None:
    for ino, noted, links in bench.rows(QUERIES["link-count"]):
        bench.rows("UPDATE inode SET nlink = ? WHERE ino = ?", links, ino)
        bench.did(bench.paths.of(ino), f"it counted {noted} links, now {links}", ino)
