import hashlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from libernet.blocks import documents, folder_writer, page_writer
from libernet.blocks.documents import (
    MAX_LEVELS,
    Attributes,
    Document,
    FileEntry,
    Listing,
    Part,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import BlockTooLarge, FormatError
from libernet.blocks.folder_writer import (
    ALWAYS_INLINED_BYTES,
    INLINE_BYTES,
    ChildFolder,
    FolderDocument,
    FolderWriter,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.list_cuts import CutRule
from libernet.blocks.reference import Reference, Suite

FILE = Attributes(0o100644, 1000, 100, 1_700_000_000_123456789)
FOLDER = replace(FILE, mode=0o040755)
LINK = replace(FILE, mode=0o120777)


def reference_to(plaintext: bytes) -> Reference:
    digest = hashlib.sha256(plaintext).digest()
    return Reference(BlockId(digest), Suite.AES256GCM, digest[::-1])


class Blocks:
    """Keep plaintexts by their reference, as sealing and a store would."""

    def __init__(self) -> None:
        self.plaintexts: dict[Reference, bytes] = {}

    def put(self, plaintext: bytes) -> Reference:
        assert len(plaintext) <= MAX_CHUNK_BYTES
        reference = reference_to(plaintext)
        self.plaintexts[reference] = plaintext
        return reference

    def new_since(self, earlier: "Blocks") -> list[bytes]:
        return [self.plaintexts[each] for each in self.plaintexts.keys() - earlier.plaintexts]


@dataclass(frozen=True)
class File:
    attributes: Attributes
    parts: tuple[Part, ...] = ()
    target: bytes = b""


@dataclass(frozen=True)
class Folder:
    attributes: Attributes
    files: dict[bytes, File] = field(default_factory=dict)
    folders: dict[bytes, "Folder"] = field(default_factory=dict)


def written(writer: FolderWriter, folder: Folder) -> FolderDocument:
    return writer.folder(
        folder.attributes,
        [(name, entry(writer, file)) for name, file in sorted(folder.files.items())],
        [child_of(writer, name, written(writer, child)) for name, child in folder.folders.items()],
    )


def entry(writer: FolderWriter, file: File) -> Raw:
    if stat.S_ISLNK(file.attributes.mode):
        return writer.link(file.attributes, file.target)
    if not stat.S_ISREG(file.attributes.mode):
        return writer.special(file.attributes)
    return writer.file(file.attributes, sum(part.size for part in file.parts), file.parts)


def child_of(writer: FolderWriter, name: bytes, document: FolderDocument) -> ChildFolder:
    return ChildFolder(
        name=name,
        attributes=document.attributes,
        json_bytes=document.json_bytes,
        levels=document.levels,
        document=lambda: document.json,
        reference=lambda: writer.store(document),
    )


def read_folder(blocks: Blocks, reference: Reference) -> Folder:
    return as_folder(blocks, parse_document(blocks.plaintexts[reference]))


def as_folder(blocks: Blocks, document: Document) -> Folder:
    folder = Folder(document.attributes)
    for listing in listings(blocks, document):
        for name, file in listing.files.items():
            folder.files[name] = as_file(blocks, file)
        for name, child in listing.folders.items():
            folder.folders[name] = (
                as_folder(blocks, child.document)
                if child.document
                else read_folder(blocks, child.reference())
            )
            assert folder.folders[name].attributes == child.attributes
    return folder


def listings(blocks: Blocks, listing: Listing) -> Iterable[Listing]:
    yield listing
    for page in listing.pages:
        yield from listings(blocks, parse_page(blocks.plaintexts[page.reference()], page))


def as_file(blocks: Blocks, entry: FileEntry) -> File:
    if not entry.spilled:
        return File(entry.attributes(), tuple(entry.parts()), entry.target())
    parts: list[Part] = []
    for each in entry.part_lists():
        assert each.reference
        parts += parse_contents_list(blocks.plaintexts[each.reference], size=each.size)
    return File(entry.attributes(), tuple(parts))


def part(number: int, size: int = 500_000) -> Part:
    return Part(size, reference_to(b"%d" % number))


def parts(numbers: Iterable[int]) -> tuple[Part, ...]:
    return tuple(part(number) for number in numbers)


def store(folder: Folder) -> tuple[Blocks, Reference]:
    blocks = Blocks()
    writer = FolderWriter(blocks.put)
    return blocks, writer.store(written(writer, folder))


def small_file(number: int) -> File:
    return File(FILE, (part(number, number + 1),))


names = (
    st.text(min_size=1, max_size=50).map(str.encode) | st.binary(min_size=1, max_size=255)
).filter(lambda name: name not in {b".", b".."} and not set(b"/\0") & set(name))
attributes = st.builds(
    Attributes,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    link_group=st.integers(0, 2**63 - 1),
    xattr=st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name),
        st.binary(max_size=100),
        max_size=2,
    ),
)


