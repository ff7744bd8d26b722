"""The original's bundles as folders: what is here is shown, what is lacking is told."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import (
    BlockNotFound,
    FormatError,
    LibernetError,
    PeerTimeout,
    UnknownVersion,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import Sealer
from libernet.blocks.source import Origin
from libernet.fs import bundle_growth, bundle_view
from libernet.fs.bundle_view import BundleRoot, Bundles
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import FileNode, FolderNode, Incomplete, LinkNode, Node, folder_appearance
from tests.support.flat_json import Json, main_file, rewrite_file, serialized

OWNER = (1000, 100)
T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("short_looks")


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let looks into folders wait for a moment only."""
    for module in (bundle_growth, bundle_view):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)


class World:
    """Blocks behind a mount: those *here*, those that somebody will send one day, and no others.

    State: `asked`, how often each block was asked for; `brought`, what was to be brought ahead.
    """

    def __init__(self) -> None:
        self._sealer = Sealer(bytes(32))
        self._blocks: dict[BlockId, bytes] = {}
        self._on_their_way: dict[BlockId, trio.Event] = {}
        self.asked: Counter[BlockId] = Counter()
        self.brought: list[BlockId] = []
        self.bundles = Bundles(
            ChunkCache(self, lambda _: True), self._blocks.__contains__, owner=OWNER
        )

    async def get(
        self,
        block_id: BlockId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        self.asked[block_id] += 1
        if block_id in self._on_their_way:
            await self._on_their_way[block_id].wait()
        if block_id not in self._blocks:
            raise BlockNotFound(f"nobody has {block_id}")
        return use(self._blocks[block_id])

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        self.brought += block_ids

    def ahead_bytes(self, origin: object) -> int:
        return 0

    def seal(self, plaintext: bytes) -> Reference:
        """Make a block that nobody has."""
        return self._sealer.seal(plaintext)[0]

    def put(self, plaintext: bytes) -> Reference:
        """Put a block here, or let it arrive if it is on its way."""
        reference, block = self._sealer.seal(plaintext)
        self._blocks[reference.id] = block
        if reference.id in self._on_their_way:
            self._on_their_way.pop(reference.id).set()
        return reference

    def delay(self, plaintext: bytes) -> Reference:
        """Make a block that is on its way until it is put here."""
        reference = self.seal(plaintext)
        self._on_their_way[reference.id] = trio.Event()
        return reference

    def file(self, content: bytes, **changes: Any) -> Json:
        part = {"size": len(content), "url": str(self.put(content))}
        return main_file() | {"contents": [part], "size": len(content)} | changes

    def open(self, bundle: Json) -> BundleRoot:
        """Return the top folder of a bundle that is here."""
        return self.root(self.put(serialized(bundle)))

    def root(self, reference: Reference) -> BundleRoot:
        return self.bundles.folder(reference, folder_appearance(0, 0, 0))


def sub_bundles(*references: Reference) -> list[str]:
    return [str(reference) for reference in references]


async def at(root: FolderNode, path: str) -> Node:
    node: Node = root
    for name in path.split("/"):
        assert isinstance(node, FolderNode)
        node = await node.lookup(os.fsencode(name))
    return node


async def read(root: FolderNode, path: str) -> bytes:
    node = await at(root, path)
    assert isinstance(node, FileNode)
    return bytes(await node.read(0, node.appearance.size))


async def names(folder: FolderNode, limit: int = 2) -> list[bytes]:
    """Return all names in a folder; raise what keeps it from being listed to its end."""
    found: list[bytes] = []
    while entries := await folder.children(found[-1] if found else b"", limit):
        found += [name for name, _ in entries]
    return found


async def listed(folder: FolderNode) -> tuple[list[bytes], type[LibernetError]]:
    """Return the names in a folder of which some are lacking, and how that is told at the end."""
    first = await folder.children(b"", 100)
    assert isinstance(first, Incomplete)
    with pytest.raises(type(first.error)):
        await folder.children(first[-1][0], 100)
    return [name for name, _ in first], type(first.error)


async def refusal(root: FolderNode, path: str) -> type[Exception]:
    with pytest.raises((OSError, LibernetError)) as caught:
        await at(root, path)
    return caught.type


async def test_a_bundle_is_shown_with_all_that_it_has() -> None:
    world = World()
    files = {
        "a": world.file(b"content", modified=1.5, readonly=True, executable=True),
        "x/y/\udcff": world.file(b"deep"),
        "x/link": world.file(b"target", link="../a"),
    }
    root = world.open({"files": files, "directories": {"empty": None, "to x": "x"}})
    assert await names(root) == [b"a", b"empty", b"to x", b"x"]
    assert await names(await at(root, "x")) == [b"link", b"y"]  # type: ignore[arg-type]
    assert await names(await at(root, "empty")) == []  # type: ignore[arg-type]
    assert (await read(root, "a"), await read(root, "x/y/\udcff")) == (b"content", b"deep")
    look = (await at(root, "a")).appearance
    assert (look.mode, look.uid, look.gid) == (0o100555, *OWNER)
    assert look.mtime_ns == 978_307_201_500_000_000
    for path, target in (("x/link", b"../a"), ("to x", b"x")):
        link = await at(root, path)
        assert isinstance(link, LinkNode)
        assert link.target() == target
    assert root.appearance.mode == 0o040755
    assert await refusal(root, "b") is FileNotFoundError
    assert await refusal(root, "x/b") is FileNotFoundError


async def test_sub_bundles_are_shown_as_if_all_stood_in_one() -> None:
    world = World()
    inner = world.put(serialized({"files": {"x/c": rewrite_file()}}))
    outer = {"files": {"x/b": rewrite_file(), "d": rewrite_file()}, "bundles": sub_bundles(inner)}
    top = {"files": {"x/a": rewrite_file()}, "bundles": sub_bundles(world.put(serialized(outer)))}
    root = world.open(top)
    assert (await at(root, "x/c")).appearance.size == 0
    assert await names(root) == [b"d", b"x"]
    assert await names(await at(root, "x")) == [b"a", b"b", b"c"]  # type: ignore[arg-type]
    assert await refusal(root, "x/d") is FileNotFoundError


async def test_what_is_here_is_shown_while_a_sub_bundle_is_on_its_way() -> None:
    world = World()
    late = serialized({"files": {"x/b": world.file(b"late"), "0": world.file(b"first")}})
    here = serialized({"files": {"x/c": world.file(b"here")}})
    bundles = sub_bundles(world.delay(late), world.put(here))
    root = world.open({"files": {"x/a": world.file(b"top")}, "bundles": bundles})
    folder = await at(root, "x")
    assert isinstance(folder, FolderNode)
    assert await read(root, "x/a") == b"top"
    assert await refusal(root, "x/b") is PeerTimeout
    assert await read(root, "x/c") == b"here"
    assert await listed(folder) == ([b"a", b"c"], PeerTimeout)
    assert await listed(root) == ([b"x"], PeerTimeout)
    world.put(late)
    assert await read(root, "x/b") == b"late"
    assert await names(folder) == [b"a", b"b", b"c"]
    assert await names(root) == [b"0", b"x"]
    assert await refusal(root, "x/d") is FileNotFoundError


async def test_a_name_that_is_here_waits_for_nothing() -> None:
    world = World()
    missing = world.delay(serialized({"files": {}}))
    root = world.open({"files": {"x/a": world.file(b"top")}, "bundles": sub_bundles(missing)})
    assert await read(root, "x/a") == b"top"
    assert world.asked[missing.id] == 0


async def test_a_name_is_found_as_soon_as_its_sub_bundle_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle_growth, "LOOK_SECONDS", 3600.0)
    world = World()
    never = world.delay(serialized({"files": {"n": main_file()}}))
    late = serialized({"files": {"late": main_file()}})
    here = world.put(serialized({"files": {"here": main_file()}}))
    bundles = sub_bundles(never, world.delay(late), here)
    root = world.open({"files": {}, "bundles": bundles})
    found: list[str] = []

    async def look(name: str) -> None:
        await at(root, name)
        found.append(name)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, "late")
            await look("here")
            assert found == ["here"]
            world.put(late)
        assert found == ["here", "late"]


