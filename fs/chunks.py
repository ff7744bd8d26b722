"""Unsealed chunks: a bounded cache in front of wherever blocks come from."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice

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

_HERE_TASKS = 3
"""Hops to threads at one time, for chunks of this machine: two cores, and one that waits for the
disk (reading 256 MiB cold took 0.52 s so, and 0.57 with two)."""

_HOP_CHUNKS = 8
"""Chunks read in one hop: it costs 40 us, as much as to read and unseal a small one."""

_HOP_BYTES = 256 * 1024
"""Of them, so many are handed on at once: a reader may wait for the first."""

_HERE_CHUNKS = 128  # what may wait for a hop: twice MAX_AHEAD_BYTES of usual chunks, and more

_LONG_SECONDS = 5.0
_ECHO_SECONDS = 1.0
_LAST_ECHO_SECONDS = 10.0
"""What the kernel could not read ahead it asks for once more, for the page that a program waits
for; and page by page, each with as much ahead, if the program is not yet at the chunk that did not
come. When the first time took longer than _LONG_SECONDS, the same error answers all these at once,
as long as they come within _ECHO_SECONDS of each other, and none starts to load the chunk ahead:
else read(2) would wait for twice the deadline (measured: 54 s instead of 27, both ways).
"""

ChunkReference = Reference | BlobReference
"""What names a chunk of a file and opens it: a block of ours or of the original's, or a blob."""