def with_type(kind: int) -> st.SearchStrategy[Attributes]:
    return attributes.map(lambda each: replace(each, mode=each.mode | kind))


parts_of_files = st.lists(
    st.builds(Part, st.integers(1, 2**50), st.none())
    | st.builds(part, st.integers(), st.integers(1, 2**20)),
    max_size=3,
).map(tuple)
targets = st.binary(min_size=1, max_size=100) | st.text(min_size=1).map(str.encode)
files = (
    st.builds(File, with_type(stat.S_IFREG), parts_of_files)
    | st.builds(
        File,
        with_type(stat.S_IFLNK),
        target=targets.filter(lambda target: b"\0" not in target),
    )
    | st.builds(File, with_type(stat.S_IFIFO) | with_type(stat.S_IFSOCK))
    | st.builds(
        File,
        st.builds(replace, with_type(stat.S_IFBLK), rdev=st.integers(0, 2**32 - 1)),
    )
)


@st.composite
def folders(draw: st.DrawFn, depth: int = 3) -> Folder:
    used = draw(st.lists(names, unique=True, max_size=6))
    cut = draw(st.integers(0, len(used))) if depth else len(used)
    return Folder(
        draw(with_type(stat.S_IFDIR)),
        {name: draw(files) for name in used[:cut]},
        {name: draw(folders(depth - 1)) for name in used[cut:]},
    )


@given(folders())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back(folder: Folder) -> None:
    blocks, reference = store(folder)
    assert read_folder(blocks, reference) == folder


