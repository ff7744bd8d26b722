"""What was published for everybody, as the journal remembers it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

import trio

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.fs.storage import Storage


class Kind(enum.StrEnum):
    """The forms in which something can be published, as the journal has them."""

    FLAT = "flat"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Publication:
    """What was handed out: *reference*, as it was printed, for what stood at *path*."""

    reference: str
    path: bytes
    kind: Kind
    published_ns: int


class Publications:
    """All publications, oldest first; what they need stays in the store.

    State: _all, as the journal has it. `writing` is held whenever either is changed.
    """

    def __init__(self, storage: Storage, writing: trio.Lock, clock: Callable[[], int]) -> None:
        self._journal = storage.journal
        self._writing = writing
        self._clock = clock
        self._all = {
            reference: Publication(reference, path, Kind(kind), published_ns)
            for reference, path, kind, published_ns in storage.reader.rows(
                "SELECT reference, path, kind, published_ns FROM publication ORDER BY published_ns"
            )
        }

    def all(self) -> list[Publication]:
        """Return what was published."""
        return list(self._all.values())

    def roots(self) -> list[BlockId]:
        """Return the ids of the bundles among them, for others to find."""
        flat = (each for each in self._all.values() if each.kind is Kind.FLAT)
        return [Reference.parse(each.reference).id for each in flat]

    async def record(self, reference: str, path: bytes, kind: Kind) -> None:
        """Remember a publication, durably; the same one again changes nothing."""
        async with self._writing:
            if reference not in self._all:
                publication = Publication(reference, path, kind, self._clock())
                await trio.to_thread.run_sync(self._commit, publication)
                self._all[reference] = publication

    def _commit(self, publication: Publication) -> None:
        with self._journal.transaction() as connection:
            connection.execute(
                "INSERT INTO publication VALUES (?, ?, ?, ?)",
                (
                    publication.reference,
                    publication.path,
                    publication.kind,
                    publication.published_ns,
                ),
            )
