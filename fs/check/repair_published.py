"""Mending what is noted about snapshots, shares, publications and opened bundles.

A reference that opens nothing cannot stand in its table, as no start could read it: it goes to the
report. One whose blocks are not here stays, since they may come back.
"""

from libernet.blocks.errors import BlockError, FormatError
from libernet.blocks.ids import BlockId, StoredId, parse_stored_id
from libernet.fs.check.bundle_rules import BundleWalk, Root, roots
from libernet.fs.check.document_rules import DocumentRules
from libernet.fs.check.journal_rules import QUERIES, bad_name
from libernet.fs.check.workbench import LOST_AND_FOUND, Workbench
from libernet.fs.inode import FIRST_INO, ROOT_INO
from libernet.fs.publications import Kind

_MAX_GENERATION = 2**53
"""Far above any: one each millisecond for 280,000 years."""

_KEYS = {"snapshot": "number", "share": "reference", "opened": "name", "folder_document": "ino"}


def mend_published(bench: Workbench) -> None:
    """Let every row lead to a bundle or a stream, and have what else it must have."""
    _mend_references(bench)
    _mend_columns(bench)
    _mend_xattrs(bench)
    _look_at_blocks(bench)


def forget_pages(bench: Workbench) -> None:
    """Forget what publishing noted about pages: nothing here notes which names it changed."""
    bench.rows("DELETE FROM folder_page")
    bench.rows("DELETE FROM changed_name")


def mend_generations(bench: Workbench) -> int:
    """Let nothing be of a later generation than the last; return that.

    What is noted about documents of impossible generations, or from before a change, is forgotten.
    """
    possible = f"typeof(value) = 'integer' AND value BETWEEN 0 AND {_MAX_GENERATION}"
    newest = bench.rows(
        "SELECT max(value) FROM (SELECT value FROM meta WHERE key = 'generation'"
        " UNION ALL SELECT changed FROM inode UNION ALL SELECT generation FROM folder_document"
        f" UNION ALL SELECT generation FROM snapshot) WHERE {possible}"
    )[0][0]
    known = bench.rows("SELECT value FROM meta WHERE key = 'generation'")
    newest = newest or 0
    if known and known[0][0] != newest:
        bench.did("table meta", f"the last checkpoint was noted as {known[0][0]!r}, now {newest}")
    impossible = f"typeof({{0}}) <> 'integer' OR {{0}} NOT BETWEEN 0 AND {newest}"
    for (ino,) in bench.rows(f"SELECT ino FROM inode WHERE {impossible.format('changed')}"):
        bench.did(bench.paths.of(ino), "the checkpoint of its last change was not possible", ino)
    bench.rows(f"UPDATE inode SET changed = 0 WHERE {impossible.format('changed')}")
    wrong = impossible.format("generation")
    for (ino,) in bench.rows(f"SELECT ino FROM folder_document WHERE {wrong}"):
        _forget_document(bench, ino, "it was of an impossible checkpoint")
    for number, name in bench.rows(f"SELECT number, name FROM snapshot WHERE {wrong}"):
        bench.did(f"snapshot {number}", f"the checkpoint of {name} was not possible, now 0")
    bench.rows(f"UPDATE snapshot SET generation = 0 WHERE {wrong}")
    for ino, *_ in bench.rows(QUERIES["changed"]):
        above = [row[0] for row in bench.rows("SELECT parent FROM entry WHERE ino = ?", ino)]
        bench.did(bench.paths.of(ino), "what stands above it knows of its last change", *above)
    return int(newest)


def _mend_references(bench: Workbench) -> None:
    for root in roots(bench.rows, bench.paths):
        try:
            root.parsed()
        except FormatError as exc:
            if root.table == "folder_document":
                _forget_document(bench, root.key, str(exc))
            else:
                _take_out(bench, root, str(exc))


