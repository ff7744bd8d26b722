"""Client and server over TCP, the store behind them; and what only a kernel does."""

import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import BlockNotFound, NetworkError, PeerUnreachable
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.offer import StoreOffer
from libernet.net.exchange.server import ExchangeServer

BLOCKS = {
    BlockId.of(block): block
    for block in [
        b"",
        b"small",
        bytes(SMALL_BLOCK_BYTES),
        bytes(SMALL_BLOCK_BYTES + 1),
        bytes(MAX_BLOCK_BYTES),
        *(b"%d" % n * 500 for n in range(100)),
    ]
}
ABSENT = BlockId.of(b"absent")
LARGE = BlockId.of(bytes(MAX_BLOCK_BYTES))

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("exchange") / "store") as opened:
        for block_id, block in BLOCKS.items():
            opened.put(block_id, block)
        opened.flush()
        yield opened


@pytest.fixture
async def server(store: Store) -> ExchangeServer:
    return ExchangeServer(StoreOffer(store))


@pytest.fixture
async def port(server: ExchangeServer, nursery: trio.Nursery) -> int:
    bound: int = await nursery.start(server.run, HOST, 0)
    return bound


@pytest.fixture
async def client(port: int) -> AsyncIterator[ExchangeClient]:
    made = ExchangeClient(PeerAddress(HOST, port))
    yield made
    made.close()


async def test_every_block_is_had_and_got(client: ExchangeClient) -> None:
    for block_id, block in BLOCKS.items():
        assert await client.has(block_id)
        assert await client.get(block_id) == block


async def test_what_is_absent_is_said_to_be(client: ExchangeClient) -> None:
    assert not await client.has(ABSENT)
    with pytest.raises(BlockNotFound):
        await client.get(ABSENT)
    assert await client.get_many([ABSENT]) == {}


async def test_many_blocks_of_all_sizes_come_at_once(client: ExchangeClient) -> None:
    assert await client.get_many([ABSENT, *BLOCKS]) == BLOCKS


async def test_many_readers_share_one_client(client: ExchangeClient) -> None:
    got: list[bytes] = []

    async def read() -> None:
        got.append(await client.get(LARGE))

    async with trio.open_nursery() as readers:
        for _ in range(30):
            readers.start_soon(read)
    assert got == [BLOCKS[LARGE]] * 30


@pytest.mark.announces("is damaged")
async def test_a_block_that_rotted_is_not_served(tmp_path: Path, nursery: trio.Nursery) -> None:
    block = bytes(SMALL_BLOCK_BYTES + 1)
    with Store(tmp_path / "store") as store:
        store.put(BlockId.of(block), block)
        store.flush()
        (file,) = (tmp_path / "store" / "blocks").rglob(str(BlockId.of(block)))
        file.write_bytes(b"x" * len(block))
        server = ExchangeServer(StoreOffer(store))
        client = ExchangeClient(PeerAddress(HOST, await nursery.start(server.run, HOST, 0)))
        with pytest.raises(BlockNotFound):
            await client.get(BlockId.of(block))
        assert not await client.has(BlockId.of(block))
        client.close()


async def test_an_offer_may_keep_blocks_to_itself(store: Store, nursery: trio.Nursery) -> None:
    async def only_large(block_id: BlockId) -> bool:
        return block_id == LARGE

    server = ExchangeServer(StoreOffer(store, only_large))
    client = ExchangeClient(PeerAddress(HOST, await nursery.start(server.run, HOST, 0)))
    assert await client.get_many(BLOCKS) == {LARGE: BLOCKS[LARGE]}
    assert not await client.has(BlockId.of(b"small"))
    with pytest.raises(BlockNotFound):
        await client.get(BlockId.of(b"small"))
    client.close()


