"""The schema of the store's index, and what earlier versions of it become."""

import sqlite3
from pathlib import Path

from libernet.blocks.errors import StoreVersion

STORE_VERSION = 3
"""Version of the schema below; a store with a higher one is refused."""

# Data dictionary. Ids live apart from contents so that a scan over all blocks (collection,
# announcing, totals) and a look-up of a size touch 62 MB per million blocks and no contents; with
# 10 KiB contents inside a WITHOUT ROWID table putting was 4 times slower (5,700 against 22,000/s).
#
# meta.key, meta.value   "version": STORE_VERSION of the program that made or last migrated this.
#
# block.id       what the stored bytes are known by: SHA-256 (32 bytes), or SHA-384 (48) of a blob.
# block.class    why it is kept, a BlockClass. A block of any class but CACHED is durable: its
#                content row or its file, with the file's name, was on the disk before this row was.
#                The file of class CACHED may be torn or missing. Never updated: a row is replaced.
# block.size     stored bytes; what reading the file asks for.
# block.content  content.row of a small block; NULL says that blocks/xx/ID holds the bytes, or
#                cached/ID those of class CACHED.
# block.asked    class CACHED: when somebody last asked for it, whole seconds since 1970, coarse;
#                the least goes first (cached_by_asked). Class GUEST: when it came
#                (guest_by_asked). NULL otherwise.
#
# content.row    given out by the one writer, ascending; used by exactly one block.content.
# content.bytes  the block. Goes when its block row goes (content_goes_too).
#
# class_total    one row for each class but OWN: how many there are (blocks), and the sum of their
#                sizes (bytes). Kept true by triggers, so that no start has to count rows.
#
# public.id      a block of one's own that was published: the node may speak of it. Stays as long as
#                the publication, also while the block is damaged or missing. others_block finds
#                those of classes HELD and GUEST as quickly (both: like_index.py).
#
# pin.id, owner  a block, here or not yet, that is neither evicted nor collected as long as any
#                owner has a row for it. One that is of class OWN and held for others too is
#                pinned by "held".
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (
    id BLOB PRIMARY KEY,
    class INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content INTEGER,
    asked INTEGER
) WITHOUT ROWID;
CREATE INDEX cached_by_asked ON block (asked) WHERE class = 2;
CREATE TABLE content (row INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TRIGGER content_goes_too AFTER DELETE ON block WHEN old.content IS NOT NULL BEGIN
    DELETE FROM content WHERE row = old.content;
END;
"""

_NEW_IN_2 = """
CREATE TABLE class_total (
    class INTEGER PRIMARY KEY, blocks INTEGER NOT NULL, bytes INTEGER NOT NULL
);
INSERT INTO class_total
    SELECT 2, count(*), coalesce(sum(size), 0) FROM block WHERE class = 2;
INSERT INTO class_total VALUES (3, 0, 0);
CREATE TRIGGER counted_block_comes AFTER INSERT ON block WHEN new.class <> 1 BEGIN
    UPDATE class_total SET blocks = blocks + 1, bytes = bytes + new.size WHERE class = new.class;
END;
CREATE TRIGGER counted_block_goes AFTER DELETE ON block WHEN old.class <> 1 BEGIN
    UPDATE class_total SET blocks = blocks - 1, bytes = bytes - old.size WHERE class = old.class;
END;
CREATE TABLE public (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pin (id BLOB NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (id, owner)) WITHOUT ROWID;
"""

_NEW_IN_3 = """
DROP INDEX IF EXISTS held_block;
CREATE INDEX others_block ON block (id, size) WHERE class IN (3, 4);
CREATE INDEX guest_by_asked ON block (asked) WHERE class = 4;
INSERT INTO class_total VALUES (4, 0, 0);
"""

_FROM_1 = """
DROP TRIGGER cached_block_comes;
DROP TRIGGER cached_block_goes;
DROP TABLE cached_total;
"""

_PAGE_BYTES = 4096
"""Larger pages put 4 KiB blocks faster into an empty store (48,000 against 39,000/s) but slower
into one of 500,000 blocks (17,000 against 25,000/s at 32 KiB): each new id dirties a whole page."""

_CHECKPOINT_PAGES = 16 * 1024 * 1024 // _PAGE_BYTES
_WAL_LIMIT_BYTES = 32 * 1024 * 1024
"""How far the log grows before a commit empties it, about 25 ms, and what it is then cut to."""

_WRITER_PRAGMAS = (
    f"PRAGMA page_size={_PAGE_BYTES}",
    "PRAGMA auto_vacuum=INCREMENTAL",  # can only be chosen now; puts are as fast with it
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=OFF",  # blocks are ciphertext
    "PRAGMA cache_size=-16384",
    f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}",
)


def prepare(writer: sqlite3.Connection, path: Path) -> None:
    """Make the schema if there is none yet, or bring an older one up to date, in one transaction.

    Raises StoreVersion when a newer program wrote it.
    """
    version = _version(writer)
    if version is not None and version > STORE_VERSION:
        raise StoreVersion(
            f"{path} was written by a newer version of Libernet (store version {version}, "
            f"this program knows {STORE_VERSION}): install that version"
        )
    for pragma in _WRITER_PRAGMAS:
        writer.execute(pragma)
    if version == STORE_VERSION:
        return
    steps = {None: _SCHEMA + _NEW_IN_2, 1: _FROM_1 + _NEW_IN_2}.get(version, "")
    stamp = f"INSERT OR REPLACE INTO meta VALUES ('version', {STORE_VERSION});"
    try:
        writer.executescript(f"BEGIN IMMEDIATE;{steps}{_NEW_IN_3}{stamp}COMMIT;")
    except sqlite3.Error:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
        raise


def _version(writer: sqlite3.Connection) -> int | None:
    if not writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
        return None
    row = writer.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    return int(row[0])
