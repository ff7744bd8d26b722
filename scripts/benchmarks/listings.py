"""What documents of large backups cost: opening, looking up, listing and storing a change."""

import random
import stat
import time
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Raw

from benchmarks.rounds import Samples, say
from libernet.blocks.documents import Document, FolderEntry, Listing, parse_document, parse_page
from libernet.blocks.entries import Attributes, Part
from libernet.blocks.folder_writer import ChildFolder, FolderDocument, FolderWriter
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import Sealer, unseal

FILES_IN_FOLDER = 20

_FOLDER = Attributes(stat.S_IFDIR | 0o755, 1000, 1000, 1_700_000_000_000_000_000)
_FILE = Attributes(stat.S_IFREG | 0o644, 1000, 1000, 1_700_000_000_123_456_789)


class Blocks:
    """Sealed documents by id, in memory; `new_bytes` counts what was not there before."""

    def __init__(self) -> None:
        self._sealer = Sealer(bytes(32))
        self._blocks: dict[BlockId, bytes] = {}
        self.new_bytes = 0

    def put(self, plaintext: bytes) -> Reference:
        """Seal and keep a document."""
        reference, block = self._sealer.seal(plaintext)
        if reference.id not in self._blocks:
            self._blocks[reference.id] = block
            self.new_bytes += len(block)
        return reference

    def get(self, reference: Reference) -> bytes:
        """Return the plaintext of a document, checked."""
        block = self._blocks[reference.id]
        assert BlockId.of(block) == reference.id
        return unseal(reference, block)


class Listings:
    """Builds backups of many files and measures their documents.

    State: samples.
    """

    def __init__(self) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def run(self, files: int) -> None:
        """Measure one folder of so many *files*, and as many in folders of 20 (2 min for 10^6)."""
        for figure, write in (("wide", _write_wide), ("deep", _write_deep)):
            say(f"documents of {files:,} files, {figure}")
            blocks = Blocks()
            root = write(blocks, files, None)
            began = time.perf_counter()
            top = parse_document(blocks.get(root))
            _first_entries(blocks, top)
            self._record(f"{figure}.opened", time.perf_counter() - began)
            began = time.perf_counter()
            count = sum(1 for _ in _names(blocks, top))
            self._record(f"{figure}.listed", count / (time.perf_counter() - began))
            assert count >= files
            before = blocks.new_bytes
            write(blocks, files, files // 2)
            self._record(f"{figure}.changed", blocks.new_bytes - before)

    def _record(self, figure: str, value: float) -> None:
        self.samples[f"listing.{figure}"]["libernet"].append(value)


def _file(writer: FolderWriter, number: int, changed: int | None) -> Raw:
    numbers = random.Random(f"{number} changed" if number == changed else str(number))
    size = numbers.randrange(1, 100_000)
    chunk = Reference(BlockId(numbers.randbytes(32)), Suite.AES256GCM, numbers.randbytes(32))
    return writer.file(_FILE, size, [Part(size, chunk)])


def _write_wide(blocks: Blocks, files: int, changed: int | None) -> Reference:
    writer = FolderWriter(blocks.put)
    entries = [(b"%07d.jpg" % n, _file(writer, n, changed)) for n in range(files)]
    return writer.store(writer.folder(_FOLDER, entries, []))


def _write_deep(blocks: Blocks, files: int, changed: int | None) -> Reference:
    """Write folders of 20 files, 200 of these in each folder of the root."""
    writer = FolderWriter(blocks.put)
    leaves = []
    for first in range(0, files, FILES_IN_FOLDER):
        numbers = range(first, first + FILES_IN_FOLDER)
        entries = [(b"%07d.txt" % n, _file(writer, n, changed)) for n in numbers]
        leaves.append(_child(writer, b"%06d" % first, writer.folder(_FOLDER, entries, [])))
    middle = [
        _child(writer, b"%06d" % at, writer.folder(_FOLDER, [], leaves[at : at + 200]))
        for at in range(0, len(leaves), 200)
    ]
    return writer.store(writer.folder(_FOLDER, [], middle))


def _child(writer: FolderWriter, name: bytes, document: FolderDocument) -> ChildFolder:
    return ChildFolder(
        name=name,
        attributes=_FOLDER,
        json_bytes=document.json_bytes,
        levels=document.levels,
        document=lambda: document.json,
        reference=lambda: writer.store(document),
    )


def _first_entries(blocks: Blocks, listing: Listing) -> None:
    """Read what a listing of the first entries, and a look-up in the middle, needs."""
    for page in listing.pages[:1] + listing.pages[len(listing.pages) // 2 :][:1]:
        _first_entries(blocks, parse_page(blocks.get(page.reference()), page))


def _names(blocks: Blocks, listing: Listing) -> Iterator[bytes]:
    """Yield every name at and below a folder."""
    for page in listing.pages:
        yield from _names(blocks, parse_page(blocks.get(page.reference()), page))
    yield from listing.files
    for name, folder in listing.folders.items():
        yield name
        yield from _names(blocks, _document(blocks, folder))


def _document(blocks: Blocks, folder: FolderEntry) -> Document:
    return folder.document or parse_document(blocks.get(folder.reference()))
