"""Where blocks come from, as everything above the store sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from libernet.blocks.ids import BlockId, StoredId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a block is wanted for: the bundle that `root` opens, and the `path` in it.

    Whoever has the root's block is likely to have those below it; the path is for people.
    """

    root: BlockId
    path: str = ""


class BlockSource(Protocol):
    """Anything that can be asked for a block: the local store, or the network behind it."""

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        """Return what *use* makes of the block or blob, which was checked against its id before.

        *use* is called where the block is, perhaps in another thread: a hop there costs more than
        most uses do. Raises BlockNotFound when nobody has the block right now, BlockCorrupt when
        only wrong bytes are to be had, a NetworkError when nobody could be asked in time, and
        what *use* raises. A caller that is cancelled leaves a fetch that goes on, for whoever tries
        again; unless it wanted the block only *ahead* of a reader, and nobody else waits for it.
        """
        ...

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        """Start to bring small blocks here that will be wanted soon, many in one request."""
        ...

    def ahead_bytes(self, origin: Origin | None) -> int:
        """Return how much of a bundle to have on its way, so that whoever gives it is kept busy: by
        what that delivers and how far away it is; 0 when that is not known."""
        ...
