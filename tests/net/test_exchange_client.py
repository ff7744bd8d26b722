"""The client against scripted peers, in memory and on a virtual clock."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    LibernetError,
    PeerTimeout,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.http_exchange import Question
from libernet.net.exchange.peer_connection import Pace
from libernet.net.exchange.pool import ClientLimits
from libernet.net.exchange.streams import PeerStream
from libernet.net.exchange.wire import (
    BATCH_ANSWER_TYPE,
    MAX_BATCH_ANSWER_BYTES,
    MAX_BATCH_IDS,
    batch_record,
    parse_batch_request,
)
from tests.support.exchange import (
    HELLO,
    HELLO_ID,
    PEER,
    MemoryStream,
    Script,
    ScriptedPeer,
    answering,
    hear,
    http,
)

FOUND = http(200, HELLO)
ABSENT_IN_THE_ORIGINAL = http(504, b"Data not currently on node", "content-type: text/html")
LIMITS = ClientLimits(
    connections=2,
    connect_seconds=5,
    idle_seconds=45,
    pace=Pace(answer_seconds=30, patience_seconds=10, least_bytes_per_second=1024),
)


class Peer(ScriptedPeer):
    """A scripted peer and the client that knows it."""

    def __init__(self, nursery: trio.Nursery, *scripts: Script) -> None:
        super().__init__(nursery, *scripts)
        self.client = ExchangeClient(PEER, limits=LIMITS, dial=self.dial)

    @property
    def connections(self) -> int:
        return len(self.streams)


MakePeer = Callable[..., Peer]


@pytest.fixture
def make_peer(nursery: trio.Nursery) -> MakePeer:
    return partial(Peer, nursery)


def endless(start: bytes, again: bytes) -> Script:
    """Answer with *start*, then with *again* until the client hangs up."""

    async def script(stream: MemoryStream) -> None:
        await hear(stream)
        await stream.send_all(start)
        while True:
            await stream.send_all(again)

    return script


def dripping(start: bytes, drop: bytes, seconds: float) -> Script:
    async def script(stream: MemoryStream) -> None:
        await hear(stream)
        await stream.send_all(start)
        while True:
            await trio.sleep(seconds)
            await stream.send_all(drop)

    return script


def batches(*blocks: bytes, records_at_a_time: int = MAX_BATCH_IDS) -> Script:
    """Answer batches out of *blocks*."""
    known = {BlockId.of(block): block for block in blocks}

    async def script(stream: MemoryStream) -> None:
        while request := await hear(stream):
            asked = parse_batch_request(request.partition(b"\r\n\r\n")[2])
            records = [batch_record(known.get(block_id)) for block_id in asked[:records_at_a_time]]
            await stream.send_all(
                http(200, b"".join(records), f"content-type: {BATCH_ANSWER_TYPE}")
            )

    return script


async def test_a_block_is_asked_for_by_its_id_alone(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    heard: list[bytes] = []

    async def script(stream: MemoryStream) -> None:
        heard.append(await hear(stream))
        await stream.send_all(FOUND)

    assert await make_peer(script).client.get(HELLO_ID) == HELLO
    assert heard[0].startswith(b"GET /sha256/%s HTTP/1.1\r\n" % str(HELLO_ID).encode())
    assert b"peer.example:4848\r\n" in heard[0]


async def test_one_connection_serves_question_after_question(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"
    peer = make_peer(answering(FOUND, http(404, b"no"), head, FOUND))
    assert await peer.client.get(HELLO_ID) == HELLO
    with pytest.raises(BlockNotFound, match=r"peer\.example:4848"):
        await peer.client.get(HELLO_ID)
    assert await peer.client.has(HELLO_ID)
    assert await peer.client.get(HELLO_ID) == HELLO
    assert peer.connections == 1


@pytest.mark.parametrize("status", [404, 409, 410, 504])
async def test_absent_is_said_in_several_ways(
    autojump_clock: MockClock, make_peer: MakePeer, status: int
) -> None:
    peer = make_peer(answering(http(status, b"no"), http(status)))
    with pytest.raises(BlockNotFound):
        await peer.client.get(HELLO_ID)
    assert not await peer.client.has(HELLO_ID)


async def test_an_original_node_is_a_usable_peer(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST"):
            return http(405, b"<html>Method Not Allowed</html>")
        return FOUND if str(HELLO_ID).encode() in request else ABSENT_IN_THE_ORIGINAL

    async def script(stream: MemoryStream) -> None:
        while request := await hear(stream):
            await stream.send_all(answer(request))

    client = make_peer(script).client
    assert await client.get_many([HELLO_ID, BlockId.of(b"absent")]) == {HELLO_ID: HELLO}
    with pytest.raises(BlockNotFound):
        await client.get(BlockId.of(b"absent"))


async def test_a_peer_that_refuses_batches_is_not_asked_for_one_again(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    methods: list[bytes] = []

    async def script(stream: MemoryStream) -> None:
        while request := await hear(stream):
            methods.append(request.partition(b" ")[0])
            await stream.send_all(FOUND if methods[-1] == b"GET" else http(405))

    client = make_peer(script).client
    for _ in range(2):
        assert await client.get_many([HELLO_ID]) == {HELLO_ID: HELLO}
    assert methods == [b"POST", b"GET", b"GET"]


@pytest.mark.parametrize("records_at_a_time", [1, 7, MAX_BATCH_IDS])
async def test_many_blocks_come_in_batches(
    autojump_clock: MockClock, make_peer: MakePeer, records_at_a_time: int
) -> None:
    blocks = {BlockId.of(block): block for block in (b"block %d" % n for n in range(50))}
    peer = make_peer(batches(*blocks.values(), records_at_a_time=records_at_a_time))
    wanted = [*blocks, BlockId.of(b"absent"), *blocks]
    assert await peer.client.get_many(wanted) == blocks
    assert peer.connections == 1


async def test_nothing_is_asked_when_nothing_is_wanted(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering())
    assert await peer.client.get_many([]) == {}
    assert peer.connections == 0


async def test_more_ids_than_fit_in_a_batch_make_several(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    blocks = {BlockId.of(block): block for block in (b"%d" % n for n in range(MAX_BATCH_IDS + 1))}
    assert await make_peer(batches(*blocks.values())).client.get_many(blocks) == blocks


def batch(*records: bytes) -> bytes:
    return http(200, b"".join(records), f"content-type: {BATCH_ANSWER_TYPE}")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (batch(), RemoteProtocolError),
        (batch(batch_record(HELLO), batch_record(HELLO)), RemoteProtocolError),
        (batch(batch_record(HELLO)[:-1]), RemoteProtocolError),
        (batch(b"\0\0"), RemoteProtocolError),
        (batch(b"\xff\xff\xff\xfe" + HELLO), RemoteProtocolError),
        (batch(batch_record(b"something else")), BlockCorrupt),
        (http(503), PeerUnreachable),
    ],
)
async def test_a_bad_batch_is_the_peers_fault(
    autojump_clock: MockClock, make_peer: MakePeer, answer: bytes, error: type[LibernetError]
) -> None:
    with pytest.raises(error, match=r"peer\.example:4848"):
        await make_peer(answering(answer)).client.get_many([HELLO_ID])


async def test_one_bad_block_of_many_is_one_error(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    async def script(stream: MemoryStream) -> None:
        while request := await hear(stream):
            await stream.send_all(http(404) if request.startswith(b"POST") else http(200, b"bad"))

    with pytest.raises(BlockCorrupt):
        await make_peer(script).client.get_many([BlockId.of(b"%d" % n) for n in range(9)])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(200, b"something else"), id="other bytes"),
        pytest.param(http(200), id="no bytes"),
        pytest.param(http(200, HELLO + b"!"), id="too many bytes"),
        pytest.param(http(200, HELLO[:-1]), id="too few bytes"),
    ],
)
async def test_wrong_bytes_are_never_returned(
    autojump_clock: MockClock, make_peer: MakePeer, answer: bytes
) -> None:
    with pytest.raises(BlockCorrupt, match=r"peer\.example:4848 sent \d+ bytes"):
        await make_peer(answering(answer)).client.get(HELLO_ID)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"", PeerUnreachable, id="nothing"),
        pytest.param(b"HTTP/1.1 200", PeerUnreachable, id="half a head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhello", PeerUnreachable, id="half a body"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
            PeerUnreachable,
            id="half a chunk",
        ),
        pytest.param(bytes(range(256)), RemoteProtocolError, id="garbage"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", RemoteProtocolError, id="another protocol"),
        pytest.param(http(302, b"", "location: http://x/"), RemoteProtocolError, id="a redirect"),
        pytest.param(http(500, b"oh"), RemoteProtocolError, id="an error"),
        pytest.param(http(206, HELLO[:4]), RemoteProtocolError, id="a part"),
        pytest.param(http(503), PeerUnreachable, id="too busy"),
        pytest.param(
            http(200, HELLO, "content-encoding: gzip"), RemoteProtocolError, id="compressed"
        ),
        pytest.param(
            f"HTTP/1.1 200 OK\r\ncontent-length: {MAX_BLOCK_BYTES + 1}\r\n\r\n".encode(),
            RemoteProtocolError,
            id="a length over the limit",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % 10**15,
            RemoteProtocolError,
            id="a length of a petabyte",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", RemoteProtocolError, id="negative"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            RemoteProtocolError,
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            RemoteProtocolError,
            id="another transfer encoding",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            PeerUnreachable,
            id="a huge chunk that never comes",
        ),
        pytest.param(
            http(200, HELLO, *(f"x-{n}: y" for n in range(64))),
            RemoteProtocolError,
            id="many headers",
        ),
        pytest.param(b"HTTP/1.1 101 Come\r\nupgrade: x\r\n\r\n", RemoteProtocolError, id="upgrade"),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 5, RemoteProtocolError, id="interim answers"),
    ],
)
async def test_a_bad_answer_is_an_error_that_names_the_peer(
    autojump_clock: MockClock, make_peer: MakePeer, answer: bytes, error: type[LibernetError]
) -> None:
    peer = make_peer(answering(answer))
    with pytest.raises(error, match=r"peer\.example:4848"):
        await peer.client.get(HELLO_ID)


@pytest.mark.parametrize(
    ("start", "again"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Go\r\n\r\n", id="interim answers"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n", b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", id="headers"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1000, id="one header"),
        pytest.param(b"HTTP/1.1 200 ", b"O" * 1000, id="the status line"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1000\r\n" + bytes(4096) + b"\r\n",
            id="chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n" * 99,
            id="crumbs",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x" * 999, id="extension"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: y\r\n",
            id="trailers",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", bytes(4096), id="a body without a length"),
        pytest.param(b"", b"\r\n", id="empty lines"),
    ],
)
async def test_what_never_ends_is_given_up(
    autojump_clock: MockClock, make_peer: MakePeer, start: bytes, again: bytes
) -> None:
    sent = itertools.count()
    script = endless(start, again)

    async def counted(stream: MemoryStream) -> None:
        send_all = stream.send_stream.send_all

        async def count(data: bytes | bytearray | memoryview) -> None:
            await send_all(data)
            await wait_all_tasks_blocked()
            next(sent)

        stream.send_stream.send_all = count  # type: ignore[method-assign]
        await script(stream)

    with pytest.raises(RemoteProtocolError, match=r"peer\.example:4848"):
        await make_peer(counted).client.get(HELLO_ID)
    assert next(sent) * len(again) < MAX_BLOCK_BYTES + 2 * len(again) + 16 * 1024


async def test_a_refusal_that_never_ends_is_a_refusal(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    chunked = b"HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n"
    peer = make_peer(endless(chunked, b"400\r\n" + bytes(1024) + b"\r\n"), answering(FOUND))
    with pytest.raises(BlockNotFound):
        await peer.client.get(HELLO_ID)
    assert peer.streams[0].is_closed
    assert await peer.client.get(HELLO_ID) == HELLO


@pytest.mark.parametrize(
    ("start", "drop", "seconds", "longest"),
    [
        pytest.param(b"", b"H", 1000, 10, id="silence"),
        pytest.param(b"", b"H", 1, 11, id="a head in drops"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", b"h", 9, 11, id="body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
            2,
            11,
            id="chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", bytes(2000), 1, 30, id="slowness"
        ),
    ],
)
async def test_a_peer_too_slow_for_use_is_given_up(
    autojump_clock: MockClock,
    make_peer: MakePeer,
    start: bytes,
    drop: bytes,
    seconds: float,
    longest: float,
) -> None:
    peer = make_peer(dripping(start, drop, seconds))
    with pytest.raises(PeerTimeout, match=r"peer\.example:4848"):
        await peer.client.get(HELLO_ID)
    assert 10 <= trio.current_time() <= longest
    assert peer.streams[0].is_closed


async def test_a_peer_that_reads_nothing_is_given_up(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    async def deaf(stream: MemoryStream) -> None:
        await trio.sleep_forever()

    with pytest.raises(PeerTimeout):
        await make_peer(deaf).client.get_many([HELLO_ID])
    assert trio.current_time() == 10


async def test_a_slow_but_steady_peer_is_waited_for(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    block = bytes(40_000)

    async def script(stream: MemoryStream) -> None:
        await hear(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 40000\r\n\r\n")
        for at in range(0, len(block), 2000):
            await trio.sleep(1)
            await stream.send_all(block[at : at + 2000])

    assert await make_peer(script).client.get(BlockId.of(block)) == block
    assert trio.current_time() == 20


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + HELLO, id="until the end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n7;x=y\r\n, block\r\n0\r\nx: y\r\n\r\n",
            id="in chunks",
        ),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 4 + FOUND, id="after interim answers"),
        pytest.param(http(200, HELLO, "connection: close"), id="once"),
        pytest.param(http(200, HELLO, "content-encoding: identity"), id="as it is"),
        pytest.param(FOUND + b"HTTP/1.1 200 OK\r\n", id="with more behind it"),
    ],
)
async def test_any_correct_answer_is_understood(
    autojump_clock: MockClock, make_peer: MakePeer, answer: bytes
) -> None:
    peer = make_peer(answering(answer))
    assert await peer.client.get(HELLO_ID) == HELLO
    assert await peer.client.get(HELLO_ID) == HELLO


@pytest.mark.parametrize(
    "answer",
    [
        http(200, HELLO, "connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 12\r\n\r\n" + HELLO,
        FOUND + FOUND,
    ],
)
async def test_a_connection_that_cannot_be_kept_is_not(
    autojump_clock: MockClock, make_peer: MakePeer, answer: bytes
) -> None:
    peer = make_peer(answering(answer, answer))
    assert await peer.client.get(HELLO_ID) == HELLO
    assert peer.streams[0].is_closed
    assert await peer.client.get(HELLO_ID) == HELLO
    assert peer.connections == 2


async def test_a_kept_connection_that_the_peer_closed_is_replaced(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(FOUND))
    for _ in range(3):
        assert await peer.client.get(HELLO_ID) == HELLO
    assert peer.connections == 3


async def test_a_kept_connection_with_something_to_say_is_not_used(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(FOUND, FOUND))
    await peer.client.get(HELLO_ID)
    peer.streams[0].is_noisy = True
    await peer.client.get(HELLO_ID)
    assert peer.streams[0].is_closed
    assert peer.connections == 2


async def test_a_fresh_connection_that_ends_is_not_tried_again(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering())
    with pytest.raises(PeerUnreachable):
        await peer.client.get(HELLO_ID)
    assert peer.connections == 1


async def test_idle_connections_are_closed_after_a_while(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(FOUND, FOUND, FOUND))
    await peer.client.get(HELLO_ID)
    await trio.sleep(LIMITS.idle_seconds - 1)
    peer.client.close_idle()
    assert not peer.streams[0].is_closed
    await trio.sleep(2)
    peer.client.close_idle()
    assert peer.streams[0].is_closed


async def test_memory_for_answers_is_used_again_and_goes_when_none_came_for_a_while(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(FOUND, FOUND, FOUND))
    buffers = peer.client._pool._lines.buffers
    for _ in range(2):
        await peer.client.get(HELLO_ID)
        assert len(buffers) == 1
    async with peer.client._pool.ask(Question("GET", f"/sha256/{HELLO_ID}", 100)) as answer:
        assert (len(buffers), answer.body) == (0, HELLO)
    await trio.sleep(LIMITS.rest_seconds + 1)
    peer.client.close_idle()
    assert len(buffers) == 0
    assert len(peer.streams) == 1


async def test_memory_for_an_answer_that_never_came_is_given_back(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(b"nonsense\r\n\r\n"))
    buffers = peer.client._pool._lines.buffers
    with pytest.raises(RemoteProtocolError):
        await peer.client.get(HELLO_ID)
    assert len(buffers) == 1


async def test_a_closed_client_keeps_nothing(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(answering(FOUND, FOUND))
    await peer.client.get(HELLO_ID)
    peer.client.close()
    assert peer.streams[0].is_closed
    await peer.client.get(HELLO_ID)
    assert all(stream.is_closed for stream in peer.streams)


async def test_no_more_questions_are_asked_at_once_than_allowed(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    async def script(stream: MemoryStream) -> None:
        while await hear(stream):
            await trio.sleep(1)
            await stream.send_all(FOUND)

    peer = make_peer(script)
    async with trio.open_nursery() as readers:
        for _ in range(10):
            readers.start_soon(peer.client.get, HELLO_ID)
    assert peer.connections == LIMITS.connections
    assert trio.current_time() == 10 / LIMITS.connections


async def test_waiting_for_a_place_is_not_the_peers_slowness(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    async def script(stream: MemoryStream) -> None:
        while await hear(stream):
            await trio.sleep(9)
            await stream.send_all(FOUND)

    peer = make_peer(script)
    async with trio.open_nursery() as readers:
        for _ in range(8):
            readers.start_soon(peer.client.get, HELLO_ID)
    assert trio.current_time() == 36


async def test_a_cancelled_question_gives_its_place_back(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    async def silent(stream: MemoryStream) -> None:
        await trio.sleep_forever()

    peer = make_peer(silent, silent, answering(FOUND))
    for stream in range(LIMITS.connections):
        with trio.move_on_after(1) as impatience:
            await peer.client.get(HELLO_ID)
        assert impatience.cancelled_caught
        assert peer.streams[stream].is_closed
    assert await peer.client.get(HELLO_ID) == HELLO


async def test_the_caller_can_shorten_the_wait(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    peer = make_peer(dripping(b"", b"H", 1))
    with pytest.raises(trio.TooSlowError), trio.fail_after(3):
        await peer.client.get(HELLO_ID)
    assert trio.current_time() == 3


async def test_a_peer_that_does_not_pick_up_is_unreachable(autojump_clock: MockClock) -> None:
    async def dial(peer: PeerAddress) -> PeerStream:
        await trio.sleep_forever()
        raise AssertionError

    client = ExchangeClient(PEER, limits=LIMITS, dial=dial)
    with pytest.raises(PeerUnreachable, match=r"peer\.example:4848"):
        await client.get(HELLO_ID)
    assert trio.current_time() == LIMITS.connect_seconds


async def test_who_waits_for_a_place_learns_with_the_others_that_the_peer_is_unreachable(
    autojump_clock: MockClock,
) -> None:
    dialled = 0

    async def dial(peer: PeerAddress) -> PeerStream:
        nonlocal dialled
        dialled += 1
        await trio.sleep_forever()
        raise AssertionError

    async def ask() -> None:
        with pytest.raises(PeerUnreachable, match=r"peer\.example:4848"):
            await client.get(HELLO_ID)

    client = ExchangeClient(PEER, limits=LIMITS, dial=dial)
    async with trio.open_nursery() as readers:
        for _ in range(10):
            readers.start_soon(ask)
    assert trio.current_time() == LIMITS.connect_seconds
    assert dialled == LIMITS.connections
    await ask()
    assert dialled == LIMITS.connections + 1


async def test_the_largest_block_is_received(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    block = bytes(MAX_BLOCK_BYTES)
    assert await make_peer(answering(http(200, block))).client.get(BlockId.of(block)) == block


async def test_what_is_larger_than_a_batch_is_refused(
    autojump_clock: MockClock, make_peer: MakePeer
) -> None:
    answer = http(200, bytes(MAX_BATCH_ANSWER_BYTES + 1), f"content-type: {BATCH_ANSWER_TYPE}")
    with pytest.raises(RemoteProtocolError):
        await make_peer(answering(answer)).client.get_many([HELLO_ID])