@given(folders())
@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_is_written_is_parsed_once(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> None:
    blocks, reference = store(folder)
    with monkeypatch.context() as patch:
        patch.setattr(documents.json, "loads", refused_document)
        read_folder(blocks, reference)


def test_the_pages_and_lists_that_are_written_are_parsed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {b"%05d" % number: small_file(number) for number in range(5000)}
    blocks, reference = store(Folder(FOLDER, files | {b"x": File(FILE, parts(range(9000)))}))
    assert len(blocks.plaintexts) > 5
    monkeypatch.setattr(documents.json, "loads", refused_document)
    read_folder(blocks, reference)


@given(folders(), st.randoms(use_true_random=False))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equal_folders_give_equal_blocks_in_whatever_order_they_are_listed(
    folder: Folder, random: Random
) -> None:
    def shuffled(folder: Folder) -> Folder:
        pairs, children = list(folder.files.items()), list(folder.folders.items())
        random.shuffle(pairs)
        random.shuffle(children)
        return Folder(
            folder.attributes, dict(pairs), {name: shuffled(child) for name, child in children}
        )

    assert store(folder)[1] == store(shuffled(folder))[1]


def test_the_bytes_of_a_small_document_are_known() -> None:
    folder = Folder(
        FOLDER,
        {
            b"a": File(replace(FILE, mode=0o100555), (part(1, 7), Part(9, None))),
            b"b": File(replace(FILE, xattr={b"user.x": b"\0"}, link_group=5)),
            b"\xff": File(LINK, target=b"\xe9"),
            '\u00e9"'.encode(): File(LINK, target="\u00e9".encode()),
            b"dev": File(replace(FILE, mode=stat.S_IFCHR | 0o600, rdev=0x103)),
        },
        {b"d": Folder(replace(FOLDER, mtime_ns=-1))},
    )
    times = '"modified":721692800.1234568,'
    unix = '"mtime_ns":1700000000123456789,"uid":1000'
    url = (
        "/sha256/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        "/aes256gcm/4b5b87b7dd521ec0491d2fa2eaa4ad47573f5aff4e806b9de1fc34ff73b2866b"
    )
    blocks, reference = store(folder)
    assert blocks.plaintexts[reference].decode() == (
        '{"directories":{"d":{"document":{"modified":-978307200.0,'
        '"unix":{"gid":100,"mode":16877,"mtime_ns":-1,"uid":1000},"version":1}}},'
        '"files":{'
        '"/%FF":{' + times + '"size":1,"unix":{"gid":100,"link":"%E9","mode":41471,' + unix + "}},"
        '"a":{"contents":[{"size":7,"url":"' + url + '"},{"size":9}],"executable":true,' + times
        + '"readonly":true,"size":16,"unix":{"gid":100,"mode":33133,' + unix + "}},"
        '"b":{"contents":[],' + times + '"size":0,"unix":{"gid":100,"link_group":5,"mode":33188,'
        + unix + ',"xattr":{"user.x":"AA=="}}},'
        '"dev":{' + times + '"size":0,"unix":{"gid":100,"mode":8576,'
        '"mtime_ns":1700000000123456789,"rdev":259,"uid":1000}},'
        '"\u00e9\\"":{"link":"\u00e9",'
        + times + '"size":2,"unix":{"gid":100,"mode":41471,' + unix + "}}},"
        + times + '"unix":{"gid":100,"mode":16877,' + unix + '},"version":1}'
    )  # fmt: skip


def test_a_name_that_occurs_twice_is_refused() -> None:
    writer = FolderWriter(Blocks().put)
    empty = writer.file(FILE, 0, ())
    child = child_of(writer, b"a", writer.folder(FOLDER, [], []))
    with pytest.raises(ValueError, match="twice"):
        writer.folder(FOLDER, [(b"a", empty), (b"a", empty)], [])
    with pytest.raises(ValueError, match="twice"):
        writer.folder(FOLDER, [(b"a", empty)], [child])
    with pytest.raises(FormatError):
        writer.folder(FOLDER, [(b"a/b", empty)], [])


def test_parts_must_make_up_the_file() -> None:
    with pytest.raises(ValueError, match="501 bytes"):
        FolderWriter(Blocks().put).file(FILE, 501, [part(1, 500)])


def refused_document() -> bytes:
    raise AssertionError("the document of a child that is not inlined was asked for")


def refused_reference() -> Reference:
    raise AssertionError("the reference of a child that is inlined was asked for")


def test_names_that_do_not_ascend_are_refused() -> None:
    writer = FolderWriter(Blocks().put)
    entries = [(name, entry(writer, small_file(1))) for name in (b"b", b"a")]
    with pytest.raises(ValueError, match="comes behind"):
        writer.folder(FOLDER, entries, [])


def test_of_a_wide_folder_one_page_is_in_memory_at_a_time() -> None:
    writer = FolderWriter((blocks := Blocks()).put)
    stored_before = []

    def entries() -> Iterable[tuple[bytes, Raw]]:
        for number in range(30_000):
            stored_before.append(sum(map(len, blocks.plaintexts.values())))
            yield b"%06d" % number, entry(writer, small_file(number))

    document = writer.folder(FOLDER, entries(), [])
    lag = document.json_bytes - stored_before[-1]
    assert document.json_bytes > 5 * MAX_CHUNK_BYTES
    assert lag < 2 * MAX_CHUNK_BYTES


def child_of_size(name: bytes, json_bytes: int, *, inlined: bool, levels: int = 1) -> ChildFolder:
    document = b'{"version":1,"filler":"'.ljust(json_bytes - 2, b"x") + b'"}'
    return ChildFolder(
        name=name,
        attributes=FOLDER,
        json_bytes=json_bytes,
        levels=levels,
        document=(lambda: document) if inlined else refused_document,
        reference=refused_reference if inlined else lambda: reference_to(name),
    )


def folder_with(children: Sequence[ChildFolder], files: int = 0) -> FolderDocument:
    writer = FolderWriter(Blocks().put)
    entries = [(b"%d" % number, entry(writer, small_file(number))) for number in range(files)]
    return writer.folder(FOLDER, sorted(entries), children)


def test_the_smallest_children_are_inlined_while_the_document_stays_under_its_limit() -> None:
    document = folder_with(
        [
            child_of_size(b"c", 20_000, inlined=True),
            child_of_size(b"b", 40_000, inlined=False),
            child_of_size(b"a", 30_000, inlined=True),
            child_of_size(b"e", 10_000, inlined=True),
        ]
    )
    assert 60_000 < document.json_bytes < INLINE_BYTES


def test_of_children_of_one_size_the_first_by_name_are_inlined() -> None:
    folder_with(
        [
            child_of_size(b"c", 25_000, inlined=False),
            child_of_size(b"b", 25_000, inlined=True),
            child_of_size(b"a", 25_000, inlined=True),
        ]
    )


def test_tiny_children_are_inlined_into_the_largest_document() -> None:
    document = folder_with(
        [
            child_of_size(b"tiny", ALWAYS_INLINED_BYTES, inlined=True),
            child_of_size(b"small", ALWAYS_INLINED_BYTES + 1, inlined=False),
        ],
        files=400,
    )
    assert document.json_bytes > INLINE_BYTES


def test_a_child_with_pages_is_never_inlined() -> None:
    document = folder_with([child_of_size(b"wide", MAX_CHUNK_BYTES + 1, inlined=False)])
    assert document.levels == 1


def test_a_document_counts_the_levels_of_folders_in_it() -> None:
    deepest = child_of_size(b"a", 500, inlined=True, levels=MAX_LEVELS - 1)
    too_deep = child_of_size(b"b", 500, inlined=False, levels=MAX_LEVELS)
    assert folder_with([]).levels == 1
    assert folder_with([deepest, child_of_size(b"c", 500, inlined=True)]).levels == MAX_LEVELS
    assert folder_with([too_deep]).levels == 1


def test_a_very_deep_tree_can_be_read() -> None:
    blocks = Blocks()
    writer = FolderWriter(blocks.put)
    document = writer.folder(FOLDER, [], [])
    for _ in range(1000):
        document = writer.folder(FOLDER, [], [child_of(writer, b"d", document)])
    opened = parse_document(blocks.plaintexts[writer.store(document)])
    depth = 0
    while child := opened.folders.get(b"d"):
        depth += 1
        opened = child.document or parse_document(blocks.plaintexts[child.reference()])
    assert depth == 1000
    assert 1000 // MAX_LEVELS <= len(blocks.plaintexts) <= 20


def test_a_tree_of_ten_thousand_files_is_some_tens_of_blocks() -> None:
    leaf = Folder(FOLDER, {b"file %d" % number: small_file(number) for number in range(10)})
    tree = Folder(
        FOLDER,
        folders={
            b"%d" % place: Folder(FOLDER, folders={b"%d" % each: leaf for each in range(30)})
            for place in range(33)
        },
    )
    blocks, reference = store(tree)
    assert len(blocks.plaintexts) < 100
    assert read_folder(blocks, reference) == tree


WIDE = Folder(FOLDER, {b"file %d.txt" % number: small_file(number) for number in range(30_000)})


@pytest.fixture(scope="module")
def wide() -> tuple[Blocks, Reference]:
    return store(WIDE)


def firsts(blocks: Blocks, reference: Reference) -> list[bytes]:
    return [page.first for page in parse_document(blocks.plaintexts[reference]).pages]


def test_a_wide_folder_is_read_back_from_pages(wide: tuple[Blocks, Reference]) -> None:
    blocks, reference = wide
    assert read_folder(blocks, reference) == WIDE
    sizes = sorted(len(plaintext) for plaintext in blocks.plaintexts.values())
    assert 20 < len(sizes) < 100
    assert sizes[-1] < 530_000
    assert sum(sizes) / len(sizes) > 150_000


def test_a_name_in_a_wide_folder_is_in_the_page_that_the_index_says(
    wide: tuple[Blocks, Reference],
) -> None:
    blocks, reference = wide
    index = parse_document(blocks.plaintexts[reference])
    for name in list(WIDE.files)[::1000]:
        page = index.page_of(name)
        assert page
        assert name in parse_page(blocks.plaintexts[page.reference()], page).files


def wide_with(files: dict[bytes, File], *, without: Sequence[bytes] = ()) -> Folder:
    kept = {name: file for name, file in WIDE.files.items() if name not in without}
    return Folder(FOLDER, kept | files)


@pytest.mark.parametrize(
    "changed",
    [
        wide_with({b"file 777.txt": File(replace(FILE, mtime_ns=1), (part(777, 778),))}),
        wide_with({b"file 777.txt": File(FILE, parts(range(20)))}),
        wide_with({b"file 777.txt": File(FILE)}),
    ],
    ids=["time", "larger", "empty"],
)
def test_a_changed_file_rewrites_its_page_and_the_index(
    changed: Folder, wide: tuple[Blocks, Reference]
) -> None:
    blocks, reference = store(changed)
    assert firsts(blocks, reference) == firsts(*wide)
    assert len(blocks.new_since(wide[0])) == 2


def test_a_page_that_gets_too_large_is_cut_within_itself(wide: tuple[Blocks, Reference]) -> None:
    name = b"file 777.txt"
    page = parse_document(wide[0].plaintexts[wide[1]]).page_of(name)
    assert page
    listed = parse_page(wide[0].plaintexts[page.reference()], page).files
    large = {each: File(FILE, parts(range(40))) for each in listed}
    blocks, reference = store(wide_with(large))
    assert set(firsts(blocks, reference)) > set(firsts(*wide))
    new_pages = len(firsts(blocks, reference)) - len(firsts(*wide)) + 1
    assert len(blocks.new_since(wide[0])) == new_pages + 1


def test_the_times_of_all_files_move_no_cut(wide: tuple[Blocks, Reference]) -> None:
    touched = {
        name: replace(file, attributes=replace(FILE, mtime_ns=10**9 * number))
        for number, (name, file) in enumerate(WIDE.files.items())
    }
    assert firsts(*store(wide_with(touched))) == firsts(*wide)


@pytest.mark.parametrize("name", [b"file 777.new", b"\0x01"[1:], b"zzz", b"\xff", b"file 2"])
def test_an_inserted_file_rewrites_a_few_blocks(
    name: bytes, wide: tuple[Blocks, Reference]
) -> None:
    blocks, _ = store(wide_with({name: small_file(1)}))
    assert len(blocks.new_since(wide[0])) <= 4


def test_a_removed_file_rewrites_a_few_blocks_also_where_a_page_starts_with_it(
    wide: tuple[Blocks, Reference],
) -> None:
    for name in firsts(*wide)[:5]:
        blocks, _ = store(wide_with({}, without=[name]))
        assert len(blocks.new_since(wide[0])) <= 4


def test_too_many_pages_for_one_index_are_paged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_writer, "MAX_CHUNK_BYTES", 8 * 1024)
    monkeypatch.setattr(page_writer, "MAX_CHUNK_BYTES", 8 * 1024)
    monkeypatch.setattr(page_writer, "_PAGE_RULE", CutRule(4, 4, 2 * 1024))
    some = Folder(
        FOLDER,
        {b"%d" % number: small_file(number) for number in range(6000)},
        {b"folder %d" % number: Folder(FOLDER) for number in range(100)},
    )
    blocks, reference = store(some)
    assert read_folder(blocks, reference) == some
    deepest = max(
        page.level
        for listing in listings(blocks, parse_document(blocks.plaintexts[reference]))
        for page in listing.pages
    )
    assert deepest == 3
    assert max(map(len, blocks.plaintexts.values())) <= 8 * 1024
    changed = replace(some, files=some.files | {b"777": File(FILE)})
    assert len(store(changed)[0].new_since(blocks)) == 4


