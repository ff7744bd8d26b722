"""What the journal's tables promise, each as a query that finds where it is not so.

A rule's rows begin with what they are about, as its Subject says; the sentence names the columns
after that by number. `fs/README.md` lists the promises by column.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from libernet.blocks.limits import MAX_CHUNK_BYTES, MAX_NAME_BYTES
from libernet.blocks.reference import Suite
from libernet.fs.check.findings import Finding, Severity
from libernet.fs.check.paths import Paths
from libernet.fs.inode import FIRST_INO, ROOT_INO
from libernet.fs.journal_reader import JournalReader
from libernet.fs.node_numbers import FIRST_VIEW_INO
from libernet.fs.tree import MAX_LINK_BYTES

MAX_INO = FIRST_VIEW_INO // 2
"""Above any number that is ever given out: one each nanosecond for 73 years."""


class Subject(enum.Enum):
    """What the first columns of a rule's rows name."""

    INODE = enum.auto()
    """An inode's number."""
    NAME = enum.auto()
    """A folder's number, and a name in it."""
    ROW = enum.auto()
    """A table, or a row of one, in words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise: *query* finds the rows that break it, *sentence* says what is wrong there."""

    name: str
    subject: Subject
    sentence: str
    query: str


_FOLDER = "(mode & 61440) = 16384"
_REGULAR = "(mode & 61440) = 32768"
_LINK = "(mode & 61440) = 40960"
_KINDS = "(4096, 8192, 16384, 24576, 32768, 40960, 49152)"
_SUITES = ", ".join(f"'{suite}'" for suite in Suite if suite is not Suite.PLAIN)
_GENERATION = "coalesce((SELECT value FROM meta WHERE key = 'generation'), 0)"
_NEXT_INO = "coalesce((SELECT value FROM meta WHERE key = 'next_ino'), 0)"


def bad_name(column: str, *, is_path: bool = False) -> str:
    """Return the condition under which a column holds what no file can be called."""
    no_slash = "" if is_path else f" OR instr({column}, x'2f') > 0"
    too_long = "" if is_path else f" OR length({column}) > {MAX_NAME_BYTES}"
    return (
        f"(typeof({column}) <> 'blob' OR length({column}) = 0 OR instr({column}, x'00') > 0"
        f" OR {column} IN (x'2e', x'2e2e'){no_slash}{too_long})"
    )


def _not(kind: str, *columns: str) -> str:
    return " OR ".join(f"typeof({column}) <> '{kind}'" for column in columns)


