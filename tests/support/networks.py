"""Whole nodes in this process, with stores on the disk and a DHT of their own, but no mount."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from libernet.blocks.ids import BlockId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.address import PeerAddress
from libernet.net.exchange.admission import AcceptanceRules
from libernet.net.network import Network, NetworkSettings

HOST = "127.0.0.1"
ROOT = b"the root of a bundle"
ROOT_ID = BlockId.of(ROOT)


class RunningNode:
    """A store and the network over it."""

    def __init__(self, store: Store, network: Network, host: str) -> None:
        self.store = store
        self.network = network
        self._host = host
        self.scope = trio.CancelScope()

    @property
    def address(self) -> PeerAddress:
        port = self.network.status()["listening"]
        assert isinstance(port, int)
        return PeerAddress(self._host, port)

    def put(self, *blocks: bytes) -> None:
        for block in blocks:
            self.store.put(BlockId.of(block), block)

    async def get(self, block_id: BlockId, root: BlockId = ROOT_ID) -> bytes:
        with trio.fail_after(20):
            return await self.network.fetcher.get(block_id, bytes, Origin(root, "/file"))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.scope:
            await self.network.run(task_status=task_status)


class Swarm:
    """Nodes of one test; *folder* has their stores."""

    def __init__(self, folder: Path, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self.folder = folder
        self._stack = stack
        self._nursery = nursery

    async def node(
        self,
        name: str,
        *peers: PeerAddress,
        host: str = HOST,
        port: int = 0,
        accept: Iterable[str] = (),
        **settings: int,
    ) -> RunningNode:
        """Return a new node that knows *peers* and keeps blocks for the nodes of *accept*."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        store = self._stack.enter_context(
            Store(folder / "store", reserve_bytes=0, held_bytes=10**6, guest_bytes=10**6)
        )
        chosen = NetworkSettings(
            host=host,
            port=port,
            peers=peers,
            private_network=True,
            accept=AcceptanceRules.parse(accept, []),
            **settings,
        )
        node = RunningNode(store, Network(store, chosen, folder), host)
        with trio.fail_after(20):
            await self._nursery.start(node.run)
        self._stack.callback(node.scope.cancel)
        return node


@asynccontextmanager
async def swarm_in(folder: Path) -> AsyncIterator[Swarm]:
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        yield Swarm(folder, stack, nursery)
        nursery.cancel_scope.cancel()