def test_a_folder_with_extended_attributes_near_the_limit_can_still_be_paged() -> None:
    xattr = {b"user.%d" % number: bytes(4 * 1024) for number in range(100)}
    folder = replace(wide_with({}), attributes=replace(FOLDER, xattr=xattr))
    blocks, reference = store(folder)
    assert read_folder(blocks, reference) == folder
    too_many = replace(
        FOLDER, xattr={b"user.%d" % number: bytes(4 * 1024) for number in range(200)}
    )
    with pytest.raises(BlockTooLarge):
        FolderWriter(blocks.put).folder(too_many, [], [])


def test_large_values_of_extended_attributes_stand_in_blocks_of_their_own() -> None:
    large, small = bytes(range(256)) * 16 + b"1", bytes(4 * 1024)
    attributes = replace(FILE, xattr={b"user.large": large, b"user.small": small})
    blocks = Blocks()
    writer = FolderWriter(blocks.put)
    folder = replace(attributes, mode=FOLDER.mode)
    child = writer.folder(folder, [(b"f", writer.file(attributes, 0, []))], [])
    document = parse_document(blocks.plaintexts[writer.store(child)])
    for found in (document.attributes, document.files[b"f"].attributes()):
        assert found.xattr == {b"user.small": small}
        [(name, reference)] = found.xattr_urls.items()
        assert (name, blocks.plaintexts[reference]) == (b"user.large", large)