def _take_out(bench: Workbench, root: Root, reason: str) -> None:
    table = "publication" if root.table not in _KEYS else root.table
    key = _KEYS.get(table, "reference")
    [row] = bench.rows(f"SELECT * FROM {table} WHERE {key} IS ?", root.key)
    if table == "snapshot":
        row += tuple(bench.rows("SELECT tag FROM snapshot_tag WHERE snapshot IS ?", root.key))
    bench.took_out(table, row, root.where, f"it leads nowhere: {reason}")
    bench.rows(f"DELETE FROM {table} WHERE {key} IS ?", root.key)


def forget_contradicted(bench: Workbench) -> set[int]:
    """Have documents written anew that show something else than the journal has; return whose."""
    contradicted = {
        each.ino: each.sentence
        for each in DocumentRules(bench.rows, bench.store, bench.paths).contradictions()
    }
    for ino, sentence in contradicted.items():
        _forget_document(bench, ino, f"of something in it, {sentence}")
    return set(contradicted)


def _forget_document(bench: Workbench, ino: object, reason: str) -> None:
    """Forget what publishing noted about a folder: the next time it writes its document anew."""
    bench.rows("DELETE FROM folder_document WHERE ino IS ?", ino)
    where = bench.paths.of(ino)
    bench.did(where, f"publishing will write its document anew: {reason}")
    if isinstance(ino, int) and bench.rows("SELECT 1 FROM inode WHERE ino = ?", ino):
        bench.touched.add(ino)


def _mend_columns(bench: Workbench) -> None:
    for (ino,) in bench.rows(QUERIES["folder-page"]):
        bench.did(bench.paths.of(ino), "what was noted about its pages was not possible")
    for (ino,) in bench.rows(QUERIES["folder-document"]):
        _forget_document(bench, ino, "what was noted about it was not possible")
    for table, column in (
        *(("snapshot", "published_ns"), ("opened", "opened_ns")),
        *(("share", "shared_ns"), ("publication", "published_ns")),
    ):
        if bench.rows(f"SELECT 1 FROM {table} WHERE typeof({column}) <> 'integer'"):
            bench.rows(f"UPDATE {table} SET {column} = 0 WHERE typeof({column}) <> 'integer'")
            bench.did(f"table {table}", "a time was none, and is 1970 now")
    for table, column in (("share", "path"), ("publication", "path"), ("snapshot", "backup_name")):
        wrong = bad_name(column, is_path=column == "path")
        if bench.rows(f"SELECT 1 FROM {table} WHERE {wrong}"):
            for row in bench.rows(f"SELECT * FROM {table} WHERE {wrong}"):
                bench.removed.append(f"table {table}: the {column} was not possible: {row!r}")
            bench.rows(f"UPDATE {table} SET {column} = ? WHERE {wrong}", LOST_AND_FOUND)
            bench.did(f"table {table}", f"a {column} was not possible, and is lost+found now")
    _mend_snapshots(bench)
    _mend_labels(bench)
    for (name,) in bench.rows(f"SELECT name FROM opened WHERE {bad_name('name')}"):
        free = f"#{_free_number(bench, 'SELECT 1 FROM opened WHERE name = CAST(? AS BLOB)')}"
        bench.rows("UPDATE opened SET name = ? WHERE name IS ?", free.encode(), name)
        bench.did(f"bundles/{free}", f"it was called {name!r}")
    for reference, kind in bench.rows(
        "SELECT reference, kind FROM publication WHERE kind NOT IN (?, ?)", *Kind
    ):
        proper = Kind.STREAM if reference.startswith("/sha384/") else Kind.FLAT
        bench.rows("UPDATE publication SET kind = ? WHERE reference = ?", proper, reference)
        bench.did(f"publication {reference}", f"its kind was {kind!r}, now {proper}")


def _mend_xattrs(bench: Workbench) -> None:
    for ino, name in bench.rows(QUERIES["xattr"]):
        where = bench.paths.of(ino)
        [row] = bench.rows("SELECT * FROM xattr WHERE ino IS ? AND name IS ?", ino, name)
        bench.took_out("xattr", row, where, "an extended attribute was not possible")
        bench.rows("DELETE FROM xattr WHERE ino IS ? AND name IS ?", ino, name)
        bench.touched.add(ino)


