"""Several versions of a folder walked through at once: what is equal in several is opened once.

Versions are numbered by bits: 1, 2, 4 and so on. What two of them have under the same reference is
the same, however large it is. Wide folders are gone through page by page.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from libernet.blocks.documents import Document, FileEntry, FolderEntry, Listing, Page
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.limits import MAX_PATH_PARTS
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.bundle_view import Bundles

Entry = FileEntry | FolderEntry

Found = list[tuple[int, Entry]]
"""The different entries of one name, each with the bits of the versions that have it."""

_Piece = Document | Reference | Page


@dataclass(frozen=True, slots=True)
class Variant:
    """What a folder is in the versions with the bits *of*; *origin* says who may have it."""

    of: int
    tree: Document | Reference
    origin: Origin


@dataclass(frozen=True, slots=True)
class _Range:
    """A range of names in one variant: *pieces* that may have some of them, in order."""

    of: int
    pieces: tuple[_Piece, ...]
    origin: Origin


class SideBySide:
    """Read folders of several versions at once.

    What all the versions *skipped* (bits) have in common is not looked at, if these are given. Of
    files only those are told whose names *wanted* says.
    """

    def __init__(
        self,
        bundles: Bundles,
        *,
        skipped: int = 0,
        wanted: Callable[[bytes], bool] = lambda name: True,
    ) -> None:
        self._bundles = bundles
        self._skipped = skipped
        self._wanted = wanted

    async def entries(
        self, variants: Iterable[Variant]
    ) -> AsyncGenerator[tuple[bytes, Found], None]:
        """Yield each name in a folder with what it is in which versions, by name.

        At most one page of each version is in memory. Raises LibernetError for what cannot be read,
        of a wide folder at the end: a page that is lost costs the names that it has.
        """
        ranges = [_Range(each.of, (each.tree,), each.origin) for each in variants]
        async with aclosing(self._in_range(ranges, b"", None)) as found:
            async for each in found:
                yield each

    async def _in_range(
        self, ranges: Sequence[_Range], first: bytes, before: bytes | None
    ) -> AsyncGenerator[tuple[bytes, Found], None]:
        ranges = _merged(ranges)
        if len(ranges) == 1 and ranges[0].of == self._skipped:
            return
        names: dict[bytes, Found] = {}
        opened: list[_Range] = []
        cuts: tuple[Page, ...] = ()
        for each in ranges:
            pieces: list[_Piece] = []
            for piece in each.pieces:
                listing = await self._open(piece, each.origin)
                pieces += listing.pages or (piece,)
                cuts = max(cuts, listing.pages, key=len)
                self._collect(names, each.of, listing, first, before)
            opened.append(_Range(each.of, tuple(pieces), each.origin))
        if not cuts:
            for name in sorted(names):
                yield name, names[name]
            return
        firsts = [each.first for each in cuts if first < each.first]
        bounds = [first, *(each for each in firsts if before is None or each < before), before]
        names.clear()
        lacking: LibernetError | None = None
        for begin, end in pairwise(bounds):
            assert begin is not None
            parts = [_clipped(each, begin, end) for each in opened]
            async with aclosing(self._in_range(parts, begin, end)) as found:
                try:
                    async for one in found:
                        yield one
                except LibernetError as exc:
                    lacking = lacking or exc
        if lacking is not None:
            raise lacking

    def _collect(
        self,
        names: dict[bytes, Found],
        of: int,
        listing: Listing,
        first: bytes,
        before: bytes | None,
    ) -> None:
        """Add what a listing has in a range of names, beside what equals it."""
        entries: list[tuple[bytes, Entry]] = [
            (name, entry) for name, entry in listing.files.items() if self._wanted(name)
        ]
        entries += listing.folders.items()
        for name, entry in entries:
            if name < first or (before is not None and name >= before):
                continue
            found = names.setdefault(name, [])
            if found and found[-1][1] == entry:
                found[-1] = (found[-1][0] | of, entry)
            else:
                found.append((of, entry))

    async def _open(self, piece: _Piece, origin: Origin) -> Listing:
        if isinstance(piece, Document):
            return piece
        if isinstance(piece, Page):
            return (await self._bundles.page(piece, origin)).listing
        opened = await self._bundles.document(piece, origin)
        if opened.growth is not None:
            lacking = await opened.growth.grow()
            if lacking is not None:
                raise lacking
        return opened.listing


def below(folders: Iterable[tuple[int, FolderEntry]], origin: Origin) -> list[Variant]:
    """Return the variants of a folder with these entries, those with one reference as one."""
    by_url: dict[str, int] = {}
    variants = []
    for of, entry in folders:
        if entry.document is not None:
            variants.append(Variant(of, entry.document, origin))
        else:
            assert entry.url is not None
            by_url[entry.url] = by_url.get(entry.url, 0) | of
    for _, entry in folders:
        if entry.document is None and entry.url in by_url:
            variants.append(Variant(by_url.pop(entry.url), entry.reference(), origin))
    return variants


def _merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Return ranges with those as one that consist of the same blocks."""
    merged: dict[object, _Range] = {}
    for each in ranges:
        key = tuple(map(_identity, each.pieces))
        known = merged.get(key)
        of = each.of | (known.of if known else 0)
        merged[key] = _Range(of, each.pieces, each.origin)
    return list(merged.values())


def _identity(piece: _Piece) -> object:
    if isinstance(piece, Document):
        return id(piece)
    return piece.url if isinstance(piece, Page) else str(piece)


def _clipped(whole: _Range, first: bytes, before: bytes | None) -> _Range:
    """Return the part of a range between two names."""
    pieces = tuple(
        piece
        for piece in whole.pieces
        if not isinstance(piece, Page)
        or (
            (before is None or piece.first < before)
            and (piece.before is None or piece.before > first)
        )
    )
    return _Range(whole.of, pieces, whole.origin)


class Levels:
    """The folders that a walk is in, each with what is still to come of it.

    State: the iterators, the top folder's first.
    """

    def __init__(self, walk: SideBySide, top: Iterable[Variant]) -> None:
        self._walk = walk
        self._levels = [(b"", walk.entries(top))]

    @property
    def path(self) -> bytes:
        """The path of the folder that the walk is in: empty, or with a slash at the end."""
        return self._levels[-1][0]

    def enter(self, name: bytes, variants: Iterable[Variant]) -> None:
        """Go on with what is in the folder *name*; FormatError where that is too deep."""
        if len(self._levels) >= MAX_PATH_PARTS:
            raise FormatError(f"there are folders on more than {MAX_PATH_PARTS} levels")
        self._levels.append((self.path + name + b"/", self._walk.entries(variants)))

    async def next(self) -> tuple[bytes, Found] | None:
        """Return the next name in the folder, None at its end; LibernetError if it is unreadable.

        The walk leaves it in both cases.
        """
        entries = self._levels[-1][1]
        try:
            return await anext(entries)
        except StopAsyncIteration:
            self._levels.pop()
            return None
        except LibernetError:
            self._levels.pop()
            raise

    @property
    def is_over(self) -> bool:
        """Whether the walk has left the top folder."""
        return not self._levels

    async def aclose(self) -> None:
        """End the walk where it is."""
        while self._levels:
            await self._levels.pop()[1].aclose()