RULES = (
    Rule(
        "inode-types",
        Subject.INODE,
        "an attribute is of a kind that it cannot have",
        "SELECT ino FROM inode WHERE typeof(target) <> 'blob' OR "
        + _not(
            "integer",
            *("mode", "uid", "gid", "size", "nlink", "rdev", "parent", "changed"),
            *("atime_ns", "mtime_ns", "ctime_ns"),
        ),
    ),
    Rule(
        "inode-number",
        Subject.INODE,
        f"the number is none of a backup's: they begin with {FIRST_INO}",
        f"SELECT ino FROM inode WHERE ino <> {ROOT_INO} AND (ino < {FIRST_INO} OR ino > {MAX_INO})",
    ),
    Rule(
        "next-inode",
        Subject.ROW,
        "the next number to be given out is {1}, but {2} is in use",
        f"SELECT 'table meta', {_NEXT_INO}, max(ino) FROM ("
        " SELECT max(ino) AS ino FROM inode UNION ALL SELECT max(ino) FROM extent"
        " UNION ALL SELECT max(ino) FROM entry UNION ALL SELECT max(parent) FROM entry"
        " UNION ALL SELECT max(backup) FROM snapshot)"
        f" HAVING max(ino) >= {_NEXT_INO} OR {_NEXT_INO} > {MAX_INO} + 1",
    ),
    Rule(
        "mode",
        Subject.INODE,
        "the mode {1:#o} is that of no file, folder or link",
        "SELECT ino, mode FROM inode"
        f" WHERE mode < 0 OR mode > 65535 OR (mode & 61440) NOT IN {_KINDS}",
    ),
    Rule(
        "owner",
        Subject.INODE,
        "owner {1}, group {2} or device {3} is no number that one can have",
        "SELECT ino, uid, gid, rdev FROM inode WHERE uid NOT BETWEEN 0 AND 4294967295"
        " OR gid NOT BETWEEN 0 AND 4294967295 OR rdev NOT BETWEEN 0 AND 4294967295",
    ),
    Rule(
        "size",
        Subject.INODE,
        "the size {1} is not possible",
        "SELECT ino, size FROM inode"
        f" WHERE size < 0 OR ({_LINK} AND size <> length(target))"
        f" OR (NOT {_REGULAR} AND NOT {_LINK} AND size <> 0)",
    ),
    Rule(
        "link-text",
        Subject.INODE,
        "a link's text is missing, or where there is no link",
        f"SELECT ino FROM inode WHERE ({_LINK} AND (length(target) NOT BETWEEN 1 AND"
        f" {MAX_LINK_BYTES} OR instr(target, x'00') > 0)) OR (NOT {_LINK} AND length(target) > 0)",
    ),
    Rule(
        "root",
        Subject.ROW,
        "the folder of all backups is missing",
        f"SELECT 'backups' WHERE {_GENERATION} > 0"
        f" AND NOT EXISTS (SELECT 1 FROM inode WHERE ino = {ROOT_INO} AND {_FOLDER} AND parent = 1)"
        f" OR EXISTS (SELECT 1 FROM entry WHERE ino = {ROOT_INO})",
    ),
    Rule(
        "entry-types",
        Subject.NAME,
        "the name is none that a file can have, or leads to no number",
        "SELECT parent, name FROM entry"
        f" WHERE {bad_name('name')} OR {_not('integer', 'parent', 'ino')}",
    ),
    Rule(
        "name-without-inode",
        Subject.NAME,
        "the name leads to nothing",
        "SELECT parent, name FROM entry WHERE ino NOT IN (SELECT ino FROM inode)",
    ),
    Rule(
        "name-without-folder",
        Subject.NAME,
        "the name stands in no folder",
        "SELECT parent, name FROM entry"
        f" WHERE NOT EXISTS (SELECT 1 FROM inode WHERE inode.ino = entry.parent AND {_FOLDER})",
    ),
    Rule(
        "file-among-backups",
        Subject.NAME,
        "directly in backups/ there are only folders",
        f"SELECT entry.parent, name FROM entry JOIN inode USING (ino)"
        f" WHERE entry.parent = {ROOT_INO} AND NOT {_FOLDER}",
    ),
    Rule(
        "folder-with-names",
        Subject.INODE,
        "the folder has {1} names",
        "SELECT ino, count(*) FROM entry JOIN inode USING (ino)"
        f" WHERE {_FOLDER} GROUP BY ino HAVING count(*) > 1",
    ),
    Rule(
        "parent",
        Subject.INODE,
        "the folder above is noted as {1} and is {2}",
        "SELECT ino, inode.parent, entry.parent FROM entry JOIN inode USING (ino)"
        f" WHERE {_FOLDER} AND inode.parent <> entry.parent"
        f" UNION ALL SELECT ino, parent, 0 FROM inode WHERE NOT {_FOLDER} AND parent <> 0",
    ),
    Rule(
        "unreachable",
        Subject.INODE,
        "no path leads to it",
        "WITH RECURSIVE reached (ino) AS ("
        f" SELECT {ROOT_INO} UNION"
        " SELECT entry.ino FROM entry JOIN reached ON entry.parent = reached.ino)"
        " SELECT ino FROM inode WHERE nlink <> 0 AND ino NOT IN (SELECT ino FROM reached)",
    ),
    Rule(
        "link-count",
        Subject.INODE,
        "it counts {1} links and has {2}",
        "SELECT ino, nlink, links FROM ("
        " SELECT ino, nlink, (SELECT count(*) FROM entry WHERE entry.ino = inode.ino) AS links"
        f" FROM inode WHERE NOT {_FOLDER} UNION ALL"
        " SELECT ino, nlink, 2 + (SELECT count(*) FROM entry JOIN inode AS child"
        "  ON child.ino = entry.ino WHERE entry.parent = inode.ino"
        "  AND (child.mode & 61440) = 16384) FROM inode"
        f" WHERE {_FOLDER} AND (ino = {ROOT_INO}"
        "  OR EXISTS (SELECT 1 FROM entry WHERE entry.ino = inode.ino))"
        ") WHERE nlink <> links",
    ),
    Rule(
        "names-in-removed-folder",
        Subject.NAME,
        "the name stands in a folder that was removed",
        "SELECT entry.parent, name FROM entry JOIN inode ON inode.ino = entry.parent"
        " WHERE nlink = 0"
        " AND NOT EXISTS (SELECT 1 FROM entry AS above WHERE above.ino = inode.ino)",
    ),
    Rule(
        "changed",
        Subject.INODE,
        "it changed in checkpoint {1}, but the folder above last in {2}",
        "SELECT child.ino, child.changed, folder.changed FROM entry"
        " JOIN inode AS child ON child.ino = entry.ino"
        " JOIN inode AS folder ON folder.ino = entry.parent WHERE child.changed > folder.changed",
    ),
    Rule(
        "generation",
        Subject.ROW,
        "{0} is of checkpoint {1}, the last one was {2}",
        "SELECT * FROM ("
        f" SELECT 'inode ' || ino AS what, changed AS value, {_GENERATION} AS last FROM inode"
        f" UNION ALL SELECT 'folder_document ' || ino, generation, {_GENERATION}"
        " FROM folder_document"
        f" UNION ALL SELECT 'snapshot ' || number, generation, {_GENERATION} FROM snapshot"
        ") WHERE value < 0 OR value > last OR typeof(value) <> 'integer'",
    ),
    Rule(
        "extent-without-file",
        Subject.INODE,
        "there are {1} bytes of a file that is none",
        "SELECT ino, CAST(total(length) AS INTEGER) FROM extent"
        f" WHERE ino NOT IN (SELECT ino FROM inode WHERE {_REGULAR}) GROUP BY ino",
    ),
    Rule(
        "extent-shape",
        Subject.INODE,
        "what is noted about its bytes from {1} on is not possible",
        "SELECT ino, start FROM extent WHERE start < 0 OR length < 1 OR skip < 0"
        " OR start > 9223372036854775807 - length OR skip + length > piece_length"
        f" OR (block_id IS NOT NULL AND piece_length > {MAX_CHUNK_BYTES})"
        f" OR {_not('integer', 'ino', 'start', 'length', 'skip', 'piece_length')}",
    ),
    Rule(
        "extent-place",
        Subject.INODE,
        "its bytes from {1} on are neither in a chunk nor in the log, or in both",
        "SELECT ino, start FROM extent WHERE NOT coalesce("
        " (segment IS NULL AND position IS NULL AND typeof(block_id) = 'blob'"
        f"  AND length(block_id) = 32 AND suite IN ({_SUITES})"
        "  AND typeof(block_key) = 'blob' AND length(block_key) = 32)"
        " OR (block_id IS NULL AND suite IS NULL AND block_key IS NULL"
        "  AND typeof(segment) = 'integer' AND segment > 0"
        "  AND typeof(position) = 'integer' AND position >= 0), 0)",
    ),
    Rule(
        "extent-overlap",
        Subject.INODE,
        "two things are noted about its bytes from {1} to {2}",
        "SELECT ino, next, finish FROM (SELECT ino, start + length AS finish,"
        " lead(start) OVER (PARTITION BY ino ORDER BY start) AS next FROM extent)"
        " WHERE finish > next",
    ),
    Rule(
        "extent-beyond-end",
        Subject.INODE,
        "its size is {1}, but it has bytes up to {2}",
        "SELECT ino, size, max(start + extent.length) FROM extent JOIN inode USING (ino)"
        f" WHERE {_REGULAR} GROUP BY ino HAVING max(start + extent.length) > size",
    ),
    Rule(
        "xattr",
        Subject.INODE,
        "the extended attribute {1!r} belongs to nothing, or cannot be one",
        "SELECT ino, name FROM xattr WHERE ino NOT IN (SELECT ino FROM inode)"
        f" OR typeof(name) <> 'blob' OR length(name) NOT BETWEEN 1 AND {MAX_NAME_BYTES}"
        " OR instr(name, x'00') > 0 OR typeof(value) <> 'blob' OR length(value) > 65536",
    ),
    Rule(
        "folder-document",
        Subject.INODE,
        "what publishing noted about the folder is not possible",
        "SELECT ino FROM folder_document"
        f" WHERE ino NOT IN (SELECT ino FROM inode WHERE {_FOLDER})"
        " OR json_bytes < 1 OR levels < 1 OR files < 0 OR bytes < 0"
        f" OR {_not('integer', 'json_bytes', 'levels', 'files', 'bytes')}",
    ),
    Rule(
        "folder-page",
        Subject.INODE,
        "what publishing noted about the pages of the folder is not possible",
        "SELECT ino FROM folder_page"
        " WHERE ino NOT IN (SELECT ino FROM folder_document WHERE reference IS NOT NULL)"
        f" OR {bad_name('first')} OR names < 1 OR weight < 1 OR typeof(url) <> 'text'"
        f" OR starts_run NOT IN (0, 1) OR {_not('integer', 'starts_run', 'names', 'weight')}"
        " UNION SELECT parent FROM changed_name"
        " WHERE parent NOT IN (SELECT ino FROM folder_page)"
        f" OR {bad_name('name')} OR typeof(generation) <> 'integer'",
    ),
    Rule(
        "snapshot",
        Subject.ROW,
        "the snapshot's backup, name, time or size is not possible",
        "SELECT 'snapshot ' || number FROM snapshot"
        f" WHERE backup < {FIRST_INO} OR backup > {MAX_INO} OR {bad_name('backup_name')}"
        f" OR {bad_name('CAST(name AS BLOB)')} OR typeof(name) <> 'text'"
        f" OR {_not('integer', 'backup', 'published_ns')}"
        " OR files IS NOT NULL AND (typeof(files) <> 'integer' OR files < 0)"
        " OR bytes IS NOT NULL AND (typeof(bytes) <> 'integer' OR bytes < 0)",
    ),
    Rule(
        "snapshot-tag",
        Subject.ROW,
        "its tag {1!r} or its note is not possible, or there is no such snapshot",
        "SELECT 'snapshot ' || snapshot, tag FROM snapshot_tag"
        " WHERE snapshot NOT IN (SELECT number FROM snapshot)"
        " OR typeof(tag) <> 'text' OR tag = ''"
        " UNION ALL SELECT 'snapshot ' || number, NULL FROM snapshot WHERE typeof(note) <> 'text'",
    ),
    Rule(
        "opened",
        Subject.ROW,
        "the name or the time of an opened bundle is not possible",
        "SELECT 'bundles/' || quote(name) FROM opened"
        f" WHERE {bad_name('name')} OR typeof(opened_ns) <> 'integer'",
    ),
    Rule(
        "share",
        Subject.ROW,
        "the path or the time of a share is not possible",
        "SELECT 'share ' || reference FROM share"
        f" WHERE {bad_name('path', is_path=True)} OR typeof(shared_ns) <> 'integer'",
    ),
    Rule(
        "publication",
        Subject.ROW,
        "the path, the kind or the time of a publication is not possible",
        "SELECT 'publication ' || reference FROM publication"
        f" WHERE {bad_name('path', is_path=True)} OR kind NOT IN ('flat', 'stream')"
        " OR typeof(published_ns) <> 'integer'",
    ),
)
"""Every promise that a query can check, all of them DAMAGE where broken."""


QUERIES = {rule.name: rule.query for rule in RULES}


def broken_rules(reader: JournalReader, paths: Paths) -> Iterator[Finding]:
    """Yield what breaks a rule in the state that *reader* shows."""
    for rule in RULES:
        for row in reader.rows(rule.query):
            where = _where(rule, row, paths)
            yield Finding(rule.name, Severity.DAMAGE, where, rule.sentence.format(*row))


def _where(rule: Rule, row: tuple[Any, ...], paths: Paths) -> str:
    if rule.subject is Subject.INODE:
        return paths.of(row[0])
    if rule.subject is Subject.NAME:
        return paths.of_name(row[0], row[1])
    return str(row[0])