def _mend_snapshots(bench: Workbench) -> None:
    wrong = f"{bad_name('CAST(name AS BLOB)')} OR typeof(name) <> 'text'"
    for number, name in bench.rows(f"SELECT number, name FROM snapshot WHERE {wrong}"):
        free = f"#{_free_number(bench, 'SELECT 1 FROM snapshot WHERE name = ?')}"
        bench.rows("UPDATE snapshot SET name = ? WHERE number = ?", free, number)
        bench.did(f"snapshot {number}", f"it was called {name!r}, now {free!r}")
    for column in ("files", "bytes"):
        wrong = f"{column} IS NOT NULL AND (typeof({column}) <> 'integer' OR {column} < 0)"
        for (number,) in bench.rows(f"SELECT number FROM snapshot WHERE {wrong}"):
            bench.rows(f"UPDATE snapshot SET {column} = NULL WHERE number = ?", number)
            bench.did(f"snapshot {number}", f"what was noted as its {column} was not possible")
    rows = bench.rows("SELECT number, backup_name FROM snapshot WHERE backup < ?", FIRST_INO)
    for number, name in rows:
        known = bench.rows("SELECT ino FROM entry WHERE parent = ? AND name = ?", ROOT_INO, name)
        # One that two backups would share is not worth guessing: it stands under its old name.
        taken = known and bench.rows("SELECT 1 FROM snapshot WHERE backup = ?", known[0][0])
        backup = known[0][0] if known and not taken else bench.new_ino()
        bench.rows("UPDATE snapshot SET backup = ? WHERE number = ?", backup, number)
        bench.did(f"snapshot {number}", f"it is one of #{backup} now: it was of no backup")


def _mend_labels(bench: Workbench) -> None:
    """Take out tags that are none, or of no snapshot, and notes that are no text."""
    for number, tag in bench.rows(
        "SELECT snapshot, tag FROM snapshot_tag WHERE typeof(tag) <> 'text' OR tag = ''"
        " OR snapshot NOT IN (SELECT number FROM snapshot)"
    ):
        bench.rows("DELETE FROM snapshot_tag WHERE snapshot IS ? AND tag IS ?", number, tag)
        where = f"snapshot {number}"
        bench.took_out("snapshot_tag", (number, tag), where, "the tag was not possible")
    for number, note in bench.rows(
        "SELECT number, note FROM snapshot WHERE typeof(note) <> 'text'"
    ):
        bench.rows("UPDATE snapshot SET note = '' WHERE number = ?", number)
        where = f"snapshot {number}"
        bench.took_out("snapshot", (number, note), where, "the note was not possible")


def _free_number(bench: Workbench, query: str) -> int:
    """Return a number that no row has which *query* finds by its name."""
    count = 1
    while bench.rows(query, f"#{count}"):
        count += 1
    return count


def _look_at_blocks(bench: Workbench) -> None:
    """Make blocks one's own that must stay; let documents be written anew that cannot be read."""
    for (digest,) in bench.rows("SELECT DISTINCT block_id FROM extent WHERE block_id IS NOT NULL"):
        if not bench.store.is_own(BlockId(digest)):
            _own(bench, BlockId(digest))
    walked: set[BlockId] = set()

    def enter(block_id: BlockId) -> bool:
        is_new = block_id not in walked
        walked.add(block_id)
        return is_new

    lost = []
    walk = BundleWalk(bench.store, enter)
    for root in roots(bench.rows, bench.paths):
        for finding in walk.of(root):
            if finding.rule == "block-not-own":
                _own(bench, parse_stored_id(finding.block))
            elif finding.rule == "document" and root.table == "folder_document":
                lost.append(root.key)
    for ino in lost:
        _forget_document(bench, ino, "a part of it cannot be read")
    if lost:
        # Those of other folders may name what is lost too.
        bench.rows("DELETE FROM folder_document")


def _own(bench: Workbench, block_id: StoredId) -> None:
    try:
        block = bench.store.get(block_id)
    except BlockError:
        return  # it is not here: whoever reads it hears of that
    if bench.keeps:
        bench.store.put(block_id, block)
    bench.did(f"block {block_id}", "it stays now: it was here as if it were somebody else's")
