"""Ways to break the journal of the sound state, and what the check finds of each."""

B = "backups/b"

BROKEN: list[tuple[str, set[tuple[str, str]]]] = [
    ("UPDATE inode SET atime_ns = 'now' WHERE ino = {b/small}", {("inode-types", f"{B}/small")}),
    ("UPDATE inode SET mode = 493 WHERE ino = {b/empty}", {("mode", f"{B}/empty")}),
    ("UPDATE inode SET gid = -1 WHERE ino = {b/empty}", {("owner", f"{B}/empty")}),
    ("UPDATE inode SET size = 7 WHERE ino = {b/fifo}", {("size", f"{B}/fifo")}),
    ("UPDATE inode SET size = -1 WHERE ino = {b/empty}", {("size", f"{B}/empty")}),
    (
        "UPDATE inode SET target = x'', size = 0 WHERE ino = {b/link}",
        {("link-text", f"{B}/link")},
    ),
    ("UPDATE inode SET target = x'61' WHERE ino = {b/fifo}", {("link-text", f"{B}/fifo")}),
    ("UPDATE inode SET parent = {c} WHERE ino = {b/sub}", {("parent", f"{B}/sub")}),
    ("UPDATE inode SET parent = {b} WHERE ino = {b/fifo}", {("parent", f"{B}/fifo")}),
    ("UPDATE inode SET nlink = 3 WHERE ino = {b/small}", {("link-count", f"{B}/small")}),
    ("UPDATE inode SET nlink = 9 WHERE ino = {b/sub}", {("link-count", f"{B}/sub")}),
    ("UPDATE inode SET nlink = 0 WHERE ino = {b/fifo}", {("link-count", f"{B}/fifo")}),
    ("UPDATE inode SET parent = 3 WHERE ino = 2", {("root", "backups")}),
    (
        "UPDATE inode SET changed = 0 WHERE ino = {b/sub}",
        {("changed", f"{B}/sub/deep"), ("changed", f"{B}/small")},
    ),
    (
        "UPDATE inode SET changed = 1000 WHERE ino IN (2, {b})",
        {("generation", "inode 2"), ("generation", "inode {b}")},
    ),
    ("UPDATE snapshot SET generation = 1000", {("generation", "snapshot 1")}),
    (
        "UPDATE meta SET value = {b/large} WHERE key = 'next_ino'",
        {("next-inode", "table meta")},
    ),
    (
        "INSERT INTO inode SELECT 500, mode, uid, gid, size, 0, rdev, 0, 0, 0, 0, target, 0"
        " FROM inode WHERE ino = {b/fifo}",
        {("inode-number", "#500")},
    ),
    (
        "DELETE FROM entry WHERE ino = {b/fifo}",
        {("unreachable", "#{b/fifo}"), ("link-count", "#{b/fifo}")},
    ),
    (
        "DELETE FROM entry WHERE ino = {b/sub}",
        {
            ("unreachable", "#{b/sub}"),
            ("unreachable", "#{b/sub/deep}"),
            ("unreachable", "#{b/sub/deep/file}"),
            ("link-count", B),
        },
    ),
    (
        "UPDATE entry SET parent = {b/sub/deep} WHERE ino = {b/sub};"
        "UPDATE inode SET parent = {b/sub/deep} WHERE ino = {b/sub};"
        "UPDATE inode SET nlink = 3 WHERE ino = {b/sub/deep};"
        "UPDATE inode SET nlink = nlink - 1 WHERE ino = {b};"
        "UPDATE inode SET changed = 2 WHERE ino IN ({b/sub}, {b/sub/deep})",
        {
            ("unreachable", "#{b/sub}"),
            ("unreachable", "#{b/sub/deep}"),
            ("unreachable", "#{b/sub/deep/file}"),
        },
    ),
    ("UPDATE entry SET name = x'612f62' WHERE ino = {b/fifo}", {("entry-types", f"{B}/a/b")}),
    ("UPDATE entry SET name = 'text' WHERE ino = {b/fifo}", {("entry-types", f"{B}/'text'")}),
    (
        "INSERT INTO entry VALUES ({b}, x'78', 99999);"
        "UPDATE meta SET value = 100000 WHERE key = 'next_ino'",
        {("name-without-inode", f"{B}/x")},
    ),
    (
        "INSERT INTO entry VALUES ({b/empty}, x'78', {b/fifo});"
        "UPDATE inode SET nlink = 2 WHERE ino = {b/fifo}",
        {("name-without-folder", f"{B}/empty/x")},
    ),
    (
        "INSERT INTO entry VALUES (2, x'78', {b/fifo});"
        "UPDATE inode SET nlink = 2 WHERE ino = {b/fifo}",
        {("file-among-backups", "backups/x")},
    ),
    (
        "INSERT INTO entry VALUES ({c}, x'78', {b/sub})",
        {
            ("folder-with-names", f"{B}/sub"),
            ("parent", f"{B}/sub"),
            ("link-count", "backups/c"),
        },
    ),
    (
        "INSERT INTO inode SELECT 2000, mode, uid, gid, 0, 0, 0, 0, 0, 0, 2, x'', 0 FROM inode"
        " WHERE ino = {b}; UPDATE meta SET value = 2001 WHERE key = 'next_ino';"
        "INSERT INTO entry VALUES (2000, x'78', {b/fifo});"
        "UPDATE inode SET nlink = 2, changed = 0 WHERE ino = {b/fifo}",
        {("names-in-removed-folder", "#2000/x")},
    ),
    (
        "UPDATE extent SET ino = {b/fifo} WHERE ino = {b/small}",
        {("extent-without-file", f"{B}/fifo")},
    ),
    ("UPDATE extent SET skip = 1 WHERE ino = {b/small}", {("extent-shape", f"{B}/small")}),
    ("UPDATE extent SET length = 0 WHERE ino = {b/small}", {("extent-shape", f"{B}/small")}),
    ("UPDATE extent SET suite = 'rot13' WHERE ino = {b/small}", {("extent-place", f"{B}/small")}),
    ("UPDATE extent SET segment = 1 WHERE ino = {b/small}", {("extent-place", f"{B}/small")}),
    (
        "UPDATE extent SET start = start - 1 WHERE ino = {b/large} AND start ="
        " (SELECT max(start) FROM extent WHERE ino = {b/large})",
        {("extent-overlap", f"{B}/large")},
    ),
    ("UPDATE inode SET size = 3 WHERE ino = {b/small}", {("extent-beyond-end", f"{B}/small")}),
    ("INSERT INTO xattr VALUES (99999, x'61', x'')", {("xattr", "#99999")}),
    ("INSERT INTO xattr VALUES ({b/small}, x'', x'')", {("xattr", f"{B}/small")}),
    (
        "INSERT INTO folder_page VALUES ({b}, x'61', 1, 0, 1, '/sha256/1')",
        {("folder-page", B)},
    ),
    (
        "INSERT INTO changed_name VALUES ({b}, x'61', 1)",
        {("folder-page", B)},
    ),
    ("UPDATE snapshot SET files = -1 WHERE number = 1", {("snapshot", "snapshot 1")}),
    (
        "UPDATE folder_document SET levels = 0 WHERE ino = {b/sub}",
        {("folder-document", f"{B}/sub")},
    ),
    (
        "UPDATE folder_document SET reference = '/sha256/1', generation = changed FROM inode"
        " WHERE inode.ino = folder_document.ino AND inode.ino = {b}",
        {("reference", f"documents of {B}"), ("folder-shows", B)},
    ),
    ("UPDATE snapshot SET name = 'a/b'", {("snapshot", "snapshot 1")}),
    ("INSERT INTO snapshot_tag VALUES (99, 'tag')", {("snapshot-tag", "snapshot 99")}),
    ("INSERT INTO snapshot_tag VALUES (1, '')", {("snapshot-tag", "snapshot 1")}),
    ("UPDATE snapshot SET note = x'00'", {("snapshot-tag", "snapshot 1")}),
    ("UPDATE opened SET opened_ns = 'now'", {("opened", "bundles/X'6F74686572'")}),
    ("UPDATE opened SET reference = 'no reference'", {("reference", "bundles/other")}),
    ("UPDATE share SET reference = ''", {("reference", "share of backups/b/sub")}),
]
"""SQL that breaks the journal, and which rules that breaks where."""
