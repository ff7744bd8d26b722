"""Writing bundles that the original Libernet restores: flat, in the dialect of its branch main.

One JSON document lists all files by their paths; what does not fit in it stands in sub-bundles of
files only, on one level. All blocks are in the suite aes256. What each key means stands in
README.md. Equal trees give equal bundles, but for what another zlib makes of the blocks.
"""

import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import Buffer

from libernet.blocks.entries import modified_seconds
from libernet.blocks.errors import LibernetError
from libernet.blocks.flat_bundles import MAX_ENTRIES, MAX_PATH_CHARACTERS
from libernet.blocks.flat_entries import name_bytes
from libernet.blocks.flat_tree import MAX_SUB_BUNDLES
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.reference import Reference, Suite

Json = dict[str, Any]

_EMPTY: Final = len('{"files":{}}')
_COMMA: Final = 1


@dataclass(frozen=True, slots=True)
class FlatFile:
    """Hold what a flat bundle says of a file; of a link to one also *link*, its text.

    *mode* has the permission bits. *parts* opens the chunks in file order, all but the last of
    MAX_PUBLIC_CHUNK_BYTES bytes; all that a link has but *link* is its target's.
    """

    size: int
    mtime_ns: int
    mode: int
    parts: Sequence[Reference]
    link: bytes | None = None

    def keys(self) -> Json:
        """Return what stands in the document's JSON."""
        sized = zip(parts_of(self.size), self.parts, strict=True)
        keys: Json = {
            "contents": [{"size": size, "url": str(part)} for (_, size), part in sized],
            "modified": modified_seconds(self.mtime_ns),
            "size": self.size,
        }
        if not self.mode & stat.S_IWUSR:
            keys["readonly"] = True
        if self.mode & stat.S_IXUSR:
            keys["executable"] = True
        if self.link is not None:
            keys["link"] = _text(self.link)
        return keys


class FlatWriter:
    """Write one bundle; any thread may, one at a time.

    Paths are relative, their names such as files can have. State
      blocks         the ids of all blocks that were put, those of the files among them
      _files         what the document that is being filled says of files, by path
      _files_bytes   how long that document would be
      _folders       the text of links to folders, and None for each folder without a file below
      _bundles       the sub-bundles that are full
      _entries       how many files, links and folders there are
    """

    def __init__(self, put: Callable[[BlockId, Buffer], None]) -> None:
        """Begin an empty bundle, whose blocks are given to *put*."""
        self.blocks: set[BlockId] = set()
        self._put = put
        self._files: dict[str, Json] = {}
        self._files_bytes = _EMPTY
        self._folders: dict[str, str | None] = {}
        self._bundles: list[Reference] = []
        self._entries = 0

    def store(self, chunk: Buffer) -> Reference:
        """Put one block with the next at most MAX_PUBLIC_CHUNK_BYTES of a file."""
        reference, block = seal_public(chunk)
        self._put(reference.id, block)
        self.blocks.add(reference.id)
        return reference

    def add_file(self, path: bytes, file: FlatFile) -> None:
        """Add a file, or a link to one, for which `lacks_room` has found nothing to say."""
        self._count()
        text, keys = _text(path), file.keys()
        size_bytes = _entry_bytes(text, keys)
        if self._files_bytes + size_bytes > MAX_PUBLIC_CHUNK_BYTES:
            self._end_sub_bundle()
        self._files[text] = keys
        self._files_bytes += size_bytes
        above = text.rpartition("/")[0]
        while above in self._folders:  # now there is a file below, and below all that it stands in
            del self._folders[above]
            above = above.rpartition("/")[0]

    def add_folder(self, path: bytes, link: bytes | None = None) -> None:
        """Add a folder before what is in it, or a link to a folder with the text *link*."""
        self._count()
        self._folders[_text(path)] = None if link is None else _text(link)

    def write(self, index: bytes | None = None) -> tuple[Reference, list[bytes]]:
        """Put the documents; return what opens the bundle, and which folders it does not have.

        Folders without files, and links to folders, fit in only as far as the top document does
        not get too long. *index* names the file in the top folder that stands for the bundle.
        """
        if self._files and len(_json(self._top(index, self._folders))) > MAX_PUBLIC_CHUNK_BYTES:
            self._end_sub_bundle()
        left_out = self._shorten_folders(MAX_PUBLIC_CHUNK_BYTES - len(_json(self._top(index, {}))))
        return self.store(_json(self._top(index, self._folders))), left_out

    def _top(self, index: bytes | None, folders: Mapping[str, str | None]) -> Json:
        keys: Json = {"files": self._files}
        if folders:
            keys["directories"] = folders
        if self._bundles:
            keys["bundles"] = [str(each) for each in self._bundles]
        if index is not None:
            keys["index"] = _text(index)
        return keys

    def _shorten_folders(self, room_bytes: int) -> list[bytes]:
        """Take out of _folders what is too much for *room_bytes*, and return it."""
        room_bytes -= len('"directories":{},')
        left_out = []
        for text in sorted(self._folders):
            room_bytes -= _entry_bytes(text, self._folders[text])
            if room_bytes < 0:
                left_out.append(name_bytes(text))
                del self._folders[text]
        return left_out

    def _end_sub_bundle(self) -> None:
        if len(self._bundles) == MAX_SUB_BUNDLES:
            raise LibernetError(f"this needs more than {MAX_SUB_BUNDLES} sub-bundles")
        self._bundles.append(self.store(_json({"files": self._files})))
        self._files = {}
        self._files_bytes = _EMPTY

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise LibernetError(f"a flat bundle has at most {MAX_ENTRIES} files and folders")


def parts_of(size: int) -> Iterator[tuple[int, int]]:
    """Yield where each part of a file of *size* bytes begins, and how long it is."""
    for offset in range(0, size, MAX_PUBLIC_CHUNK_BYTES):
        yield offset, min(MAX_PUBLIC_CHUNK_BYTES, size - offset)


def lacks_room(path: bytes, size: int = 0, link: bytes | None = None) -> str | None:
    """Return why a flat bundle cannot hold a file, folder or link at *path*; None if it can.

    A file is never split over documents, so its parts and its path must fit in one.
    """
    text = _text(path)
    if len(text) > MAX_PATH_CHARACTERS:
        return f"has a path of more than {MAX_PATH_CHARACTERS} characters"
    part_count = -(-size // MAX_PUBLIC_CHUNK_BYTES)
    rest = FlatFile(0, 1 - 2**63, stat.S_IXUSR, [], link).keys() | {"size": size}
    if _EMPTY + _entry_bytes(text, rest) + part_count * _PART_BYTES > MAX_PUBLIC_CHUNK_BYTES:
        return f"has {size} bytes, more than one document of a flat bundle can list"
    return None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _json(keys: Any) -> bytes:
    return json.dumps(keys, sort_keys=True, separators=(",", ":")).encode()


def _entry_bytes(text: str, keys: Any) -> int:
    return len(_json({text: keys})) - len("{}") + _COMMA


_ANY = Reference(BlockId(bytes(32)), Suite.AES256, bytes(32))
_PART_BYTES = len(_json({"size": MAX_PUBLIC_CHUNK_BYTES, "url": str(_ANY)})) + _COMMA
