"""What is shown under which URL, asked of the namespace that the mount shows.

/sha256/ID                      the block as it is stored
/sha256/ID/SUITE/KEY            what it holds; of a bundle, its document
/sha256/ID/SUITE/KEY/           the file that a bundle names as its index, else its listing
/sha256/ID/SUITE/KEY/PATH       a file in it; with a slash at the end, a folder
/sha256/ID/plain...             the same of a block that is not sealed and has no key
/sha256/like/ID                 blocks of which everybody may be told, by what their ids are like
/sha384/SD_HASH/FILE            a stream of LBRYnet
/metrics                        what the node counts, for Prometheus
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from libernet.blocks.errors import BlockNotFound, FormatError, LibernetError
from libernet.blocks.reference import LikeSearch, Reference
from libernet.blocks.streams import StreamAddress
from libernet.fs.addressed_blocks import AddressedBlocks
from libernet.fs.counters import Counters
from libernet.fs.namespace import Entry, Namespace, OpenFile
from libernet.fs.nodes import Incomplete
from libernet.fs.tree import os_error
from libernet.fs.web.answers import (
    ANY_BYTES,
    PASSING,
    STRANGERS,
    UNCHANGING,
    Answer,
    Send,
    answer_for,
    media_type,
)
from libernet.fs.web.conditions import is_known, wanted_range
from libernet.fs.web.exposition import MEDIA_TYPE, exposition
from libernet.fs.web.listings import OWN_PAGE, Entries, HtmlListing, JsonListing, Listing
from libernet.fs.web.requests import Refusal, Request
from libernet.fs.web.walk import Walk

PIECE_BYTES = 256 * 1024
"""How much of a file is read and sent at a time: few pieces reach over two chunks, which costs a
copy, and what a client does not take is little."""

_LIST_ENTRIES = 2_000  # listed at a time: half a megabyte
_LIKE = "/sha256/like/"
_METRICS = "/metrics"
_ADDRESSES = (
    "an address reads /sha256/ID, /sha256/ID/SUITE/KEY, /sha256/ID/SUITE/KEY/PATH,"
    " /sha256/ID/plain/PATH or /sha384/SD_HASH/FILE"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a URL names: a *path* in the folder *top*, which itself is named from the mount's root.

    *is_folder* is said by a slash at the end.
    """

    top: tuple[bytes, ...]
    path: tuple[bytes, ...]
    is_folder: bool

    def etag(self) -> str:
        """Return what stands for the content: its name in something that never changes."""
        names = b"/".join((*self.top, *self.path))
        return f'"{hashlib.sha256(names).hexdigest()[:32]}"'

    def below(self, name: bytes) -> "_Place":
        """Return the place of a file in this folder."""
        return _Place(self.top, (*self.path, name), is_folder=False)


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request for something in the tree, and what is given back when it was answered."""

    request: Request
    walk: Walk
    needed: ExitStack

    async def go(self, place: _Place) -> Entry:
        """Return what is at a place; see Walk.go."""
        return await self.walk.go(place.top, place.path)


class Site:
    """Answer requests; all that an answer needs is given back when it was sent."""

    def __init__(self, namespace: Namespace, blocks: AddressedBlocks, counters: Counters) -> None:
        self._namespace = namespace
        self._blocks = blocks
        self._counters = counters

    @asynccontextmanager
    async def answering(self, request: Request) -> AsyncIterator[Answer]:
        """Provide the answer to a request, until it was sent."""
        with ExitStack() as needed:
            try:
                answer = await self._answer(request, needed)
            except (Refusal, LibernetError, OSError) as error:
                answer = answer_for(error)
            yield answer

    async def _answer(self, request: Request, needed: ExitStack) -> Answer:
        if request.path == _METRICS:
            return await self._metrics()
        match parse_url_path(request.path):
            case LikeSearch() as search:
                return self._like(search)
            case Reference() as reference:
                if not reference.path and not reference.index:
                    return await self._block(request, reference)
                if request.path == f"/sha256/{reference.id}/":
                    return Answer(301, UNCHANGING | {"location": str(reference)})
                return await self._shown(request, _place(reference), needed)
            case StreamAddress(sd_hash, name):
                path = () if name is None else (name,)
                is_folder = request.path.endswith("/")
                place = _Place((b"sha384", str(sd_hash).encode()), path, is_folder)
                return await self._shown(request, place, needed)

    async def _metrics(self) -> Answer:
        families = await self._counters.families()
        headers = PASSING | {"content-type": MEDIA_TYPE}
        return Answer(200, headers, exposition(families).encode())

    def _like(self, search: LikeSearch) -> Answer:
        found = {f"/sha256/{block_id}": size for block_id, size in self._blocks.like(search.id)}
        headers = PASSING | {"content-type": "application/json"}
        return Answer(200 if found else 404, headers, json.dumps(found).encode())

    async def _block(self, request: Request, reference: Reference) -> Answer:
        is_stored = request.path == f"/sha256/{reference.id}"
        etag = f'"{reference.id}"' if is_stored else f'"{reference.id}-{reference.suite}"'
        headers = UNCHANGING | STRANGERS | {"etag": etag}
        if is_known(request.headers, etag, is_there=False):
            return Answer(304, headers)
        try:
            if is_stored:
                content = await self._blocks.stored(reference.id)
            else:
                content = await self._blocks.opened(reference)
        except BlockNotFound as error:
            raise Refusal(404, str(error)) from error
        if is_known(request.headers, etag, is_there=True):
            return Answer(304, headers)
        status, span, more = _span(request, etag, len(content))
        headers |= more | {"content-type": ANY_BYTES}
        return Answer(status, headers, content[span.start : span.stop])

    async def _shown(self, request: Request, place: _Place, needed: ExitStack) -> Answer:
        visit = _Visit(request, Walk(self._namespace), needed)
        needed.callback(visit.walk.end)
        found = await visit.go(place)
        if not stat.S_ISDIR(found.look.mode):
            if place.is_folder:
                raise os_error(errno.ENOTDIR)
            return await self._file(visit, place, found)
        if not place.is_folder:
            location = "/".join(["", *request.path.strip("/").split("/"), ""])
            return Answer(301, UNCHANGING | {"location": location})
        if not _wants_json(request):
            index = await self._namespace.index(found.ino)
            page = None if index is None else place.below(index)
            if page is not None and (file := await self._page(visit, page)):
                answer = await self._file(visit, page, file)
                return Answer(answer.status, {**answer.headers, "vary": "accept"}, answer.body)
        return await self._listing(request, place, found)

    async def _page(self, visit: _Visit, place: _Place) -> Entry | None:
        """Return the file that a bundle names as its index, None if it is none."""
        try:
            found = await visit.go(place)
        except FileNotFoundError:
            return None
        return found if stat.S_ISREG(found.look.mode) else None

    async def _file(self, visit: _Visit, place: _Place, found: Entry) -> Answer:
        request, etag = visit.request, place.etag()
        headers = UNCHANGING | STRANGERS | {"etag": etag}
        if is_known(request.headers, etag, is_there=True):
            return Answer(304, headers)
        if not stat.S_ISREG(found.look.mode):
            raise Refusal(404, "this is neither a file nor a folder: it has no content")
        file = await self._namespace.open(found.ino, os.O_RDONLY)
        visit.needed.callback(self._namespace.close, file)
        if not found.is_lasting:
            # A stream's length is known for sure when its end was read.
            await self._namespace.read(file, max(found.look.size - 1, 0), 1)
            found = await visit.go(place)
        status, span, more = _span(request, etag, found.look.size)
        name = [*place.top, *place.path][-1]
        headers |= more | {"content-type": media_type(name), "content-length": str(len(span))}
        if request.is_head:
            return Answer(status, headers)
        body = _FileBody(self._namespace, file, span)
        await body.begin()
        return Answer(status, headers, body.send)

    async def _listing(self, request: Request, place: _Place, folder: Entry) -> Answer:
        listing: Listing = JsonListing() if _wants_json(request) else HtmlListing(place.path)
        body = _ListingBody(self._namespace, folder.ino, listing)
        await body.begin()
        headers = OWN_PAGE | {"content-type": listing.media_type, "vary": "accept"} | PASSING
        return Answer(200, headers, body.send)


class _FileBody:
    """Bytes of a file on their way. State: _piece, those that come next; _at, where they begin."""

    def __init__(self, namespace: Namespace, file: OpenFile, span: range) -> None:
        self._namespace = namespace
        self._file = file
        self._span = span
        self._at = span.start
        self._piece: bytes | memoryview = b""

    async def begin(self) -> None:
        """Read the first piece: what cannot be read is an error while one can still be sent."""
        if self._at < self._span.stop:
            size = min(PIECE_BYTES, self._span.stop - self._at)
            self._piece = await self._namespace.read(self._file, self._at, size)
            if not self._piece:
                raise FormatError("a file is shorter than its folder says")

    async def send(self, send: Send) -> None:
        """Send all pieces; what is raised on the way is for the client an end too early."""
        while self._piece:
            await send(self._piece)
            self._at += len(self._piece)
            self._piece = b""
            await self.begin()


class _ListingBody:
    """Entries of a folder on their way, some at a time."""

    def __init__(self, namespace: Namespace, ino: int, listing: Listing) -> None:
        self._namespace = namespace
        self._ino = ino
        self._listing = listing
        self._entries: Entries = ()
        self._lacking: LibernetError | None = None

    async def begin(self) -> None:
        """Read the first entries: what cannot be listed is an error while one can be sent."""
        await self._next(b"")

    async def send(self, send: Send) -> None:
        """Send all entries."""
        await send(self._listing.head().encode())
        while self._entries:
            await send(self._listing.rows(self._entries).encode())
            await self._next(self._entries[-1][0])
        await send(self._listing.tail(self._lacking).encode())

    async def _next(self, after: bytes) -> None:
        try:
            self._entries = await self._namespace.children(self._ino, after, _LIST_ENTRIES)
        except LibernetError as error:
            if self._lacking is None:
                raise
            self._entries, self._lacking = (), error
        if isinstance(self._entries, Incomplete):
            self._lacking = self._entries.error


def parse_url_path(path: str) -> Reference | StreamAddress | LikeSearch:
    """Return what the path of a URL names, or raise Refusal."""
    try:
        if path.startswith(_LIKE):
            # As the original does: what stands behind the id is ignored.
            return LikeSearch.parse(_LIKE + path[len(_LIKE) :].partition("/")[0])
        if path.startswith("/sha384/"):
            return StreamAddress.parse(path)
        if path.startswith("/sha256/"):
            return Reference.parse(path)
    except FormatError as error:
        raise Refusal(400, str(error)) from error
    raise Refusal(404, f"there is nothing here: {_ADDRESSES}")


def _place(reference: Reference) -> _Place:
    key = (reference.key.hex(),) if reference.key else ()
    top = ("sha256", str(reference.id), reference.suite.value, *key)
    return _Place(tuple(each.encode() for each in top), reference.path, reference.index)


def _span(request: Request, etag: str, size: int) -> tuple[int, range, dict[str, str]]:
    """Return the status, which of *size* bytes are wanted, and the headers that say so."""
    headers = {"accept-ranges": "bytes"}
    wanted = None if request.is_head else wanted_range(request.headers, etag, size)
    if wanted is None:
        return 200, range(size), headers
    headers["content-range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
    return 206, wanted, headers


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted
