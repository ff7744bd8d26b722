"""What documents of large backups cost: opening, looking up, listing and storing a change."""

import json
import random
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from msgspec import Raw

from benchmarks import openings
from benchmarks.commands import said_by
from benchmarks.rounds import Samples, say
from libernet.blocks.documents import Document, FolderEntry, Listing, parse_document, parse_page
from libernet.blocks.entries import Attributes, Part
from libernet.blocks.folder_writer import ChildFolder, FolderDocument, FolderWriter
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import Sealer, unseal
from libernet.blocks.store import Store

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

    def save(self, folder: Path) -> None:
        """Put all of them into a new store."""
        with Store(folder, reserve_bytes=0) as store:
            for block_id, block in self._blocks.items():
                store.put(block_id, block)
            store.flush()

    def get(self, reference: Reference) -> bytes:
        """Return the plaintext of a document, checked."""
        block = self._blocks[reference.id]
        assert BlockId.of(block) == reference.id
        return unseal(reference, block)


class Listings:
    """Builds backups of many files and measures their documents.

    State: samples. A store for what another process opens is made in a new folder in *work*.
    """

    def __init__(self, work: Path) -> None:
        self._folder = work / "listing"
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def run(self, files: int) -> None:
        """Measure one folder of so many *files*, and as many in folders of 20 (2 min for 10^6)."""
        for figure, write in (("wide", _write_wide), ("deep", _write_deep)):
            say(f"documents of {files:,} files, {figure}")
            blocks = Blocks()
            root = write(blocks, files, None)
            self._open(figure, blocks, root)
            top = parse_document(blocks.get(root))
            began = time.perf_counter()
            count = sum(1 for _ in _names(blocks, top))
            self._record(f"{figure}.listed", count / (time.perf_counter() - began))
            assert count >= files
            before = blocks.new_bytes
            write(blocks, files, files // 2)
            self._record(f"{figure}.changed", blocks.new_bytes - before)

    def _open(self, figure: str, blocks: Blocks, root: Reference) -> None:
        blocks.save(self._folder)
        answer = said_by(openings, self._folder, str(root), seconds=60)
        found: dict[str, float] = json.loads(answer)
        self._record(f"{figure}.opened", found["seconds"])
        self._record(f"{figure}.opened_memory", found["bytes"])
        shutil.rmtree(self._folder)

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
