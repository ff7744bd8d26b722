"""Collecting the blocks that nothing needs any more, while everything else goes on."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from libernet.blocks.errors import LibernetError, StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store_collection import Collected, Collection
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.journal_reader import JournalReader
from libernet.fs.publications import Kind, Publication, Publications
from libernet.fs.storage import Storage
from libernet.fs.stream_publisher import needed_blobs


class Collector:
    """Give up blocks that neither the tree, nor a snapshot, share or publication needs.

    What must be marked is what the journal names once all that was put before the collection began
    is committed: so it begins first, then waits for whoever publishes or reads files and for a
    checkpoint, and only then looks into the journal. What is put later stays by itself.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        checkpointer: Checkpointer,
        settled: Sequence[Callable[[], Awaitable[None]]],
        publications: Publications,
    ) -> None:
        """Wait for each of *settled*: until whoever had put blocks has named them, or gave up."""
        self._store = storage.store
        self._journal = storage.journal
        self._checkpointer = checkpointer
        self._settled = settled
        self._publications = publications

    async def collect(self, *, dry_run: bool = False) -> Collected:
        """Return what was given up, or would be; StoreError, and nothing is, where that is unsure.

        One block that is missing or damaged where another names what is needed makes it unsure.
        """
        with self._store.collecting() as collection:
            for settled in self._settled:
                await settled()
            await self._checkpointer.settled()
            published = self._publications.all()
            return await trio.to_thread.run_sync(self._collect, collection, published, dry_run)

    def _collect(
        self, collection: Collection, published: list[Publication], dry_run: bool
    ) -> Collected:
        try:
            with self._journal.reader() as reader:
                reader.begin()
                self._mark(collection, reader, published)
        except LibernetError as exc:
            raise StoreError(
                f"nothing was collected, as it is not sure what is needed: {exc}"
            ) from exc
        return collection.sweep(dry_run=dry_run, go_on=trio.from_thread.check_cancelled)

    def _mark(
        self, collection: Collection, reader: JournalReader, published: list[Publication]
    ) -> None:
        collection.keep(reader.sealed_blocks())
        needs = Needs(self._read, collection.enter)
        for reference in _bundles(reader, published):
            collection.keep(needs.of(reference))
        for each in published:
            if each.kind is Kind.STREAM:
                needed: Iterable[StoredId] = needed_blobs(each.reference, self._store)
                collection.keep(needed)

    def _read(self, reference: Reference) -> bytes:
        trio.from_thread.check_cancelled()  # the mount ends
        return unseal(reference, self._store.get(reference.id))


def _bundles(reader: JournalReader, published: list[Publication]) -> Iterable[Reference]:
    """Yield what opens each bundle that is kept."""
    yield from reader.document_references()
    yield from (snapshot.reference for snapshot in reader.snapshots())
    yield from (reference.block for reference in reader.shares())
    for each in published:
        if each.kind is Kind.FLAT:
            yield Reference.parse(each.reference).block
