"""Streams of LBRYnet as folders of one file: `sha384/SD_HASH/FILE`.

A descriptor says how many bytes are stored in each blob, not how many of the file it holds: that
shows in its padding. So blobs are opened to know where the others begin and how long the file is:
one of each stored length, and the last. All others of that length are taken to hold as much, which
is looked at again when they are read. Where that is not so, reading fails, and from then on every
blob is opened to know where the next one begins.
"""

import errno
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import msgspec
import trio

from libernet.blocks.blobs import CIPHER_BYTES
from libernet.blocks.descriptors import Descriptor, parse_descriptor
from libernet.blocks.errors import FormatError, LibernetError, PeerTimeout
from libernet.blocks.ids import BlobId
from libernet.blocks.source import BlockSource
from libernet.blocks.streams import StreamAddress
from libernet.fs.ahead import Reading
from libernet.fs.bundle_growth import LOOK_SECONDS
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import Appearance, FileNode, FolderNode, Node
from libernet.fs.tree import os_error

_STREAMS = 8
"""Descriptors kept: up to 3 MB each."""


class Stream:
    """The file of one stream, as far as its blobs can be had.

    State
      _held      how much of the file a blob holds, by _kind, once one of that kind was opened
      _ends      the offset in the file at which each of the first blobs ends
      _is_even   whether, as far as is known, blobs that are equally long hold as much
    """

    def __init__(
        self, descriptor: Descriptor, chunks: ChunkCache, is_here: Callable[[BlobId], bool]
    ) -> None:
        self.descriptor = descriptor
        self._chunks = chunks
        self._is_here = is_here
        self._held: dict[int, int] = {}
        self._ends: list[int] = []
        self._is_even = True

    async def size(self) -> int:
        """Return how long the file is; nobody is asked for blobs that are not here.

        Where one is not that shows it, this is the most it can be, up to 15 bytes too many for each
        blob: nobody can read to the end then. Raises PeerTimeout when too many blobs must be
        opened, and goes on from there the next time.
        """
        blobs = self.descriptor.blobs
        with trio.move_on_after(LOOK_SECONDS):
            with suppress(LibernetError):  # lost or damaged: whoever reads is told
                while len(self._ends) < len(blobs) and self._can_extend():
                    await self._extend()
            return self.most_bytes()
        raise PeerTimeout("the stream has blobs of too many lengths to open them all: look again")

    def most_bytes(self) -> int:
        """Return how long the file is at most, by what is known already."""
        blobs = self.descriptor.blobs
        known = self._ends[-1] if self._ends else 0
        rest = range(len(self._ends), len(blobs))
        return known + sum(self._held.get(self._kind(n), blobs[n].length - 1) for n in rest)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes at *offset*, fewer only at the end; LibernetError if not."""
        pieces = []
        end = offset + size
        while offset < end:
            number = await self._blob_at(offset)
            if number is None:
                break
            begin, next_begin = self._ends[number - 1] if number else 0, self._ends[number]
            piece = await self._piece(number)
            if begin + len(piece) != next_begin:
                self._forget_ends()
                raise FormatError(
                    f"blobs of stream {self.descriptor.sd_hash} are equally long and hold different"
                    " amounts: look into its folder again, and then read it from the start"
                )
            pieces.append(memoryview(piece)[offset - begin : end - begin])
            offset = next_begin
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ahead(self, offset: int, length: int, reading: Reading | None = None) -> None:
        """Start to load the blobs of a range that a reader will come to next."""
        blobs = self.descriptor.blobs
        number = bisect_right(self._ends, offset)
        while length > 0 and number < len(blobs):
            self._chunks.prefetch(self.descriptor.reference(number), reading=reading)
            length -= blobs[number].length
            number += 1

    async def _blob_at(self, offset: int) -> int | None:
        """Return the number of the blob that holds the byte at *offset*, None behind the end."""
        while not self._ends or self._ends[-1] <= offset:
            if len(self._ends) == len(self.descriptor.blobs):
                return None
            await self._extend()
        return bisect_right(self._ends, offset)

    async def _extend(self) -> None:
        """Find out where one more blob ends."""
        number = len(self._ends)
        kind = self._kind(number)
        if kind not in self._held:
            self._held[kind] = len(await self._piece(number))
        if number == len(self._ends):  # else somebody was faster
            begin = self._ends[-1] if number else 0
            self._ends.append(begin + self._held[kind])

    def _can_extend(self) -> bool:
        number = len(self._ends)
        return self._kind(number) in self._held or self._is_here(self.descriptor.blobs[number].id)

    def _kind(self, number: int) -> int:
        """Return what blobs share that hold as much: their stored length, unless they are odd."""
        blobs = self.descriptor.blobs
        is_odd = number == len(blobs) - 1 or not self._is_even
        return -1 - number if is_odd else blobs[number].length

    def _forget_ends(self) -> None:
        self._is_even = False
        self._held.clear()
        self._ends.clear()

    async def _piece(self, number: int) -> bytes:
        piece = await self._chunks.get(self.descriptor.reference(number))
        padding = self.descriptor.blobs[number].length - len(piece)
        if not 1 <= padding <= CIPHER_BYTES:
            raise FormatError(
                f"blob {number} of stream {self.descriptor.sd_hash} is not as long as this says"
            )
        return piece


class Streams:
    """Open streams by the hashes of their descriptors.

    State: _opened, the least recently used first. *is_here* says whether a blob can be had without
    asking anybody.
    """

    def __init__(
        self, source: BlockSource, chunks: ChunkCache, is_here: Callable[[BlobId], bool]
    ) -> None:
        self._source = source
        self._chunks = chunks
        self._is_here = is_here
        self._opened: OrderedDict[BlobId, Stream] = OrderedDict()

    async def open(self, sd_hash: BlobId) -> Stream:
        """Return a stream; FormatError where the blob describes none.

        Waits for its descriptor no longer than LOOK_SECONDS, then raises PeerTimeout.
        """
        if sd_hash not in self._opened:
            descriptor = await self._descriptor(sd_hash)
            self._opened.setdefault(sd_hash, Stream(descriptor, self._chunks, self._is_here))
        stream = self._opened[sd_hash]
        self._opened.move_to_end(sd_hash)
        if len(self._opened) > _STREAMS:
            self._opened.popitem(last=False)
        return stream

    async def _descriptor(self, sd_hash: BlobId) -> Descriptor:
        with trio.move_on_after(LOOK_SECONDS):
            return await self._source.get(sd_hash, parse_descriptor)
        raise PeerTimeout(f"the descriptor {sd_hash} did not come within {LOOK_SECONDS:g} s")


class StreamsFolder(FolderNode):
    """`sha384/`: answered from syntax alone, listed empty."""

    __slots__ = ("_streams",)

    def __init__(self, appearance: Appearance, streams: Streams) -> None:
        super().__init__(appearance)
        self._streams = streams

    async def lookup(self, name: bytes) -> Node:
        try:
            sd_hash = BlobId.parse(name.decode("ascii"))
        except (UnicodeDecodeError, FormatError):
            raise os_error(errno.ENOENT) from None
        return StreamFolder(self.appearance, self._streams, sd_hash)

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        return []


class StreamFolder(FolderNode):
    """`sha384/SD_HASH/`: one file, under the name that the descriptor suggests, made safe."""

    __slots__ = ("_sd_hash", "_streams")
    is_lasting = False  # in bundles/ its name may lead to another one

    def __init__(self, appearance: Appearance, streams: Streams, sd_hash: BlobId) -> None:
        super().__init__(appearance)
        self._streams = streams
        self._sd_hash = sd_hash

    @property
    def identity(self) -> BlobId:
        return self._sd_hash

    async def lookup(self, name: bytes) -> Node:
        stream = await self._streams.open(self._sd_hash)
        if name != stream.descriptor.file_name:
            raise os_error(errno.ENOENT)
        return self._file(stream, await stream.size())

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        stream = await self._streams.open(self._sd_hash)
        name = stream.descriptor.file_name
        # No blob is opened for a listing: whoever wants to know the size is told by a look-up.
        return [(name, self._file(stream, stream.most_bytes()))] if name > after else []

    def address(self) -> str:
        return str(StreamAddress(self._sd_hash, None))

    def _file(self, stream: Stream, size: int) -> Node:
        look = self.appearance
        mode = stat.S_IFREG | 0o444
        appearance = Appearance(mode, size, look.uid, look.gid, look.mtime_ns)
        reference = StreamAddress(self._sd_hash, stream.descriptor.file_name)
        return StreamFile(appearance, stream, reference)


class StreamFile(FileNode):
    """The file of a stream. Its size may be known better at the next look-up."""

    __slots__ = ("_reference", "_stream")
    is_lasting = False

    def __init__(self, appearance: Appearance, stream: Stream, reference: StreamAddress) -> None:
        super().__init__(appearance)
        self._stream = stream
        self._reference = reference

    def address(self) -> str:
        return str(self._reference)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        return await self._stream.read(offset, size)

    async def measured(self) -> "StreamFile":
        await self._stream.read(max(self.appearance.size - 1, 0), 1)  # that opens what tells
        appearance = msgspec.structs.replace(self.appearance, size=await self._stream.size())
        return StreamFile(appearance, self._stream, self._reference)

    def read_ahead(self, offset: int, length: int, reading: Reading | None = None) -> None:
        self._stream.read_ahead(offset, length, reading)
