"""Peers that gave blocks, remembered from one start to the next.

They are asked first after a start, when nobody else is known yet, and make the DHT's acquaintance
again when its bootstrap nodes are gone.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import trio

from libernet.blocks.errors import FormatError
from libernet.net.address import PeerAddress, is_private
from libernet.net.peers import Peers
from libernet.net.state_files import read_state, replace_state

PEERS_FILE = "peers.json"
PEERS_VERSION = 1
MAX_PEERS_BYTES = 64 * 1024

MAX_REMEMBERED = 32
"""Those that gave most: if all are gone, finding that out is soon over."""

_SAVE_SECONDS = 300.0
_LAST_SAVE_SECONDS = 5.0

_log = logging.getLogger(__name__)


class _Peer(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    merit: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    peers: Annotated[list[_Peer], msgspec.Meta(max_length=MAX_REMEMBERED)]


class RememberedPeers:
    """Tell *peers* of those of earlier starts, and remember those that gave blocks in this one.

    Private addresses lead to somebody else on another network: they are remembered only where
    *private_network* says that this is the one that all nodes are on. Neighbours are found anew.
    What a peer gave counts half after each start, so that who is gone fades.
    State: addresses, those of earlier starts, the best first; _saved, what the file holds.
    Tasks: run() saves now and then, and at the end.
    """

    def __init__(self, folder: Path, peers: Peers, *, private_network: bool) -> None:
        self._folder = folder
        self._peers = peers
        self._private_network = private_network
        self.addresses: tuple[PeerAddress, ...] = ()
        self._saved: dict[PeerAddress, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remember until cancelled; started when those of earlier starts are known."""
        self._load()
        task_status.started()
        try:
            while True:
                await trio.sleep(_SAVE_SECONDS)
                await self._save()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_SAVE_SECONDS):
                await self._save()

    def _load(self) -> None:
        try:
            self._saved = load_peers(self._folder)
        except (FormatError, OSError) as exc:
            _log.warning("No peers are remembered: %s", exc)
        kept = {
            address: merit // 2
            for address, merit in self._saved.items()
            if merit > 1 and self._may_keep(address)
        }
        self.addresses = tuple(sorted(kept, key=kept.__getitem__, reverse=True))
        for address in reversed(self.addresses):  # whom Peers was told of last it forgets last
            self._peers.peer(address).earlier = kept[address]

    async def _save(self) -> None:
        merits = [each for each in self._peers.merits() if self._may_keep(each[0])]
        merits = merits[:MAX_REMEMBERED]
        if dict(merits) == self._saved:
            return
        try:
            await trio.to_thread.run_sync(save_peers, self._folder, merits, abandon_on_cancel=True)
        except OSError as exc:
            _log.warning("The peers cannot be remembered in %s: %s", self._folder, exc)
        else:
            self._saved = dict(merits)

    def _may_keep(self, address: PeerAddress) -> bool:
        return self._private_network or not is_private(address.host)


def load_peers(folder: Path) -> dict[PeerAddress, int]:
    """Return how many blocks counted for each peer that save_peers() kept in *folder*.

    FormatError if the file is damaged or of a later version.
    """
    path = folder / PEERS_FILE
    text = read_state(path, MAX_PEERS_BYTES)
    if text is None:
        return {}
    try:
        document = msgspec.json.decode(text, type=_Document)
        if document.version != PEERS_VERSION:
            raise FormatError(f"it has version {document.version}, not {PEERS_VERSION}")
        return {PeerAddress.parse(each.address): each.merit for each in document.peers}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, FormatError) as exc:
        raise FormatError(f"{path} is damaged: {exc}") from exc


def save_peers(folder: Path, merits: Sequence[tuple[PeerAddress, int]]) -> None:
    """Replace what *folder* keeps, in one step; OSError when that cannot be done."""
    peers = [_Peer(str(address), merit) for address, merit in merits]
    replace_state(folder / PEERS_FILE, _Document(PEERS_VERSION, peers))
