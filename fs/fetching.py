"""Bringing a whole bundle or stream here ahead of need, to be read without the network."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from libernet.blocks.addresses import Address
from libernet.blocks.descriptors import blob_ids, parse_descriptor
from libernet.blocks.errors import LibernetError
from libernet.blocks.id_set import IdSet
from libernet.blocks.ids import StoredId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.source import BlockSource, Origin
from libernet.blocks.store import Store
from libernet.fs.beside import beside

_TASKS = 32  # blocks asked for at one time: each waits for a round trip
_BATCH_BLOCKS = 256
_ERRORS_TOLD = 20

_T = TypeVar("_T")

_Wanted = tuple[StoredId, bytes]
"""A block that is needed, and the path of what needs it."""


@dataclass(slots=True)
class Fetched:
    """What a fetch did so far, in blocks: how many are needed, as far as is known, and were here.

    *not_kept* came, but the cache has no room for them; *errors* say of some that failed why, by
    the path of what needs them. *current* is the path of what came last.
    """

    needed: int = 0
    here_before: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    not_kept: int = 0
    failed: int = 0
    is_known: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    current: str = ""

    @property
    def done(self) -> int:
        """How many are through."""
        return self.here_before + self.fetched + self.not_kept + self.failed

    def note(self, path: bytes, error: LibernetError) -> None:
        """Count one that is needed and failed."""
        self.failed += 1
        where = os.fsdecode(path) or "/"
        if len(self.errors) < _ERRORS_TOLD:
            self.errors.setdefault(where, str(error))


class Fetching:
    """Bring all blocks that bundles and streams need, but for those that are here already."""

    def __init__(self, store: Store, source: BlockSource) -> None:
        self._store = store
        self._source = source

    async def fetch(self, address: Address, fetched: Fetched, *, pin: bool) -> None:
        """Bring a bundle or stream here; with *pin* it stays until `unpin`, whatever is cached.

        *fetched* is kept up to date, and counts blocks that nobody has; what lists them may be
        among those, and what it lists is not known then. Of a reference with a path, only what is
        there is brought. Raises LibernetError where that is all, or there is nothing.
        """
        send, receive = trio.open_memory_channel[_Wanted](_TASKS)
        walker = _Walker(self._store, self._source, address, fetched, send)

        async def walk() -> None:
            async with send:
                await trio.to_thread.run_sync(partial(walker.walk, pin=pin))

        unkept: list[_Wanted] = []
        async with beside(walk), trio.open_nursery() as nursery:
            for _ in range(_TASKS):
                nursery.start_soon(self._bring_all, receive.clone(), address, fetched, unkept)
            receive.close()
        await trio.to_thread.run_sync(self._store.flush)
        await self._bring_again(unkept, address, fetched)

    async def unpin(self, address: Address) -> None:
        """Let what was pinned go when other blocks need its room."""
        await trio.to_thread.run_sync(self._store.unpin, _owner(address))

    async def _bring_all(
        self,
        receive: trio.MemoryReceiveChannel[_Wanted],
        address: Address,
        fetched: Fetched,
        unkept: list[_Wanted],
    ) -> None:
        async with receive:
            async for wanted in receive:
                if await self._bring(wanted, address, fetched):
                    continue
                fetched.not_kept += 1
                if len(unkept) < _BATCH_BLOCKS:
                    unkept.append(wanted)

    async def _bring_again(self, unkept: list[_Wanted], address: Address, fetched: Fetched) -> None:
        """Bring blocks one by one that came beside others, for which a full cache made room."""
        for wanted in unkept:
            if not await self._bring(wanted, address, fetched):
                return  # there is none to be made
            fetched.not_kept -= 1
        await trio.to_thread.run_sync(self._store.flush)

    async def _bring(self, wanted: _Wanted, address: Address, fetched: Fetched) -> bool:
        """Bring and count a block; return False, and count nothing, if there is no room for it."""
        block_id, path = wanted
        try:
            size = await self._source.get(block_id, len, _origin(address))
        except LibernetError as exc:
            fetched.note(path, exc)
            return True
        fetched.current = os.fsdecode(path)
        if block_id not in self._store:
            return False
        fetched.fetched += 1
        fetched.fetched_bytes += size
        return True


class _Walker:
    """Walk through what lists the blocks, in a thread, and send those that are not here.

    State: _met, the blocks that were counted; _entered, those that list others; _due, such ones
    that are not pinned yet.
    """

    def __init__(
        self,
        store: Store,
        source: BlockSource,
        address: Address,
        fetched: Fetched,
        send: trio.MemorySendChannel[_Wanted],
    ) -> None:
        self._store = store
        self._source = source
        self._address = address
        self._fetched = fetched
        self._send = send
        self._met = IdSet()
        self._entered = IdSet()
        self._due: list[StoredId] = []
        self._needs = Needs(self._read, self._entered.add, unreadable=self._note_unreadable)

    def walk(self, *, pin: bool) -> None:
        for batch in self._batches():
            trio.from_thread.check_cancelled()
            if pin:
                self._store.pin([*self._due, *(each for each, _ in batch)], _owner(self._address))
            self._due.clear()
            absent = [each for each in batch if each[0] not in self._store]
            trio.from_thread.run(self._tell, len(batch), absent)
        self._fetched.is_known = True

    async def _tell(self, count: int, absent: list[_Wanted]) -> None:
        self._fetched.needed += count
        self._fetched.here_before += count - len(absent)
        for each in absent:
            await self._send.send(each)

    def _batches(self) -> Iterator[list[_Wanted]]:
        """Yield all blocks, each once, but for those that list others."""
        batch: list[_Wanted] = []
        for each in self._wanted():
            if self._met.add(each[0]):
                batch.append(each)
            if len(batch) >= _BATCH_BLOCKS:
                yield batch
                batch = []
        yield batch

    def _wanted(self) -> Iterator[_Wanted]:
        if isinstance(self._address, Reference):
            for block_id in self._needs.of(self._address.block, self._address.path):
                yield block_id, self._needs.path
            if not self._needs.is_found and not self._fetched.failed:
                path = os.fsdecode(b"/".join(self._address.path))
                raise LibernetError(f"there is no {path!r} in this bundle")
            return
        descriptor = self._listing(self._address.sd_hash, parse_descriptor)
        name = descriptor.file_name
        if self._address.file_name not in {None, name}:
            raise LibernetError(f"the file of this stream is called {os.fsdecode(name)!r}")
        for blob_id in blob_ids(descriptor):
            yield blob_id, b"/" + name

    def _read(self, reference: Reference) -> bytes:
        return self._listing(reference.id, partial(unseal, reference))

    def _listing(self, block_id: StoredId, use: Callable[[bytes], _T]) -> _T:
        """Return what *use* makes of a block that lists others."""
        is_here = block_id in self._store

        def measured(block: bytes) -> tuple[int, _T]:
            return len(block), use(block)

        origin = _origin(self._address)
        size, found = trio.from_thread.run(self._source.get, block_id, measured, origin)
        if self._met.add(block_id):
            self._due.append(block_id)
            trio.from_thread.run_sync(self._count, 0 if is_here else size)
        return found

    def _count(self, fetched_bytes: int) -> None:
        self._fetched.needed += 1
        if fetched_bytes:
            self._fetched.fetched += 1
            self._fetched.fetched_bytes += fetched_bytes
        else:
            self._fetched.here_before += 1

    def _note_unreadable(self, reference: Reference | None, error: LibernetError) -> None:
        if reference is not None and _origin(self._address) == Origin(reference.id):
            raise error
        trio.from_thread.run_sync(self._count_unreadable, self._needs.path, error)

    def _count_unreadable(self, path: bytes, error: LibernetError) -> None:
        self._fetched.needed += 1
        self._fetched.note(path, error)


def _origin(address: Address) -> Origin | None:
    """Return for what its blocks are wanted."""
    return Origin(address.id) if isinstance(address, Reference) else None


def _owner(address: Address) -> str:
    """Return who pins a bundle or stream: nothing that opens a bundle."""
    return f"fetch {address.id if isinstance(address, Reference) else address.sd_hash}"
