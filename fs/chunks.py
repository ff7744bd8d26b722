"""Unsealed chunks: a bounded cache in front of wherever blocks come from."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import trio

from libernet.blocks.blobs import BlobReference, unseal_blob
from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import StoredId
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.source import BlockSource, Origin
from libernet.fs.ahead import Ahead, Reading

_log = logging.getLogger(__name__)

_CACHE_BYTES = 48 * 1024 * 1024
_AHEAD_TASKS = 32  # for a peer far away: twice its connections, so that none is idle
_AHEAD_CHUNKS = 32  # what may wait to be loaded ahead

MAX_AHEAD_BYTES = 24 * 1024 * 1024
"""How far a file is read ahead at most: half of the cache, so that nothing goes before it is read.
With what is on its way the mark of 200 MiB for the whole process is kept."""

_LONG_SECONDS = 5.0
_ECHO_SECONDS = 1.0
"""What the kernel could not read ahead it asks for once more, for the page that a program waits
for. When the first time took longer than _LONG_SECONDS, the same error answers the second at once:
else read(2) would wait for twice the deadline (measured: 54 s instead of 27)."""

ChunkReference = Reference | BlobReference
"""What names a chunk of a file and opens it: a block of ours or of the original's, or a blob."""


class _Loading:
    """A chunk on its way: what wakes those who wait for it, and why it did not come."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: LibernetError | None = None


class _Echo:
    """The error of a chunk that was waited for in vain, and until when it answers."""

    __slots__ = ("error", "until")

    def __init__(self, error: LibernetError) -> None:
        self.error = error
        self.until = trio.current_time() + _ECHO_SECONDS


class ChunkCache:
    """Get chunks by reference, each one once however many readers wait.

    State
      _chunks   by reference (id and key, suite or IV), the least recently used first
      _bytes    their lengths together, at most _CACHE_BYTES after each call
      _loading  those on their way
      _ahead    those that are loaded ahead, or wait for that
      _echoes   errors that took long, for a moment
      hits      how often a chunk was given that was here or on its way; misses, how often not
    Tasks
      run() holds the tasks that read ahead, at most _AHEAD_TASKS at one time. An error goes to
      all who waited for the chunk and is not kept, but for _echoes: whoever asks next tries again.
    """

    def __init__(self, source: BlockSource, is_here: Callable[[StoredId], bool]) -> None:
        """Read from *source*; *is_here* says which blocks it has on this machine."""
        self._source = source
        self._is_here = is_here
        self._chunks: OrderedDict[ChunkReference, bytes] = OrderedDict()
        self._bytes = 0
        self.hits = self.misses = 0
        self._loading: dict[ChunkReference, _Loading] = {}
        self._ahead: dict[ChunkReference, Ahead] = {}
        self._echoes: dict[ChunkReference, _Echo] = {}
        self._send, self._receive = trio.open_memory_channel[ChunkReference](_AHEAD_CHUNKS)

    async def run(self) -> None:
        """Read ahead until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AHEAD_TASKS):
                nursery.start_soon(self._read_ahead)

    def prefetch(
        self,
        reference: ChunkReference,
        origin: Origin | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Start to load a chunk, until *reading* gives it up; nothing when enough is on its way."""
        ahead = self._ahead.get(reference)
        if ahead is None or ahead.scope.cancel_called:
            if ahead is not None or self._is_known(reference):
                return
            try:
                self._send.send_nowait(reference)
            except trio.WouldBlock:
                return
            ahead = self._ahead[reference] = Ahead(origin)
        ahead.join(reading)

    def ahead_bytes(self, origin: Origin | None, usual: int) -> int:
        """Return how far to read ahead: as the source says, *usual* bytes if it cannot."""
        return min(self._source.ahead_bytes(origin) or usual, MAX_AHEAD_BYTES)

    def is_near(self, reference: ChunkReference) -> bool:
        """Return whether a chunk can be had without asking another machine."""
        return reference in self._chunks or self._is_here(reference.id)

    def bring(self, references: Sequence[Reference], origin: Origin) -> None:
        """Start to bring the blocks of small chunks here, many in one request."""
        missing = [each.id for each in references if not self._is_known(each)]
        if missing:
            self._source.bring(missing, origin)

    async def get(self, reference: ChunkReference, origin: Origin | None = None) -> bytes:
        """Return the chunk; BlockNotFound, BlockCorrupt or a NetworkError when it cannot be had."""
        while True:
            chunk = self._chunks.get(reference)
            if chunk is not None:
                self.hits += 1
                self._chunks.move_to_end(reference)
                return chunk
            loading = self._loading.get(reference)
            if loading is None:
                self._answer_as_before(reference)
                self.misses += 1
                return await self._load(reference, origin)
            if (ahead := self._ahead.get(reference)) is not None:
                ahead.is_wanted = True
            await loading.done.wait()
            if loading.error is not None:
                raise loading.error

    def _is_known(self, reference: ChunkReference) -> bool:
        return reference in self._chunks or reference in self._loading

    async def _load(
        self, reference: ChunkReference, origin: Origin | None, *, ahead: bool = False
    ) -> bytes:
        loading = self._loading[reference] = _Loading()
        began = trio.current_time()
        try:
            chunk = await self._source.get(reference.id, _opener(reference), origin, ahead=ahead)
            self._keep(reference, chunk)
            return chunk
        except LibernetError as exc:
            loading.error = exc
            if trio.current_time() > began + _LONG_SECONDS:
                self._echoes[reference] = _Echo(exc)
            raise
        finally:
            del self._loading[reference]
            loading.done.set()

    def _answer_as_before(self, reference: ChunkReference) -> None:
        """Raise the error of a moment ago, if there is one."""
        now = trio.current_time()
        self._echoes = {key: echo for key, echo in self._echoes.items() if echo.until > now}
        echo = self._echoes.get(reference)
        if echo is not None:
            raise type(echo.error)(*echo.error.args) from echo.error

    def _keep(self, reference: ChunkReference, chunk: bytes) -> None:
        self._chunks[reference] = chunk
        self._bytes += len(chunk)
        while self._bytes > _CACHE_BYTES:
            _, dropped = self._chunks.popitem(last=False)
            self._bytes -= len(dropped)

    async def _read_ahead(self) -> None:
        async for reference in self._receive.clone():
            ahead = self._ahead[reference]
            try:
                if not (ahead.scope.cancel_called or self._is_known(reference)):
                    with ahead.scope:
                        await self._load(reference, ahead.origin, ahead=True)
            except LibernetError:
                continue  # the reader who really comes to it will be told
            except Exception:  # noqa: BLE001 - the top of a daemon task
                _log.exception("reading ahead failed")
            finally:
                del self._ahead[reference]
                ahead.over()


def _opener(reference: ChunkReference) -> Callable[[bytes], bytes]:
    """Return what makes the chunk of a block or blob that was checked against its id."""
    if isinstance(reference, BlobReference):
        return partial(unseal_blob, reference)
    return partial(unseal, reference)
