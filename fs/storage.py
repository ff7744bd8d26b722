"""What a node has open on its disk while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libernet.blocks.secret import load_or_create_secret
from libernet.blocks.store import Store
from libernet.blocks.store_cache import CACHE_BYTES, GUEST_BYTES, HELD_BYTES
from libernet.fs.ballast import drop_ballast, take_ballast
from libernet.fs.datalog import DataLog
from libernet.fs.journal import Journal
from libernet.fs.journal_reader import JournalReader


@dataclass(frozen=True, slots=True)
class Storage:
    """The secret, the store, the journal with the event loop's reader of it, and the data log."""

    folder: Path
    secret: bytes
    store: Store
    journal: Journal
    reader: JournalReader
    log: DataLog


@contextmanager
def opened(
    folder: Path,
    *,
    cache_bytes: int = CACHE_BYTES,
    held_bytes: int = HELD_BYTES,
    guest_bytes: int = GUEST_BYTES,
) -> Iterator[Storage]:
    """Open, or make, everything in the state folder; the caller holds its lock.

    At most *cache_bytes* of blocks fetched from others are kept, *held_bytes* for other nodes and
    *guest_bytes* for whoever does not say who it is.
    Raises StoreVersion for what a newer program wrote, LibernetError or OSError when it cannot be
    opened.
    """
    drop_ballast(folder)
    with (
        Journal(folder / "journal.sqlite") as journal,
        journal.reader() as reader,
        Store(
            folder / "store",
            cache_bytes=cache_bytes,
            held_bytes=held_bytes,
            guest_bytes=guest_bytes,
        ) as store,
        DataLog(folder / "log") as log,
    ):
        secret = load_or_create_secret(folder / "secret")
        take_ballast(folder)
        yield Storage(folder, secret, store, journal, reader, log)