def spilled(numbers: Iterable[int]) -> tuple[Blocks, Reference, Folder]:
    folder = Folder(FOLDER, {b"large": File(FILE, parts(numbers))})
    blocks, reference = store(folder)
    return blocks, reference, folder


def test_the_parts_of_a_large_file_spill_into_lists() -> None:
    blocks, reference, folder = spilled(range(10_000))
    assert read_folder(blocks, reference) == folder
    document = blocks.plaintexts[reference]
    lists = parse_document(document).files[b"large"].part_lists()
    assert 5 <= len(lists) <= 20
    assert len(document) < 5000


def test_few_parts_stay_in_the_entry() -> None:
    blocks, reference, folder = spilled(range(370))
    assert len(blocks.plaintexts) == 1
    assert read_folder(blocks, reference) == folder
    assert len(spilled(range(390))[0].plaintexts) > 1


def test_a_changed_or_inserted_part_rewrites_its_list_and_the_document() -> None:
    before = spilled(range(10_000))[0]
    changed = [*range(5000), -1, *range(5001, 10_000)]
    inserted = [*range(5000), -1, *range(5000, 10_000)]
    assert len(spilled(changed)[0].new_since(before)) == 2
    assert len(spilled(inserted)[0].new_since(before)) == 2


@pytest.mark.parametrize("of", [part(1), Part(5, None)], ids=["one chunk", "holes"])
def test_a_file_of_equal_parts_spills_too(of: Part) -> None:
    folder = Folder(FOLDER, {b"even": File(FILE, (of,) * 10_000)})
    blocks, reference = store(folder)
    assert read_folder(blocks, reference) == folder