class _Loading:
    """A chunk on its way: what wakes those who wait for it, and why it did not come."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: LibernetError | None = None


_OnTheirWay = dict[ChunkReference, _Loading]


class _Echo:
    """The error of a chunk that was waited for in vain, until when it answers, and at the
    latest."""

    __slots__ = ("_last", "error", "until")

    def __init__(self, error: LibernetError) -> None:
        self.error = error
        self.until = trio.current_time() + _ECHO_SECONDS
        self._last = trio.current_time() + _LAST_ECHO_SECONDS

    def answer(self) -> LibernetError:
        """Return the error anew; whoever asks again soon after that gets it as well."""
        self.until = min(trio.current_time() + _ECHO_SECONDS, self._last)
        return type(self.error)(*self.error.args)


class ChunkCache:
    """Get chunks by reference, each one once however many readers wait.

    State
      _chunks   by reference (id and key, suite or IV), the least recently used first
      _bytes    their lengths together, at most _CACHE_BYTES after each call
      _loading  those on their way
      _ahead    those that are loaded ahead, or wait for that
      _here     those of this machine that wait to be loaded ahead, in order
      _resting  the tasks that do so, when there are none
      _echoes   errors that took long, for a moment
      hits      how often a chunk was given that was here or on its way; misses, how often not
    Tasks
      run() holds the tasks that read ahead: _AHEAD_TASKS chunk by chunk from other machines,
      _HERE_TASKS from this one, several in one hop to a thread. An error goes to all who waited
      for the chunk and is not kept, but for _echoes: whoever asks next tries again.
    """

    def __init__(
        self,
        source: BlockSource,
        is_here: Callable[[StoredId], bool],
        *,
        read_here: Callable[[StoredId], bytes] | None = None,
    ) -> None:
        """Read from *source*; *is_here* says which blocks it has on this machine.

        *read_here* returns one of those in any thread, checked; without it none is loaded ahead
        but through *source*.
        """
        self._source = source
        self._is_here = is_here
        self._read_here = read_here
        self._chunks: OrderedDict[ChunkReference, bytes] = OrderedDict()
        self._bytes = 0
        self.hits = self.misses = 0
        self._loading: dict[ChunkReference, _Loading] = {}
        self._ahead: dict[ChunkReference, Ahead] = {}
        self._here: dict[ChunkReference, None] = {}
        self._resting = trio.lowlevel.ParkingLot()
        self._echoes: dict[ChunkReference, _Echo] = {}
        self._send, self._receive = trio.open_memory_channel[ChunkReference](_AHEAD_CHUNKS)

    async def run(self) -> None:
        """Read ahead until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AHEAD_TASKS):
                nursery.start_soon(self._read_ahead)
            if self._read_here is not None:
                for _ in range(_HERE_TASKS):
                    nursery.start_soon(self._hop_ahead, self._read_here)

    def prefetch(
        self,
        reference: ChunkReference,
        origin: Origin | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Start to load a chunk, until *reading* gives it up; nothing when enough is on its way."""
        ahead = self._ahead.get(reference)
        if ahead is None or ahead.scope.cancel_called:
            is_coming = self._is_known(reference) or self._is_queued(reference)
            if ahead is not None or is_coming or self._echo(reference):
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

    def _is_queued(self, reference: ChunkReference) -> bool:
        """Return whether the chunk waits to be loaded from here, as it does now if it can."""
        if reference in self._here:
            return True
        if self._read_here is None or not self._is_here(reference.id):
            return False
        if len(self._here) < _HERE_CHUNKS:
            self._here[reference] = None
            self._resting.unpark()
        return True

    async def _load(
        self, reference: ChunkReference, origin: Origin | None, *, ahead: bool = False
    ) -> bytes:
        self._here.pop(reference, None)  # who comes this way is faster
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
        if echo := self._echo(reference):
            raise echo.answer() from echo.error

    def _echo(self, reference: ChunkReference) -> _Echo | None:
        if self._echoes:
            now = trio.current_time()
            self._echoes = {key: echo for key, echo in self._echoes.items() if echo.until > now}
        return self._echoes.get(reference)

    def _keep(self, reference: ChunkReference, chunk: bytes) -> None:
        self._chunks[reference] = chunk
        self._bytes += len(chunk)
        while self._bytes > _CACHE_BYTES:
            _, dropped = self._chunks.popitem(last=False)
            self._bytes -= len(dropped)

    async def _hop_ahead(self, read_here: Callable[[StoredId], bytes]) -> None:
        limiter = trio.CapacityLimiter(1)
        token = trio.lowlevel.current_trio_token()
        while True:
            while not self._here:
                await self._resting.park()
            wanted = {reference: _Loading() for reference in islice(self._here, _HOP_CHUNKS)}
            for reference in wanted:
                del self._here[reference]
            self._loading |= wanted

            def take(chunks: dict[ChunkReference, bytes], wanted: _OnTheirWay = wanted) -> None:
                token.run_sync_soon(self._take, wanted, chunks)

            try:
                await trio.to_thread.run_sync(
                    _unseal_all, list(wanted), read_here, take, limiter=limiter
                )
            except Exception:  # noqa: BLE001 - the top of a daemon task
                _log.exception("reading ahead failed")
            finally:
                self._take(wanted, dict.fromkeys(wanted))

    def _take(self, wanted: _OnTheirWay, loaded: Mapping[ChunkReference, bytes | None]) -> None:
        """Keep what was loaded of what is *wanted*; who waits for what was not, loads it."""
        for reference, chunk in loaded.items():
            loading = wanted.pop(reference)
            if chunk is not None:
                self._keep(reference, chunk)
            del self._loading[reference]
            loading.done.set()

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


def _unseal_all(
    references: Sequence[ChunkReference],
    read_here: Callable[[StoredId], bytes],
    take: Callable[[dict[ChunkReference, bytes]], None],
) -> None:
    """Load chunks of this machine and *take* them; what fails is left to whoever reads it."""
    chunks: dict[ChunkReference, bytes] = {}
    size = 0
    for reference in references:
        try:
            chunk = _opener(reference)(read_here(reference.id))
        except LibernetError:
            continue
        chunks[reference] = chunk
        size += len(chunk)
        if size >= _HOP_BYTES:
            take(chunks)
            chunks, size = {}, 0
    take(chunks)


def _opener(reference: ChunkReference) -> Callable[[bytes], bytes]:
    """Return what makes the chunk of a block or blob that was checked against its id."""
    if isinstance(reference, BlobReference):
        return partial(unseal_blob, reference)
    return partial(unseal, reference)
