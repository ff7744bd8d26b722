"""The question which of many blocks a node has, at both ends, in memory and on a virtual clock."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import RemoteProtocolError
from libernet.blocks.ids import BlockId
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.wire import (
    MAX_BATCH_IDS,
    WHICH_ANSWER_TYPE,
    WHICH_REQUEST_TYPE,
    parse_batch_request,
    parse_which_answer,
)
from tests.support.exchange import (
    HELLO_ID,
    PEER,
    DictOffer,
    MemoryStream,
    ScriptedPeer,
    answering,
    hear,
    http,
    served_by,
)
from tests.support.exchange_server import (
    HOST,
    Server,
    body_of,
    header_of,
    request,
    status_of,
)


async def test_many_are_asked_for_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    blocks = [b"%d" % n for n in range(MAX_BATCH_IDS + 9)]
    server = Server(nursery, DictOffer(blocks[::3]))
    dial = served_by(nursery, partial(server.server.serve, address=HOST))
    asked = [BlockId.of(block) for block in blocks]
    assert await ExchangeClient(PEER, dial=dial).which(asked) == set(asked[::3])


async def test_private_blocks_are_not_told_of(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class Secretive(DictOffer):
        async def tells(self, block_id: BlockId) -> bool:
            return False

    server = Server(nursery, Secretive())
    asked = request("POST", "/sha256/", "content-length: 32", f"content-type: {WHICH_REQUEST_TYPE}")
    answer = await server.ask(asked + HELLO_ID)
    assert header_of(answer, "content-type") == WHICH_ANSWER_TYPE
    assert parse_which_answer(memoryview(body_of(answer)), 1) == [False]


async def test_a_peer_that_does_not_know_the_question_is_asked_for_each(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    methods: list[bytes] = []

    async def original(stream: MemoryStream) -> None:
        while asked := await hear(stream):
            methods.append(asked.partition(b" ")[0])
            has_it = str(HELLO_ID).encode() in asked
            head = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"
            missing = b"HTTP/1.1 504 GATEWAY TIMEOUT\r\ncontent-length: 26\r\n\r\n"
            if methods[-1] == b"POST":
                await stream.send_all(http(405))
            else:
                await stream.send_all(head if has_it else missing)

    client = ExchangeClient(PEER, dial=ScriptedPeer(nursery, original).dial)
    for _ in range(2):
        assert await client.which([HELLO_ID, BlockId.of(b"absent")]) == {HELLO_ID}
    assert methods.count(b"POST") == 1
    assert methods.count(b"HEAD") == 4


@pytest.mark.parametrize("bits", [b"", b"\x80\0", b"\xff", b"\x01"])
async def test_an_answer_about_other_blocks_is_the_peers_fault(
    autojump_clock: MockClock, nursery: trio.Nursery, bits: bytes
) -> None:
    answer = http(200, bits, f"content-type: {WHICH_ANSWER_TYPE}")
    client = ExchangeClient(PEER, dial=ScriptedPeer(nursery, answering(answer)).dial)
    with pytest.raises(RemoteProtocolError, match=r"peer\.example:4848"):
        await client.which([HELLO_ID])


async def test_half_an_id_is_no_question(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    asked = request("POST", "/sha256/", "content-length: 31", f"content-type: {WHICH_REQUEST_TYPE}")
    assert status_of(await Server(nursery, DictOffer()).ask(asked + bytes(31))) == 400
    assert parse_batch_request(bytes(32)) == [BlockId(bytes(32))]