@pytest.mark.parametrize(("most_seconds", "outcome"), [(3600.0, None), (0.0, PeerTimeout)])
async def test_a_look_waits_on_while_sub_bundles_keep_arriving(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    most_seconds: float,
    outcome: type[Exception] | None,
) -> None:
    monkeypatch.setattr(bundle_growth, "LOOK_SECONDS", 5.0)
    monkeypatch.setattr(bundle_growth, "MOST_SECONDS", most_seconds)
    world = World()
    late = [serialized({"files": {f"{number}": main_file()}}) for number in range(5)]
    root = world.open({"files": {}, "bundles": sub_bundles(*map(world.delay, late))})
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def arrive() -> None:
            for each in late:
                await trio.sleep(4)
                world.put(each)

        if outcome is None:
            assert (await at(root, "4")).appearance.size == 0
            assert trio.current_time() == 20
        else:
            assert await refusal(root, "4") is outcome
            assert trio.current_time() < 20


async def test_a_sub_bundle_that_nobody_has_is_asked_for_again() -> None:
    world = World()
    plaintext = serialized({"files": {"b": main_file()}})
    gone = world.seal(plaintext)
    root = world.open({"files": {"a": main_file()}, "bundles": sub_bundles(gone)})
    assert await listed(root) == ([b"a"], BlockNotFound)
    assert await refusal(root, "b") is BlockNotFound
    world.put(plaintext)
    assert (await at(root, "b")).appearance.size == 0


async def test_an_empty_listing_of_which_something_is_lacking_is_an_error() -> None:
    world = World()
    gone = world.seal(serialized({"files": {"b": main_file()}}))
    root = world.open({"files": {}, "bundles": sub_bundles(gone)})
    with pytest.raises(BlockNotFound):
        await root.children(b"", 10)


