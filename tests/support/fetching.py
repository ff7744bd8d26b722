"""A node that fetches, and scripted nodes that it may fetch from."""

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.fetcher import Fetcher
from tests.support.far import FarNode, FarNodes, ScriptedDiscovery

BLOCK = b"a block"
ID = BlockId.of(BLOCK)
ROOT = BlockId.of(b"a root")
ORIGIN = Origin(ROOT, "/folder/file")
ABSENT = BlockId.of(b"nobody has it")

SMALL = [b"small %d" % number for number in range(200)]
SMALL_IDS = [BlockId.of(block) for block in SMALL]


class World:
    """A node that fetches, and those it may fetch from.

    `fetched` lists what it told of; while `running` its network is up.
    """

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self.store = store
        self.nursery = nursery
        self.far = FarNodes(nursery)
        self.discovery = ScriptedDiscovery()
        self.peers = self.far.peers()
        self.fetched: list[tuple[BlockId, Origin | None]] = []
        self.fetcher = Fetcher(
            store, self.discovery, self.peers, fetched=lambda *told: self.fetched.append(told)
        )
        self.run_scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.run_scope:
            await self.fetcher.run(task_status)

    def hinted(self, name: str, *blocks: bytes) -> FarNode:
        """Return a node that is asked for everything."""
        node = self.far.node(name)
        node.add(*blocks)
        self.discovery.hints.append(node.address)
        return node

    def announced(self, name: str, block_id: BlockId, *blocks: bytes) -> FarNode:
        """Return a node that announced an id."""
        node = self.far.node(name)
        node.add(*blocks)
        self.discovery.providers.setdefault(block_id, []).append(node.address)
        return node

    async def get(self, block_id: BlockId = ID, origin: Origin | None = ORIGIN) -> bytes:
        return await self.fetcher.get(block_id, bytes, origin)

    async def outcome(self, block_id: BlockId = ID) -> bytes | LibernetError:
        try:
            return await self.get(block_id)
        except LibernetError as exc:
            return exc

    async def outcomes(self, count: int, block_id: BlockId = ID) -> list[bytes | LibernetError]:
        """Return what *count* readers get who come at one time."""
        outcomes: list[bytes | LibernetError] = []

        async def read() -> None:
            outcomes.append(await self.outcome(block_id))

        async with trio.open_nursery() as readers:
            for _ in range(count):
                readers.start_soon(read)
        return outcomes
