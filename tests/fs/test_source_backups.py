"""Folders of this machine become backups: what is read, what is not, and what survives what."""

import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from typing_extensions import Buffer

from libernet.blocks.errors import FormatError, LibernetError, StoreFull
from libernet.blocks.reference import Reference
from libernet.fs import sealing
from libernet.fs.sealing import ChunkMaker
from libernet.fs.sources.mirror import Mirror
from libernet.fs.sources.reading import FileContent, FileReader
from libernet.fs.tree import Changes
from tests.support.caller import Seen, canonical
from tests.support.machine_tree import make_odd_tree
from tests.support.sharing import SharingNode, sharing_node

_MIB = 1024 * 1024
_LARGE = os.urandom(3 * _MIB + 17)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small folder: two files with one name each, one with two, a folder, a link."""
    folder = tmp_path / "source"
    (folder / "docs" / "empty").mkdir(parents=True)
    (folder / "small").write_bytes(b"small")
    (folder / "large").write_bytes(_LARGE)
    (folder / "docs" / "one").write_bytes(b"linked")
    os.link(folder / "docs" / "one", folder / "docs" / "other")
    (folder / "link").symlink_to("small")
    return folder


async def _backup(
    node: SharingNode, *sources: Path, name: str = "b", notes: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    async def tell(note: dict[str, Any]) -> None:
        if notes is not None:
            notes.append(note)

    request = {"sources": [str(each) for each in sources], "name": name, **more}
    return await node.telling["backup"](request, tell)


async def _whole(node: SharingNode, *sources: Path, **more: Any) -> dict[str, Any]:
    """Back up what can be read without exception."""
    answer = await _backup(node, *sources, **more)
    assert answer["errors"] == {}
    return answer


def _here(folder: Path) -> dict[str, Seen]:
    """Return how everything in a folder of this machine looks."""
    found: dict[str, Seen] = {}
    first: dict[int, str] = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above, name)
            status = path.lstat()
            shown = str(path.relative_to(folder))
            content = b""
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            is_folder = stat.S_ISDIR(status.st_mode)
            found[shown] = Seen(
                mode=status.st_mode,
                uid=status.st_uid,
                gid=status.st_gid,
                size=0 if is_folder else status.st_size,
                mtime_ns=status.st_mtime_ns,
                nlink=status.st_nlink,
                content=content,
                same_as=first.setdefault(status.st_ino, shown),
                xattrs={
                    os.fsencode(each): os.getxattr(path, each, follow_symlinks=False)
                    for each in os.listxattr(path, follow_symlinks=False)
                },
            )
    return canonical(found)


async def _check(node: SharingNode, source: Path, path: str = "backups/b") -> None:
    """Fail unless the backup, and its newest snapshot, are what the source is."""
    expected = _here(source)
    found = await node.caller.picture(path)
    assert found.keys() == expected.keys()
    for each, seen in expected.items():
        assert found[each]._replace(nlink=0) == seen._replace(nlink=0), each


async def test_all_that_a_folder_can_hold_becomes_the_backup(
    node: SharingNode, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    make_odd_tree(odd)
    os.setxattr(odd / "contents", "user.folder", b"of a folder")
    (odd / "with xattrs").write_bytes(b"x")
    os.setxattr(odd / "with xattrs", "user.name", b"value")
    answer = await _whole(node, odd)
    expected = _here(odd)
    files = sum(stat.S_ISREG(seen.mode) for seen in expected.values())
    assert answer["files_new"] + answer["files_unmodified"] == files
    await _check(node, odd)
    published = await node.caller.published("b")
    assert {path: seen.content for path, seen in published.items()} == {
        path: seen.content for path, seen in expected.items()
    }
    top = (await node.caller.stat("backups/b")).look
    assert (top.mode, top.mtime_ns) == (odd.stat().st_mode, odd.stat().st_mtime_ns)


async def test_nothing_is_read_twice(node: SharingNode, source: Path) -> None:
    first = await _whole(node, source)
    assert (first["files_new"], first["bytes_read"]) == (3, len(_LARGE) + 11)
    second = await _whole(node, source)
    assert (second["files_unmodified"], second["bytes_read"], second["data_added"]) == (4, 0, 0)
    assert (second["reference"], second["snapshot"]) == (first["reference"], first["snapshot"])
    await _check(node, source)


async def test_nothing_is_read_twice_after_a_restart_either(tmp_path: Path, source: Path) -> None:
    for read in (len(_LARGE) + 11, 0):
        async with sharing_node(tmp_path / "node") as node:
            assert (await _whole(node, source))["bytes_read"] == read


def _rewrite(source: Path) -> None:
    (source / "small").write_bytes(b"other")


def _same_size_and_time(source: Path) -> None:
    status = (source / "small").stat()
    (source / "small").write_bytes(b"SMALL")
    os.utime(source / "small", ns=(status.st_atime_ns, status.st_mtime_ns))


def _cut(source: Path) -> None:
    os.truncate(source / "large", 100)


def _grow(source: Path) -> None:
    with (source / "large").open("ab") as file:
        file.write(_LARGE)


def _look_otherwise(source: Path) -> None:
    (source / "small").chmod(0o4711)
    os.chown(source / "docs", 7, 8)
    os.chown(source / "link", 9, 9, follow_symlinks=False)
    os.utime(source / "docs" / "empty", ns=(1, 2))
    os.setxattr(source / "small", "user.new", b"value")


def _file_to_folder(source: Path) -> None:
    (source / "small").unlink()
    (source / "small").mkdir()
    (source / "small" / "below").write_bytes(b"below")


def _folder_to_file(source: Path) -> None:
    shutil.rmtree(source / "docs")
    (source / "docs").write_bytes(b"no folder any more")


def _link_elsewhere(source: Path) -> None:
    (source / "link").unlink()
    (source / "link").symlink_to("large")


def _replace_by_another(source: Path) -> None:
    (source / "new").write_bytes(b"small")
    shutil.copystat(source / "small", source / "new")
    (source / "new").rename(source / "small")


def _split_a_pair(source: Path) -> None:
    (source / "docs" / "other").unlink()
    (source / "docs" / "other").write_bytes(b"by itself")


def _make_a_pair(source: Path) -> None:
    (source / "small").unlink()
    os.link(source / "large", source / "small")


def _join_and_split(source: Path) -> None:
    """Let the names that were one file's be of two, each with a name of the other's folder."""
    (source / "docs" / "other").unlink()
    os.link(source / "small", source / "docs" / "other")
    os.link(source / "docs" / "one", source / "one")


def _special(source: Path) -> None:
    (source / "small").unlink()
    os.mkfifo(source / "small", 0o600)
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(source)
        bound.bind("socket")


def _all_gone(source: Path) -> None:
    for each in source.iterdir():
        shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


def _nothing(source: Path) -> None:
    pass


_CHANGES: list[Callable[[Path], None]] = [
    *(_nothing, _rewrite, _same_size_and_time, _cut, _grow, _look_otherwise, _file_to_folder),
    *(_folder_to_file, _link_elsewhere, _replace_by_another, _split_a_pair, _make_a_pair),
    *(_join_and_split, _special, _all_gone),
]


@pytest.mark.parametrize("change", _CHANGES)
async def test_a_change_of_the_source_comes_into_the_backup(
    node: SharingNode, source: Path, change: Callable[[Path], None]
) -> None:
    await _whole(node, source)
    change(source)
    changed = await _whole(node, source)
    await _check(node, source)
    assert (await _whole(node, source))["bytes_read"] == 0
    published = await node.caller.published("b")
    assert {path: seen.content for path, seen in published.items()} == {
        path: seen.content for path, seen in _here(source).items()
    }
    assert (changed["removed"] > 0) is (
        change in {_file_to_folder, _folder_to_file, _link_elsewhere, _split_a_pair, _make_a_pair}
        or change in {_join_and_split, _special, _all_gone}
    )


async def test_what_somebody_did_to_the_backup_is_undone(node: SharingNode, source: Path) -> None:
    await _whole(node, source)
    status = (source / "small").stat()
    await node.caller.write("backups/b/small", 0, b"wrong")
    await node.caller.change("backups/b/small", Changes(mtime_ns=status.st_mtime_ns))
    await node.caller.unlink("backups/b/large")
    await node.caller.create("backups/b/docs/more", b"too much")
    await _whole(node, source)
    await _check(node, source)


async def test_several_sources_stand_in_one_backup(
    node: SharingNode, source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"content")
    await _whole(node, source, other, each_inside=True)
    await _check(node, source, "backups/b/source")
    (other / "file").unlink()
    await _whole(node, other, each_inside=True)
    await _check(node, other, "backups/b/other")
    await _check(node, source, "backups/b/source")


async def _kept(node: SharingNode, source: Path, **rules: Any) -> set[str]:
    await _whole(node, source, rules=rules)
    return set(await node.caller.picture("backups/b"))


async def test_what_rules_leave_out_is_not_in_the_backup(node: SharingNode, source: Path) -> None:
    whole = {"docs", "docs/empty", "docs/one", "docs/other", "large", "link", "small"}
    assert await _kept(node, source) == whole
    assert await _kept(node, source, patterns=["# a comment", "one", "/small"]) == whole - {
        *("docs/one", "small")
    }
    assert await _kept(node, source, patterns=["o*", "!other", "/docs/empty/"]) == whole - {
        *("docs/one", "docs/empty")
    }
    assert await _kept(node, source, patterns=["docs"]) == {"large", "link", "small"}
    assert await _kept(node, source, larger_than=_MIB) == whole - {"large"}
    tag = source / "docs" / "CACHEDIR.TAG"
    tag.write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55\n# more")
    assert await _kept(node, source, caches=True) == {
        *("docs", "docs/CACHEDIR.TAG", "large", "link", "small")
    }
    tag.write_bytes(b"another signature")
    assert await _kept(node, source, caches=True) == whole | {"docs/CACHEDIR.TAG"}


async def test_a_dry_run_changes_nothing_and_says_what_would(
    node: SharingNode, source: Path
) -> None:
    answer = await _whole(node, source, dry_run=True)
    assert (answer["files_new"], answer["snapshot"], answer["data_added"]) == (3, None, 0)
    assert await node.caller.names("backups") == []
    await _whole(node, source)
    _rewrite(source)
    shutil.rmtree(source / "docs")
    before = await node.caller.picture("backups/b")
    answer = await _whole(node, source, dry_run=True)
    assert (answer["files_changed"], answer["files_unmodified"], answer["removed"]) == (1, 1, 4)
    assert await node.caller.picture("backups/b") == before
    assert (await _whole(node, source))["files_changed"] == 1
    await _check(node, source)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": ".."}, FormatError),
        ({"name": "a/b"}, FormatError),
        ({"name": ""}, FormatError),
        ({"name": None}, FormatError),
        ({"sources": []}, FormatError),
        ({"sources": ["relative"]}, FormatError),
        ({"sources": ["/nul\0"]}, FormatError),
        ({"rules": {"patterns": "text"}}, FormatError),
        ({"rules": {"larger_than": "7"}}, FormatError),
        ({"sources": ["/nowhere at all"]}, LibernetError),
        ({"sources": ["/etc/passwd"]}, LibernetError),
        ({"sources": ["/etc", "/usr/etc"], "each_inside": True}, LibernetError),
    ],
)
async def test_a_wrong_request_is_refused(
    node: SharingNode, source: Path, wrong: dict[str, Any], error: type[Exception]
) -> None:
    async def tell(note: dict[str, Any]) -> None:
        raise AssertionError

    with pytest.raises(error):
        await node.telling["backup"]({"sources": [str(source)], "name": "b", **wrong}, tell)
    assert await node.caller.names("backups") == []


async def test_the_state_folder_is_never_read(node: SharingNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    answer = await _whole(node, tmp_path)
    assert answer["skipped"].keys() == {str(tmp_path / "node")}
    assert await node.caller.names("backups/b") == ["file"]
    with pytest.raises(LibernetError, match="Libernet's own"):
        await _backup(node, tmp_path / "node" / "store")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a folder once more")
@pytest.mark.parametrize("part", ["", "store", "store/blocks", "secret"])
async def test_nor_is_it_where_it_is_mounted_once_more(
    node: SharingNode, tmp_path: Path, part: str
) -> None:
    own, source = tmp_path / "node" / part, tmp_path / "source"
    again = source / "again"
    if own.is_dir():
        again.mkdir(parents=True)
    else:
        source.mkdir()
        again.touch()
    (source / "file").write_bytes(b"content")
    await trio.run_process(["mount", "--bind", own, again])
    try:
        answer = await _whole(node, source)
        assert answer["skipped"].keys() == {str(again)}
        assert await node.caller.names("backups/b") == ["file"]
        with pytest.raises(LibernetError, match="Libernet's own"):
            await _backup(node, again)
    finally:
        await trio.run_process(["umount", again])


async def test_what_cannot_be_read_is_told_and_what_the_backup_has_of_it_stays(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _whole(node, source)
    expected = await node.caller.picture("backups/b")
    for each in source.glob("*"):
        os.utime(each, ns=(5, 5), follow_symlinks=False)

    def read(self: FileReader, path: bytes, expected: os.stat_result) -> FileContent:
        raise PermissionError(13, "Permission denied")

    def listdir(path: bytes) -> list[bytes]:
        if path.endswith(b"docs"):
            raise PermissionError(13, "Permission denied")
        return real_listdir(path)

    real_listdir = os.listdir
    with monkeypatch.context() as patch:
        patch.setattr(FileReader, "read", read)
        patch.setattr(os, "listdir", listdir)
        answer = await _backup(node, source)
    assert answer["errors"] == {
        str(source / name): "Permission denied" for name in ("docs", "large", "small")
    }
    found = await node.caller.picture("backups/b")
    assert {path: seen.content for path, seen in found.items()} == {
        path: seen.content for path, seen in expected.items()
    }
    await _whole(node, source)
    await _check(node, source)


async def test_a_file_that_changes_while_it_is_read_is_read_again_and_then_told(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read_once = FileReader._once
    writes = 1

    def once(self: FileReader, descriptor: int) -> FileContent:
        nonlocal reads
        content = read_once(self, descriptor)
        if content.status.st_size == len(_LARGE) + reads:
            reads += 1
            if reads <= writes:
                with (source / "large").open("ab") as file:
                    file.write(b"!")
                return FileContent(content.status, content.extents, content.xattrs, False)
        return content

    monkeypatch.setattr(FileReader, "_once", once)
    await _whole(node, source)
    assert reads == 2
    await _check(node, source)

    (source / "large").write_bytes(_LARGE)
    reads, writes = 0, 100
    answer = await _backup(node, source)
    assert (reads, answer["errors"]) == (
        3,
        {str(source / "large"): "changed each time it was read"},
    )
    monkeypatch.undo()
    assert (await _whole(node, source))["bytes_read"] == len(_LARGE) + 3
    await _check(node, source)


async def test_what_was_interrupted_goes_on_where_it_was(
    node: SharingNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1000):
        (source / f"{number:04}").write_bytes(b"%d" % number)
    scope = trio.CancelScope()
    placed = Mirror._placed
    count = 0

    def slow(self: Mirror, *arguments: Any) -> None:
        nonlocal count
        count += 1
        placed(self, *arguments)
        if count == 500:
            scope.cancel()

    monkeypatch.setattr(Mirror, "_placed", slow)
    with scope:
        await _backup(node, source)
    monkeypatch.undo()
    assert scope.cancelled_caught
    assert await node.caller.names("snapshots") == []
    answer = await _whole(node, source)
    assert 0 < answer["files_new"] + answer["files_changed"] <= 1000 - 300
    await _check(node, source)


async def test_of_a_large_file_a_kill_costs_only_what_was_read_last(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = []
    store = ChunkMaker.store

    def counted(self: ChunkMaker, plaintext: Buffer) -> Reference:
        queued.append(self._store.queued_blocks)
        return store(self, plaintext)

    monkeypatch.setattr(sealing, "_EARLY_BLOCKS", 4)
    monkeypatch.setattr(ChunkMaker, "store", counted)
    (source / "larger").write_bytes(os.urandom(12 * _MIB))
    await _whole(node, source)
    assert len(queued) > 12
    assert max(queued) <= 4


async def test_a_collection_waits_for_files_that_are_being_read(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FileReader.read
    may_go_on = trio.Event()
    was_read = trio.Event()

    def waiting(self: FileReader, path: bytes, expected: os.stat_result) -> FileContent:
        content = read(self, path, expected)
        trio.from_thread.run_sync(was_read.set)
        trio.from_thread.run(may_go_on.wait)
        return content

    monkeypatch.setattr(FileReader, "read", waiting)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_whole, node, source)
        await was_read.wait()
        nursery.start_soon(node.command, "gc")
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        may_go_on.set()
    assert (await node.command("gc"))["blocks"] == 0
    await _check(node, source)
    assert (await node.caller.read("backups/b/large")) == _LARGE


async def test_a_full_disk_ends_it_and_room_lets_it_go_on(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise StoreFull("no space is left")

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "put", full)
        with pytest.raises(StoreFull):
            await _backup(node, source)
    assert await node.caller.names("snapshots") == []
    await _whole(node, source)
    await _check(node, source)


async def test_nobody_publishes_a_backup_that_is_being_made(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    run = Mirror.run

    async def watched(self: Mirror, top: int) -> None:
        await run(self, top)
        looked.append(node.node.publisher._due(trio.current_time() + 1e9))

    monkeypatch.setattr(Mirror, "run", watched)
    await _whole(node, source)
    assert looked == [[]]


async def test_the_cache_of_origins_may_be_damaged(node: SharingNode, source: Path) -> None:
    await _whole(node, source)
    cache = node.storage.folder / "origins.sqlite"
    for each in (cache, Path(f"{cache}-wal")):
        each.write_bytes(os.urandom(20_000))
    assert (await _whole(node, source))["bytes_read"] == len(_LARGE) + 11
    assert (await _whole(node, source))["bytes_read"] == 0
    await _check(node, source)


async def test_a_backup_is_made_once_at_a_time(
    node: SharingNode, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Mirror.run

    async def twice(self: Mirror, top: int) -> None:
        with pytest.raises(LibernetError, match="already"):
            await _backup(node, source)
        await run(self, top)

    monkeypatch.setattr(Mirror, "run", twice)
    await _whole(node, source)
