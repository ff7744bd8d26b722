"""Collecting the blocks that nothing needs any more, while everything else goes on."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from libernet.blocks.errors import LibernetError, StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store_collection import Collected
from libernet.blocks.store_collection import Collection as Marks
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.journal_reader import JournalReader
from libernet.fs.leases import Leases
from libernet.fs.publications import Kind, Publication, Publications
from libernet.fs.storage import Storage
from libernet.fs.stream_publisher import needed_blobs


class Collector:
    """Give up blocks that neither the tree, nor a snapshot, share or publication needs.

    What must be marked is what the journal names once all that was put before the collection began
    is committed: so it begins first, then waits for whoever publishes or reads files and for a
    checkpoint, and only then looks into the journal. What is put later stays by itself. No
    tree is published before that look: who had seen an older state could need what is not in this
    one any more.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        checkpointer: Checkpointer,
        settled: Sequence[Callable[[], Awaitable[None]]],
        paused: Callable[[], AbstractAsyncContextManager[None]],
        publications: Publications,
        leases: Leases,
    ) -> None:
        """Wait for each of *settled*: until whoever had put blocks has named them, or gave up.

        No tree is published while the body of *paused* runs.
        """
        self._store = storage.store
        self._journal = storage.journal
        self._checkpointer = checkpointer
        self._settled = settled
        self._paused = paused
        self._publications = publications
        self._leases = leases

    async def collect(
        self, *, dry_run: bool = False, without: Collection[int] = frozenset()
    ) -> Collected:
        """Return what was given up, or would be; StoreError, and nothing is, where that is unsure.

        One block that is missing or damaged where another names what is needed makes it unsure.
        *without* are numbers of snapshots that count as forgotten, for a dry run.
        """
        assert dry_run or not without, "what is not forgotten is kept"
        with self._store.collecting() as collection, self._journal.reader() as reader:
            for settled in self._settled:
                await settled()
            async with self._paused():
                await self._checkpointer.settled()
                reader.begin()
                kept = _Kept(reader, self._publications.all(), self._leases.references(), without)
            return await trio.to_thread.run_sync(self._collect, collection, kept, dry_run)

    def _collect(self, collection: Marks, kept: "_Kept", dry_run: bool) -> Collected:
        try:
            self._mark(collection, kept)
        except LibernetError as exc:
            raise StoreError(
                f"nothing was collected, as it is not sure what is needed: {exc}"
            ) from exc
        return collection.sweep(dry_run=dry_run, go_on=trio.from_thread.check_cancelled)

    def _mark(self, collection: Marks, kept: "_Kept") -> None:
        collection.keep(kept.reader.sealed_blocks())
        needs = Needs(self._read, collection.enter)
        for reference in kept.bundles():
            collection.keep(needs.of(reference))
        for each in kept.published:
            if each.kind is Kind.STREAM:
                needed: Iterable[StoredId] = needed_blobs(each.reference, self._store)
                collection.keep(needed)

    def _read(self, reference: Reference) -> bytes:
        trio.from_thread.check_cancelled()  # the mount ends
        return unseal(reference, self._store.get(reference.id))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What keeps blocks: a state of the journal *without* some snapshots, publications, leases."""

    reader: JournalReader
    published: list[Publication]
    leased: list[Reference]
    without: Collection[int]

    def bundles(self) -> Iterable[Reference]:
        """Yield what opens each bundle that is kept."""
        yield from self.reader.document_references()
        for snapshot in self.reader.snapshots():
            if snapshot.number not in self.without:
                yield snapshot.reference
        yield from (reference.block for reference in self.reader.shares())
        yield from self.leased
        for each in self.published:
            if each.kind is Kind.FLAT:
                yield Reference.parse(each.reference).block
