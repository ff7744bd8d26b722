"""Bringing the sub-bundles of the original's bundles, whose names may be anywhere in the tree."""

from collections.abc import Callable
from typing import TypeVar

import trio

from libernet.blocks.documents import FileEntry
from libernet.blocks.errors import FormatError, LibernetError, PeerTimeout
from libernet.blocks.flat_bundles import Owner, parse_sub_bundle
from libernet.blocks.flat_tree import FlatTree
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.bundle_ahead import SmallFiles
from libernet.fs.chunks import ChunkCache

LOOK_SECONDS = 5.0
"""How long a look into a folder waits for its document. The fetch goes on: the next look may find
it here. The kernel lets one look-up in a folder wait at a time, and a caller of it cannot be
killed."""

MOST_SECONDS = 30.0
"""How long a look waits while sub-bundles keep arriving: 400,000 files take 5 s to parse."""

_AT_ONCE = 16  # sub-bundles on their way: as many connections as there are to one peer

_INLINE_BYTES = 32 * 1024
"""Bundles up to this size are parsed at once, in a millisecond; 1 MiB takes 30, in a thread."""

T = TypeVar("T")


class BundleParser:
    """Parse the original's bundles, large ones in a thread, one at a time: they hold the GIL."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._thread = trio.CapacityLimiter(1)

    async def parse(self, parse: Callable[[bytes], T], plaintext: bytes) -> T:
        """Return what *parse* makes of a bundle."""
        if len(plaintext) <= _INLINE_BYTES:
            return parse(plaintext)
        return await trio.to_thread.run_sync(parse, plaintext, limiter=self._thread)


class Growth:
    """A bundle of the original's that is open: its tree grows as its sub-bundles arrive.

    State: tree; _grown, set when it grows next; _error, why something did not come at the last
    attempt; _ahead, the tree's small files in order, None when it has grown since. `_bringing` is
    held by the one who brings.
    """

    def __init__(
        self,
        tree: FlatTree,
        origin: Origin,
        *,
        chunks: ChunkCache,
        parser: BundleParser,
        is_here: Callable[[BlockId], bool],
    ) -> None:
        self.tree = tree
        self._origin = origin
        self._chunks = chunks
        self._parser = parser
        self._is_here = is_here
        self._error: LibernetError | None = None
        self._ahead: SmallFiles | None = None
        self._grown = trio.Event()
        self._bringing = trio.Lock()

    async def grow(self, enough: Callable[[], bool] = lambda: False) -> LibernetError | None:
        """Bring all sub-bundles, or until *enough* of them; return why some are lacking.

        It waits LOOK_SECONDS for the next to arrive, MOST_SECONDS for all. The fetch goes on, so
        that another look may find them.
        """
        if self.tree.pending:
            latest = trio.current_time() + MOST_SECONDS
            with trio.move_on_after(LOOK_SECONDS) as waiting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._bring_all, nursery.cancel_scope)
                    while not enough():
                        await self._grown.wait()
                        waiting.deadline = min(trio.current_time() + LOOK_SECONDS, latest)
                    nursery.cancel_scope.cancel()
        return self.lacking()

    def lacking(self) -> LibernetError | None:
        """Return why some sub-bundles are not in the tree, None when all are."""
        if pending := len(self.tree.pending):
            return _again(self._error) or PeerTimeout(
                f"{pending} sub-bundles of {self._origin.root} did not come within"
                f" {LOOK_SECONDS:g} s"
            )
        return _again(next(iter(self.tree.refused.values()), None))

    def from_here(self, entry: FileEntry, /) -> list[list[Reference]]:
        """Return what *entry* and the next small files need, in batches, as it becomes due."""
        if self._ahead is None:
            self._ahead = SmallFiles(self.tree.document)
        return self._ahead.from_here(entry)

    async def _bring_all(self, finished: trio.CancelScope) -> None:
        """Bring what is pending, and what becomes known by that; then cancel *finished*."""
        async with self._bringing:
            self._error = None
            await self._bring()
        finished.cancel()

    async def _bring(self) -> None:
        # What is here comes first: it must not wait behind what is not.
        waiting = sorted(self.tree.pending, key=lambda each: self._is_here(each.id))

        async def work() -> None:
            while waiting:
                try:
                    waiting.extend(await self._add(waiting.pop()))
                except FormatError:
                    continue  # the tree knows
                except LibernetError as exc:
                    self._error = exc

        async with trio.open_nursery() as nursery:
            for _ in range(min(_AT_ONCE, len(waiting))):
                nursery.start_soon(work)

    async def _add(self, reference: Reference) -> list[Reference]:
        """Bring one sub-bundle into the tree; return those that became known by it."""
        plaintext = await self._chunks.get(reference, self._origin)
        folder = self.tree.document.attributes
        try:
            bundle = await self._parser.parse(
                lambda each: parse_sub_bundle(each, self._parser.owner, folder), plaintext
            )
        except FormatError as exc:
            self.tree.refuse(reference, exc)
            raise
        expected = self.tree.add(reference, bundle)
        self._ahead = None
        self._grown.set()
        self._grown = trio.Event()
        return expected


def _again(error: LibernetError | None) -> LibernetError | None:
    """Return the same error anew: one that is raised again and again collects tracebacks."""
    return None if error is None else type(error)(*error.args)
