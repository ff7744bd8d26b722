"""Bringing a whole bundle here ahead of need, so that it can be read without the network."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.source import BlockSource, Origin
from libernet.blocks.store import Store
from libernet.fs.beside import beside

_TASKS = 32  # blocks asked for at one time: each waits for a round trip
_BATCH_BLOCKS = 256
_ERRORS_TOLD = 20


@dataclass(slots=True)
class Fetched:
    """What a fetch did so far, in blocks: how many are needed, as far as is known, and were here.

    *not_kept* came, but the cache has no room for them; *errors* say of some that failed why.
    """

    needed: int = 0
    here_before: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    not_kept: int = 0
    failed: int = 0
    is_known: bool = False
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many are through."""
        return self.here_before + self.fetched + self.not_kept + self.failed


class Fetching:
    """Bring all blocks that bundles need; what is here already is not asked for again."""

    def __init__(self, store: Store, source: BlockSource) -> None:
        self._store = store
        self._source = source

    async def fetch(self, reference: Reference, fetched: Fetched, *, pin: bool) -> None:
        """Bring a bundle here; with *pin* it stays until `unpin`, whatever else is cached.

        *fetched* is kept up to date, and counts blocks that nobody has. Raises LibernetError where
        a document cannot be had: what it lists is not known then.
        """
        origin = Origin(reference.id)
        send, receive = trio.open_memory_channel[list[BlockId]](2)

        async def walk() -> None:
            async with send:
                walker = _Walker(self, reference, origin, fetched, send)
                await trio.to_thread.run_sync(partial(walker.walk, pin=pin))

        async with beside(walk), trio.open_nursery() as nursery:
            for _ in range(_TASKS):
                nursery.start_soon(self._bring_all, receive.clone(), origin, fetched)
            receive.close()
        await trio.to_thread.run_sync(self._store.flush)

    async def unpin(self, reference: Reference) -> None:
        """Let what was pinned go when other blocks need its room."""
        await trio.to_thread.run_sync(self._store.unpin, _owner(reference))

    async def document(self, reference: Reference, origin: Origin, fetched: Fetched) -> bytes:
        """Return the plaintext of a document, which counts as fetched if it was not here."""
        was_here = self.has(reference.id)
        plaintext = await self._source.get(reference.id, partial(unseal, reference), origin)
        if not was_here:
            fetched.fetched += 1
            fetched.fetched_bytes += len(plaintext)
            fetched.here_before -= 1  # as which the walker counts it, meeting it here
        return plaintext

    def pin(self, block_ids: list[BlockId], reference: Reference) -> None:
        """Pin blocks of a bundle, here or not yet."""
        self._store.pin(block_ids, _owner(reference))

    def has(self, block_id: BlockId) -> bool:
        """Return whether a block is here."""
        return block_id in self._store

    async def _bring_all(
        self, receive: trio.MemoryReceiveChannel[list[BlockId]], origin: Origin, fetched: Fetched
    ) -> None:
        async with receive:
            async for batch in receive:
                for block_id in batch:
                    await self._bring(block_id, origin, fetched)

    async def _bring(self, block_id: BlockId, origin: Origin, fetched: Fetched) -> None:
        try:
            size = await self._source.get(block_id, len, origin)
        except LibernetError as exc:
            fetched.failed += 1
            if len(fetched.errors) < _ERRORS_TOLD:
                fetched.errors[str(block_id)] = str(exc)
            return
        if block_id in self._store:
            fetched.fetched += 1
            fetched.fetched_bytes += size
        else:
            fetched.not_kept += 1


class _Walker:
    """Walk through a bundle's documents, in a thread, and send the blocks that are not here."""

    def __init__(
        self,
        fetching: Fetching,
        reference: Reference,
        origin: Origin,
        fetched: Fetched,
        send: trio.MemorySendChannel[list[BlockId]],
    ) -> None:
        self._fetching = fetching
        self._reference = reference
        self._origin = origin
        self._fetched = fetched
        self._send = send
        self._entered: set[BlockId] = set()

    def walk(self, *, pin: bool) -> None:
        for batch in self._batches():
            trio.from_thread.check_cancelled()
            if pin:
                self._fetching.pin(batch, self._reference)
            absent = [each for each in batch if not self._fetching.has(each)]
            trio.from_thread.run(self._tell, len(batch), absent)
        self._fetched.is_known = True

    async def _tell(self, count: int, absent: list[BlockId]) -> None:
        self._fetched.needed += count
        self._fetched.here_before += count - len(absent)
        if absent:
            await self._send.send(absent)

    def _batches(self) -> Iterator[list[BlockId]]:
        """Yield all blocks, each once, the documents among them when they were read."""
        seen: set[BlockId] = set()
        batch: list[BlockId] = []
        needs = Needs(self._read, self._enter)
        for block_id in needs.of(self._reference):
            if block_id not in seen:
                seen.add(block_id)
                batch.append(block_id)
            if len(batch) >= _BATCH_BLOCKS:
                yield batch
                batch = []
        yield [*batch, *(self._entered - seen)]

    def _enter(self, block_id: BlockId) -> bool:
        is_new = block_id not in self._entered
        self._entered.add(block_id)
        return is_new

    def _read(self, reference: Reference) -> bytes:
        return trio.from_thread.run(self._fetching.document, reference, self._origin, self._fetched)


def _owner(reference: Reference) -> str:
    """Return who pins a bundle: nothing that opens it."""
    return f"fetch {reference.id}"