async def test_only_what_is_really_like_a_block_is_told(
    quick_folder: Path, nursery: trio.Nursery
) -> None:
    with Store(quick_folder / "store", held_bytes=1000, reserve_bytes=0) as store:
        assert store.put_held(BlockId.of(b""), b"")
        store.flush()
        offer = StoreOffer(store)
        for bit in range(16):
            target = BlockId((int.from_bytes(BlockId.of(b"")) ^ 1 << 255 - bit).to_bytes(32))
            assert bool(await offer.like(target)) == (bit >= 12)


async def test_the_next_free_port_is_taken(
    port: int, server: ExchangeServer, nursery: trio.Nursery
) -> None:
    second = await nursery.start(server.run, HOST, port)
    assert second > port


async def test_all_addresses_are_listened_to_on_one_port(
    server: ExchangeServer, nursery: trio.Nursery
) -> None:
    port = await nursery.start(server.run, None, 0)
    for host in ("127.0.0.1", "::1"):
        client = ExchangeClient(PeerAddress(host, port))
        assert await client.has(LARGE)
        client.close()


async def test_an_address_of_another_machine_cannot_be_listened_to(server: ExchangeServer) -> None:
    with pytest.raises(NetworkError, match=r"192\.0\.2\.1"):
        await server.run("192.0.2.1", 4848)


async def test_nobody_there_is_unreachable() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    client = ExchangeClient(PeerAddress(HOST, port))
    with pytest.raises(PeerUnreachable, match=f"{HOST}:{port}"):
        await client.get(LARGE)


async def test_a_server_that_came_back_is_found_again(store: Store, nursery: trio.Nursery) -> None:
    server = ExchangeServer(StoreOffer(store))

    async def run_once(task_status: trio.TaskStatus[tuple[int, trio.CancelScope]]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                bound = await inner.start(server.run, HOST, 0)
                task_status.started((bound, scope))

    port, scope = await nursery.start(run_once)
    client = ExchangeClient(PeerAddress(HOST, port))
    assert await client.has(LARGE)
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(PeerUnreachable):
        await client.has(LARGE)
    again = await nursery.start(server.run, HOST, port)
    assert again == port
    assert await client.get(LARGE) == BLOCKS[LARGE]
    client.close()


def reset(stream: trio.SocketStream) -> None:
    """Close without a farewell: the other end gets a reset."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def test_a_client_that_resets_within_an_answer_harms_nobody(
    port: int, server: ExchangeServer, client: ExchangeClient
) -> None:
    for read_bytes in (0, 1, 100_000):
        stream = await trio.open_tcp_stream(HOST, port)
        await stream.send_all(f"GET /sha256/{LARGE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        if read_bytes:
            await stream.receive_some(read_bytes)
        reset(stream)
    assert await client.get(LARGE) == BLOCKS[LARGE]


async def test_a_peer_that_resets_within_an_answer_is_unreachable(nursery: trio.Nursery) -> None:
    async def rude(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhello")
        reset(stream)

    listeners = await nursery.start(trio.serve_tcp, rude, 0)
    client = ExchangeClient(PeerAddress(HOST, listeners[0].socket.getsockname()[1]))
    with pytest.raises(PeerUnreachable):
        await client.get(LARGE)


async def test_the_server_stops_at_once_whoever_is_connected(store: Store) -> None:
    server = ExchangeServer(StoreOffer(store))
    with trio.fail_after(10):
        async with AsyncExitStack() as streams, trio.open_nursery() as nursery:
            port = await nursery.start(server.run, HOST, 0)
            for requests in (0, 20, 20):  # the first client is silent, the others read one byte
                stream = await streams.enter_async_context(await trio.open_tcp_stream(HOST, port))
                question = f"GET /sha256/{LARGE} HTTP/1.1\r\nhost: x\r\n\r\n"
                await stream.send_all(question.encode() * requests)
                if requests:
                    await stream.receive_some(1)
            assert server.connections == 3
            nursery.cancel_scope.cancel()
    assert server.connections == 0
