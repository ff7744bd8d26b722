"""Writing the pages of a folder too wide for one document, all of them or those that changed."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from msgspec import Raw

from libernet.blocks.entries import ENCODER, VERSION, PageKeys
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.list_cuts import CutRule, light_runs, whole_runs
from libernet.blocks.names import key_of, name_of
from libernet.blocks.reference import Reference

# Entries have about 330 bytes: pages of 84 to 512 KiB, 250 KiB on average.
_PAGE_RULE = CutRule(shortest=256, one_in=512, heaviest=512 * 1024)


@dataclass(frozen=True, slots=True)
class Named:
    """An entry on its way into a page."""

    name: bytes
    key: str
    entry: Raw
    is_folder: bool = False

    @property
    def weight(self) -> int:
        return len(self.key) + len(self.entry)

    def mark(self) -> int:
        return _name_mark(self.key, 0)


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page that was stored: what opens it, and what of its folder is in it.

    It holds as many *names*, from *first* on, which weigh as much. *starts_run* is false of one
    that was cut from the page before it because that got too large.
    """

    first: bytes
    starts_run: bool
    names: int
    weight: int
    url: str


class PageWriter:
    """Cut entries into pages. State: only *put*, which stores one of them."""

    def __init__(self, put: Callable[[bytes], Reference]) -> None:
        self._put = put

    def written(self, entries: Iterable[Named]) -> list[StoredPage]:
        """Store pages of all entries of a folder, which ascend by name."""
        return [page for run in _runs(entries) for page in self._put_run(run)]

    def renewed(
        self,
        former: Sequence[StoredPage],
        changed: Collection[bytes],
        entries: Callable[[bytes], Iterator[Named]],
    ) -> list[StoredPage]:
        """Return the pages that written() would, storing no more of them than it must.

        *former* are those of the folder before the entries of the names in *changed* came, went or
        became others. *entries* yields what the folder has now, from a name on.
        """
        runs = _by_run(former)
        stale = _stale(runs, changed)
        fresh = {run[0].first: at for at, run in enumerate(runs) if at not in stale}
        pages: list[StoredPage] = []
        at = 0
        while at < len(runs):
            if at not in stale:
                pages += runs[at]
                at += 1
                continue
            start = runs[at][0].first if at else b""
            at = len(runs)
            for run in _runs(entries(start)):
                # Where a run begins decides about all cuts after it.
                if run[0].name in fresh:
                    at = fresh[run[0].name]
                    break
                pages += self._put_run(run)
        return pages

    def index(self, head: Mapping[str, object], pages: Sequence[StoredPage]) -> bytes:
        """Return the JSON of the folder's document, which refers to its pages."""
        keys = [PageKeys(first=key_of(page.first), url=page.url) for page in pages]
        level = 1
        while len(json := ENCODER.encode({**head, "pages": keys})) > MAX_CHUNK_BYTES:
            keys = self._put_page_lists(keys, level)
            level += 1
        return json

    def _put_run(self, run: list[Named]) -> Iterator[StoredPage]:
        for number, entries in enumerate(
            light_runs(run, Named.mark, attrgetter("weight"), _PAGE_RULE.heaviest)
        ):
            page = listing_json({"version": VERSION}, entries)
            yield StoredPage(
                first=entries[0].name,
                starts_run=number == 0,
                names=len(entries),
                weight=sum([entry.weight for entry in entries]),
                url=str(self._put(page)),
            )

    def _put_page_lists(self, pages: Sequence[PageKeys], level: int) -> list[PageKeys]:
        """Store *pages* in pages of their own, as there are too many for one block."""

        def mark(page: PageKeys) -> int:
            return _name_mark(page.first, level)

        return [
            PageKeys(
                first=run[0].first,
                url=str(self._put(ENCODER.encode({"version": VERSION, "pages": run}))),
            )
            for whole in whole_runs(pages, mark, _PAGE_RULE)
            for run in light_runs(
                whole, mark, lambda page: len(page.first) + len(page.url), _PAGE_RULE.heaviest
            )
        ]


def listing_json(head: Mapping[str, object], entries: Iterable[Named]) -> bytes:
    """Return the JSON of a document or page that lists *entries*."""
    listing = dict(head)
    files: dict[str, Raw] = {}
    folders: dict[str, Raw] = {}
    for entry in entries:
        (folders if entry.is_folder else files)[entry.key] = entry.entry
    if files:
        listing["files"] = files
    if folders:
        listing["directories"] = folders
    return ENCODER.encode(listing)


def _runs(entries: Iterable[Named]) -> Iterator[list[Named]]:
    return whole_runs(entries, Named.mark, _PAGE_RULE)


def _by_run(pages: Sequence[StoredPage]) -> list[list[StoredPage]]:
    runs: list[list[StoredPage]] = []
    for page in pages:
        if page.starts_run or not runs:
            runs.append([])
        runs[-1].append(page)
    return runs


def _stale(runs: Sequence[Sequence[StoredPage]], changed: Collection[bytes]) -> set[int]:
    """Return the runs in which names changed, or whose end did: the first name of the next."""
    firsts = [run[0].first for run in runs]
    stale = {max(0, bisect_right(firsts, name) - 1) for name in changed}
    starts = {name: at for at, name in enumerate(firsts)}
    return stale | {starts[name] - 1 for name in changed if starts.get(name, 0)}


def _name_mark(key: str, level: int) -> int:
    """Return the mark of the name with *key* for cuts on *level*: each takes other bytes."""
    digest = hashlib.sha256(name_of(key)).digest()
    return int.from_bytes(digest[8 * level : 8 * level + 8], "big")
