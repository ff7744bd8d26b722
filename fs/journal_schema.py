"""The journal's tables, and what each column means."""

import sqlite3

from libernet.blocks.errors import StoreVersion

VERSION = 5

_TABLES = """
-- One row for each inode of backups/. `mode` holds the type bits too. `parent` is the folder a
-- folder stands in, 0 for all else. `nlink` 0: no name is left; removed at the next start.
-- `changed` is the generation that last changed it, its place or, of a folder, anything below it;
-- but moving a folder changes those it was and is in.
CREATE TABLE inode (
    ino      INTEGER PRIMARY KEY,
    mode     INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    gid      INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    nlink    INTEGER NOT NULL,
    rdev     INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    parent   INTEGER NOT NULL,
    target   BLOB NOT NULL,
    changed  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX inode_unlinked ON inode (ino) WHERE nlink = 0;
CREATE INDEX inode_parent ON inode (parent) WHERE parent <> 0;

-- One row for each name. `parent` and `ino` are inodes of the table above.
CREATE TABLE entry (
    parent INTEGER NOT NULL,
    name   BLOB NOT NULL,
    ino    INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE INDEX entry_ino ON entry (ino);

-- Where the bytes of files are. Extents of a file never overlap; what none covers is a hole.
-- Either `reference` names the sealed chunk, of `piece_length` bytes, or `segment` and `position`
-- the record in the data log. The extent begins `skip` bytes into it.
CREATE TABLE extent (
    ino          INTEGER NOT NULL,
    start        INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    skip         INTEGER NOT NULL,
    piece_length INTEGER NOT NULL,
    block_id     BLOB,
    suite        TEXT,
    block_key    BLOB,
    segment      INTEGER,
    position     INTEGER,
    PRIMARY KEY (ino, start)
) WITHOUT ROWID;
CREATE INDEX extent_segment ON extent (segment) WHERE segment IS NOT NULL;

-- What publishing found out about a folder: the length of its document's JSON, the levels of
-- folders in it and, when it was stored as blocks of its own, its reference. True while the
-- folder's `changed` is at most `generation`.
CREATE TABLE folder_document (
    ino        INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    json_bytes INTEGER NOT NULL,
    levels     INTEGER NOT NULL,
    reference  TEXT
);

-- Every published version. `backup` is the inode of the folder in backups/, `backup_name` its
-- name then, `name` unique among the snapshots of one backup. `generation` is what it shows.
CREATE TABLE snapshot (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    backup       INTEGER NOT NULL,
    backup_name  BLOB NOT NULL,
    name         TEXT NOT NULL,
    reference    TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    published_ns INTEGER NOT NULL,
    UNIQUE (backup, name)
);

-- Bundles that a person opened: what `bundles/NAME` leads to.
CREATE TABLE opened (
    name      BLOB PRIMARY KEY,
    reference TEXT NOT NULL,
    opened_ns INTEGER NOT NULL
) WITHOUT ROWID;

-- References that were handed out for a path below backups/ (as it was then): they stay announced.
CREATE TABLE share (
    reference TEXT PRIMARY KEY,
    path      BLOB NOT NULL,
    shared_ns INTEGER NOT NULL
) WITHOUT ROWID;

-- `version` of these tables, `generation` last committed, `next_ino` never given out yet.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

_NEW_IN_2 = """
-- What was published for everybody: as a flat bundle of the original's (`kind` 'flat') or as a
-- stream of LBRYnet ('stream'). `path` is what it was made of, as it was called then. What a
-- reference here needs stays in the store.
CREATE TABLE publication (
    reference    TEXT PRIMARY KEY,
    path         BLOB NOT NULL,
    kind         TEXT NOT NULL,
    published_ns INTEGER NOT NULL
) WITHOUT ROWID;

-- Extended attributes of the inodes above.
CREATE TABLE xattr (
    ino   INTEGER NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (ino, name)
) WITHOUT ROWID;
"""

_NEW_IN_3 = """
-- What a person wrote about a snapshot, and the words by which it is to be found or kept.
ALTER TABLE snapshot ADD COLUMN note TEXT NOT NULL DEFAULT '';
CREATE TABLE snapshot_tag (
    snapshot INTEGER NOT NULL,
    tag      TEXT NOT NULL,
    PRIMARY KEY (snapshot, tag)
) WITHOUT ROWID;
CREATE TRIGGER snapshot_forgotten AFTER DELETE ON snapshot BEGIN
    DELETE FROM snapshot_tag WHERE snapshot = OLD.number;
END;
"""

_NEW_IN_4 = """
-- The pages of a folder's document, where it is too wide for one block: the first name, whether it
-- begins a run (blocks/page_writer.py), how many names it has, what they weigh, what opens it. They
-- show the folder as its row in folder_document says, but for the names in changed_name.
CREATE TABLE folder_page (
    ino        INTEGER NOT NULL,
    first      BLOB NOT NULL,
    starts_run INTEGER NOT NULL,
    names      INTEGER NOT NULL,
    weight     INTEGER NOT NULL,
    url        TEXT NOT NULL,
    PRIMARY KEY (ino, first)
) WITHOUT ROWID;

-- Names in folders with pages that came, went or lead to something that changed since, and in which
-- generation last.
CREATE TABLE changed_name (
    parent     INTEGER NOT NULL,
    name       BLOB NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE TRIGGER folder_document_forgotten AFTER DELETE ON folder_document BEGIN
    DELETE FROM folder_page WHERE ino = OLD.ino;
    DELETE FROM changed_name WHERE parent = OLD.ino;
END;
"""

_NEW_IN_5 = """
-- How many names of anything but folders there are at and below a folder, and what their sizes add
-- up to; of snapshots that an older program published that is not known. Documents are written anew
-- once, so that all of them are counted.
DELETE FROM folder_document;
ALTER TABLE folder_document ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folder_document ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshot ADD COLUMN files INTEGER;
ALTER TABLE snapshot ADD COLUMN bytes INTEGER;
"""

_STEPS = (_TABLES, _NEW_IN_2, _NEW_IN_3, _NEW_IN_4, _NEW_IN_5)
"""What makes each version of the one before it."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty journal, or bring those of an older program up to date.

    Each in one transaction. Raises StoreVersion when a newer program made them.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        _run(connection, "".join(_STEPS))
        return
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreVersion(
            f"the journal was written by a newer version of Libernet (journal version {version}, "
            f"this program knows {VERSION}): install that version"
        )
    if version < VERSION:
        _run(connection, "".join(_STEPS[version:]))


def _run(connection: sqlite3.Connection, statements: str) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version = {VERSION}; COMMIT;"
    )
