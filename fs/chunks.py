"""Unsealed chunks: a bounded cache in front of wherever blocks come from."""

import logging
from collections import OrderedDict

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.source import BlockSource

_log = logging.getLogger(__name__)

_CACHE_BYTES = 48 * 1024 * 1024
_INLINE_BYTES = 64 * 1024  # unsealing so little takes less than a hop to a thread
_AHEAD_TASKS = 4


class ChunkCache:
    """Get chunks by reference, each one once however many readers wait.

    State
      _chunks   by reference (suite, id and key), the least recently used first
      _bytes    their lengths together, at most _CACHE_BYTES after each call
      _loading  those on their way, with what wakes the others who want them
    Tasks
      run() holds the tasks that read ahead, at most _AHEAD_TASKS at one time. An error is never
      kept: whoever asks next tries again.
    """

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._chunks: OrderedDict[Reference, bytes] = OrderedDict()
        self._bytes = 0
        self._loading: dict[Reference, trio.Event] = {}
        self._send, self._receive = trio.open_memory_channel[Reference](2 * _AHEAD_TASKS)

    async def run(self) -> None:
        """Read ahead until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AHEAD_TASKS):
                nursery.start_soon(self._read_ahead)

    def prefetch(self, reference: Reference) -> None:
        """Start to load a chunk; nothing happens when enough is on its way."""
        if reference not in self._chunks and reference not in self._loading:
            try:
                self._send.send_nowait(reference)
            except trio.WouldBlock:
                return

    async def get(self, reference: Reference) -> bytes:
        """Return the chunk; BlockNotFound or BlockCorrupt when it cannot be had."""
        while True:
            chunk = self._chunks.get(reference)
            if chunk is not None:
                self._chunks.move_to_end(reference)
                return chunk
            loading = self._loading.get(reference)
            if loading is None:
                return await self._load(reference)
            await loading.wait()

    async def _load(self, reference: Reference) -> bytes:
        done = self._loading[reference] = trio.Event()
        try:
            block = await self._source.get(reference.id)
            if len(block) <= _INLINE_BYTES:
                chunk = unseal(reference, block)
            else:
                chunk = await trio.to_thread.run_sync(unseal, reference, block)
            self._keep(reference, chunk)
            return chunk
        finally:
            del self._loading[reference]
            done.set()

    def _keep(self, reference: Reference, chunk: bytes) -> None:
        self._chunks[reference] = chunk
        self._bytes += len(chunk)
        while self._bytes > _CACHE_BYTES:
            _, dropped = self._chunks.popitem(last=False)
            self._bytes -= len(dropped)

    async def _read_ahead(self) -> None:
        async for reference in self._receive.clone():
            if reference in self._chunks or reference in self._loading:
                continue
            try:
                await self._load(reference)
            except LibernetError:
                continue  # the reader who really comes to it will be told
            except Exception:  # noqa: BLE001 - the top of a daemon task
                _log.exception("reading ahead failed")