@pytest.mark.parametrize(
    "bad", [{"files": {"../b": main_file()}}, {"files": {"a": main_file(1)}}, {"files": 3}, []]
)
async def test_a_malformed_sub_bundle_is_told_where_a_name_may_be_in_it(bad: Any) -> None:
    world = World()
    fine = world.put(serialized({"files": {"c": main_file()}}))
    bundles = sub_bundles(world.put(serialized(bad)), fine)
    root = world.open({"files": {"a": main_file()}, "bundles": bundles})
    assert await refusal(root, "b") is FormatError
    assert await listed(root) == ([b"a", b"c"], FormatError)
    for name in ("a", "c"):
        assert (await at(root, name)).appearance.size == 0


@pytest.mark.parametrize(
    ("bundle", "error"),
    [
        ({"files": {"../a": main_file()}}, FormatError),
        ({"files": {"/etc/passwd": main_file()}}, FormatError),
        ({"files": {"a": main_file(), "a/b": main_file()}}, FormatError),
        ({"files": {}, "version": 2}, UnknownVersion),
        ({"nothing": "known"}, FormatError),
    ],
)
async def test_a_malformed_bundle_is_an_error_and_others_are_shown(
    bundle: Json, error: type[LibernetError]
) -> None:
    world = World()
    bad, good = world.open(bundle), world.open({"files": {"a": main_file()}})
    assert await refusal(bad, "a") is error
    with pytest.raises(error):
        await bad.children(b"", 10)
    assert await names(good) == [b"a"]


async def test_a_lying_size_is_an_error_of_its_own_file() -> None:
    world = World()
    chunk = str(world.put(b"ten bytes."))
    lying_part = {"contents": [{"size": 11, "url": chunk}], "size": 11, "modified": 0}
    files = {"file": world.file(b"ten bytes.", size=11), "part": lying_part}
    root = world.open({"files": files | {"good": world.file(b"good")}})
    assert await names(root) == [b"file", b"good", b"part"]
    with pytest.raises(FormatError, match="11 bytes"):
        await read(root, "file")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await read(root, "part")
    assert await read(root, "good") == b"good"


async def test_a_missing_block_is_an_error_of_its_own_range() -> None:
    world = World()
    contents = [
        {"size": 3, "url": str(each)}
        for each in (world.put(b"abc"), world.seal(b"def"), world.put(b"ghi"))
    ]
    root = world.open({"files": {"a": {"contents": contents, "modified": 0, "size": 9}}})
    node = await at(root, "a")
    assert isinstance(node, FileNode)
    assert bytes(await node.read(0, 3)) == b"abc"
    assert bytes(await node.read(6, 3)) == b"ghi"
    for offset, size in [(3, 3), (2, 2), (5, 2), (0, 9)]:
        with pytest.raises(BlockNotFound):
            await node.read(offset, size)


async def test_many_who_look_at_one_time_ask_once_for_each_sub_bundle() -> None:
    world = World()
    plaintexts = [serialized({"files": {f"{number}": main_file()}}) for number in range(40)]
    references = [world.put(each) for each in plaintexts]
    root = world.open({"files": {}, "bundles": sub_bundles(*references)})
    found: list[int] = []

    async def look(number: int) -> None:
        await at(root, f"{number}")
        found.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(look, number)
    assert len(found) == 40
    assert {world.asked[each.id] for each in references} == {1}


async def test_large_bundles_are_parsed_beside_the_event_loop() -> None:
    world = World()
    many = serialized({"files": {f"x/{number}": main_file(1) for number in range(2000)}})
    sub_bundle = serialized({"files": {f"y/{number}": main_file(1) for number in range(2000)}})
    assert len(many) > bundle_growth._INLINE_BYTES
    top = {"files": {f"x/{number}": main_file(1) for number in range(2000)}}
    root = world.open(top | {"bundles": sub_bundles(world.put(sub_bundle))})
    with trio.fail_after(10):
        assert (await at(root, "y/1999")).appearance.size == 10
        assert len(await names(await at(root, "x"), limit=500)) == 2000  # type: ignore[arg-type]


async def test_bundles_that_are_kept_have_so_many_entries_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle_view, "MAX_ENTRIES", 5)
    world = World()
    roots = [
        world.open({"files": {f"{number}/{each}": main_file() for each in "abc"}})
        for number in range(3)
    ]
    for root in roots:
        await names(root)
    assert len(world.bundles._opened) == 1
    for number, root in enumerate(roots):
        assert await names(await at(root, f"{number}")) == [b"a", b"b", b"c"]  # type: ignore[arg-type]


async def test_who_reads_a_small_file_gets_the_next_ones_ahead() -> None:
    world = World()
    files = {f"{number:02}": world.file(b"%d" % number) for number in range(30)}
    late = world.put(serialized({"files": {"00a": world.file(b"between")}}))
    root = world.open({"files": files, "bundles": sub_bundles(late)})
    await names(root, limit=100)
    await read(root, "00")
    assert len(world.brought) == 16
    assert world.seal(b"between").id in world.brought


async def test_thousands_of_folders_inside_each_other_can_be_walked() -> None:
    world = World()
    root = world.open({"files": {"a/" * 2000 + "b": world.file(b"deep")}})
    assert await read(root, "a/" * 2000 + "b") == b"deep"
