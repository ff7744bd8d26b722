"""The server against scripted clients, in memory and on a virtual clock."""

import json
import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.errors import StoreError
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.net.exchange.connection import ServerLimits
from libernet.net.exchange.protocol import MAX_HEAD_BYTES
from libernet.net.exchange.wire import (
    BATCH_REQUEST_TYPE,
    MAX_BATCH_IDS,
    MAX_BATCH_REQUEST_BYTES,
    batch_records,
)
from tests.support.exchange import HELLO, HELLO_ID, DictOffer
from tests.support.exchange_server import (
    GET_HELLO,
    HOST,
    LIMITS,
    Server,
    body_of,
    header_of,
    received,
    request,
    status_of,
)

KEY = "c0ffee" * 10 + "c0ff"


def batch_of(*block_ids: bytes) -> bytes:
    body = b"".join(block_ids)
    length = f"content-length: {len(body)}"
    return request("POST", "/sha256/", length, f"content-type: {BATCH_REQUEST_TYPE}", body=body)


@pytest.fixture
def server(nursery: trio.Nursery) -> Server:
    return Server(nursery, DictOffer())


async def test_a_block_is_served_and_said_never_to_change(
    autojump_clock: MockClock, server: Server
) -> None:
    answer = await server.ask(request("GET", f"/sha256/{HELLO_ID}"))
    assert status_of(answer) == 200
    assert body_of(answer) == HELLO
    assert header_of(answer, "content-type") == "application/octet-stream"
    assert header_of(answer, "content-length") == str(len(HELLO))
    assert header_of(answer, "etag") == f'"{HELLO_ID}"'
    assert "immutable" in (header_of(answer, "cache-control") or "")
    assert header_of(answer, "server") is None


async def test_head_is_get_without_the_block(autojump_clock: MockClock, server: Server) -> None:
    answer = await server.ask(request("HEAD", f"/sha256/{HELLO_ID}"))
    assert status_of(answer) == 200
    assert body_of(answer) == b""
    assert header_of(answer, "content-length") == str(len(HELLO))


async def test_who_has_the_block_is_not_sent_it_again(
    autojump_clock: MockClock, server: Server
) -> None:
    path = f"/sha256/{HELLO_ID}"
    answer = await server.ask(request("GET", path, f'if-none-match: "{HELLO_ID}"'))
    assert status_of(answer) == 304
    assert body_of(answer) == b""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_absent_block_is_404(
    autojump_clock: MockClock, server: Server, method: str
) -> None:
    answer = await server.ask(request(method, f"/sha256/{BlockId.of(b'absent')}"))
    assert status_of(answer) == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/sha256/{str(HELLO_ID).upper()}", 400),
        ("GET", f"/sha256/{str(HELLO_ID)[:-1]}", 400),
        ("GET", f"/sha256/{HELLO_ID}0", 400),
        ("GET", "/sha256/..", 400),
        ("GET", "/sha256/%00", 400),
        ("GET", f"/sha384/{HELLO_ID}", 400),
        ("GET", "/sha256/like/none", 400),
        ("PUT", f"/sha256/like/{HELLO_ID}", 405),
        ("GET", f"/sha256/{HELLO_ID}/", 404),
        ("GET", f"/sha256/{HELLO_ID}/aes256/{KEY}", 404),
        ("GET", f"/sha256/{HELLO_ID}/aes256gcm/{KEY}/a/file", 404),
        ("GET", f"//sha256/{HELLO_ID}", 404),
        ("GET", "/", 404),
        ("GET", "*", 404),
        ("GET", "/sha256", 404),
        ("GET", "/sha256/", 405),
        ("DELETE", f"/sha256/{HELLO_ID}", 405),
        ("PUT", f"/sha256/{HELLO_ID}", 403),
        ("POST", f"/sha256/{HELLO_ID}", 405),
        ("OPTIONS", f"/sha256/{HELLO_ID}", 405),
        ("TRACE", f"/sha256/{HELLO_ID}", 405),
        ("PUT", "/sha256/", 405),
        ("POST", "/sha256/", 415),
    ],
)
async def test_nothing_else_is_served(
    autojump_clock: MockClock, server: Server, method: str, path: str, status: int
) -> None:
    answer = await server.ask(request(method, path))
    assert status_of(answer) == status
    assert header_of(answer, "location") is None
    assert HELLO not in answer


async def test_a_key_sent_by_mistake_stays_out_of_log_and_answer(
    autojump_clock: MockClock, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in (f"/sha256/{HELLO_ID}/aes256/{KEY}", f"/sha256/{KEY}x", f"/{KEY}", f"/?{KEY}"):
        assert KEY.encode() not in await server.ask(request("GET", path))
        assert KEY.encode() not in await server.ask(request("PUT", path, "content-length: 9"))
    assert KEY not in caplog.text


async def test_an_offer_decides_what_is_served(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, DictOffer([b"another"]))
    assert status_of(await server.ask(request("GET", f"/sha256/{HELLO_ID}"))) == 404


async def test_a_blob_is_served_by_its_longer_id(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    offer = DictOffer([])
    blob_id = BlobId.of(HELLO)
    offer.blocks[blob_id] = HELLO
    server = Server(nursery, offer)
    answer = await server.ask(request("GET", f"/sha384/{blob_id}"))
    assert (status_of(answer), body_of(answer)) == (200, HELLO)
    assert header_of(answer, "etag") == f'"{blob_id}"'
    assert status_of(await server.ask(request("GET", f"/sha384/{BlobId.of(b'')}"))) == 404


async def test_public_blocks_like_another_are_told(
    autojump_clock: MockClock, server: Server
) -> None:
    near, far = (bytes([HELLO_ID[0] ^ bit]) + bytes(31) for bit in (0, 1))
    answer = await server.ask(request("GET", f"/sha256/like/{BlockId(near)}"))
    assert (status_of(answer), header_of(answer, "content-type")) == (200, "application/json")
    assert json.loads(body_of(answer)) == {f"/sha256/{HELLO_ID}": len(HELLO)}
    answer = await server.ask(request("GET", f"/sha256/like/{BlockId(far)}"))
    assert (status_of(answer), body_of(answer)) == (404, b"{}")


async def test_a_batch_answers_in_the_order_asked(
    autojump_clock: MockClock, server: Server
) -> None:
    answer = await server.ask(batch_of(HELLO_ID, bytes(32), HELLO_ID))
    assert status_of(answer) == 200
    records = [record and bytes(record) for record in batch_records(memoryview(body_of(answer)))]
    assert records == [HELLO, None, HELLO]


async def test_a_batch_ends_before_it_gets_too_large(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    blocks = [bytes([n]) * (MAX_BLOCK_BYTES // 2) for n in range(3)]
    server = Server(nursery, DictOffer(blocks))
    answer = await server.ask(batch_of(*map(BlockId.of, blocks)))
    records = list(batch_records(memoryview(body_of(answer))))
    assert [record and bytes(record) for record in records] == blocks[:2]


async def test_the_largest_block_fits_in_a_batch(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    block = bytes(MAX_BLOCK_BYTES)
    server = Server(nursery, DictOffer([block]))
    answer = await server.ask(batch_of(BlockId.of(block), BlockId.of(block)))
    assert [len(record or b"") for record in batch_records(memoryview(body_of(answer)))] == [
        len(block)
    ]


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param([batch_of()], 400, id="empty batch"),
        pytest.param([batch_of(bytes(31))], 400, id="half an id"),
        pytest.param([batch_of(bytes(32 * (MAX_BATCH_IDS + 1)))], 413, id="too many ids"),
        pytest.param(
            [request("POST", "/sha256/", "transfer-encoding: chunked")], 413, id="chunked batch"
        ),
        pytest.param(
            [request("PUT", f"/sha256/{HELLO_ID}", "content-length: 9999999999"), bytes(65536)],
            413,
            id="a put with a body that is too long",
        ),
        pytest.param(
            [request("GET", f"/sha256/{HELLO_ID}", "content-length: 5"), b"hello"],
            413,
            id="a get with a body",
        ),
        pytest.param(
            [request("GET", f"/sha256/{HELLO_ID}", "transfer-encoding: chunked"), b"5\r\nhello"],
            413,
            id="a get with a chunked body",
        ),
        pytest.param(
            [request("POST", "/sha256/", "content-length: 99999999", "expect: 100-continue")],
            413,
            id="a body announced",
        ),
        pytest.param([b"\0\1\2\3 garbage\r\n\r\n"], 400, id="garbage"),
        pytest.param([b"GET / HTTP/1.1\r\n\r\n"], 400, id="no host"),
        pytest.param([b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n"], 400, id="length"),
        pytest.param([b"GET " + b"/" * 10 * MAX_HEAD_BYTES], 431, id="a long path"),
        pytest.param(
            [b"GET / HTTP/1.1\r\n", *[b"x: %s\r\n" % (b"y" * 1000)] * 20], 431, id="a long head"
        ),
        pytest.param(
            [request("GET", "/", "connection: upgrade", "upgrade: websocket")], 400, id="websocket"
        ),
        pytest.param([b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + bytes(200)], 400, id="TLS"),
    ],
)
async def test_what_is_refused_is_told_so_and_hung_up_on(
    autojump_clock: MockClock, server: Server, pieces: list[bytes], status: int
) -> None:
    answer = await server.ask(*pieces)
    assert status_of(answer) == status
    assert trio.current_time() <= LIMITS.linger_seconds
    assert b"100 Continue" not in answer


async def test_http_2_is_not_spoken(autojump_clock: MockClock, server: Server) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64)
    assert (await server.ask(preface)).startswith(b"HTTP/1.1 404 ")
    upgrade = request("GET", f"/sha256/{HELLO_ID}", "upgrade: h2c", "http2-settings: AAMAAABk")
    assert body_of(await server.ask(upgrade)) == HELLO


async def test_a_connection_is_kept_for_the_next_request(
    autojump_clock: MockClock, server: Server
) -> None:
    stream = server.connect()
    for _ in range(3):
        await stream.send_all(GET_HELLO)
        await wait_all_tasks_blocked()
        answer = bytes(await stream.receive_some())
        assert status_of(answer) == 200
        assert body_of(answer) == HELLO
        await trio.sleep(LIMITS.idle_seconds - 1)


async def test_requests_sent_all_at_once_are_answered_one_by_one(
    autojump_clock: MockClock, server: Server
) -> None:
    answers = await server.ask(GET_HELLO * 500 + request("GET", "/"))
    assert answers.count(HELLO) == 500


@pytest.mark.parametrize(
    ("pieces", "pause", "seconds"),
    [
        pytest.param([b""], 1, LIMITS.head_seconds, id="silence"),
        pytest.param([GET_HELLO[:20], *[b"x"] * 99], 1, LIMITS.head_seconds, id="a head in drops"),
        pytest.param([GET_HELLO], 0, LIMITS.idle_seconds, id="idle after a request"),
        pytest.param([GET_HELLO, *[b"G"] * 99], 1, LIMITS.idle_seconds, id="a second head"),
        pytest.param([batch_of(bytes(999))[:-900]], 0, LIMITS.request_seconds, id="half a batch"),
        pytest.param(
            [batch_of(bytes(999))[:-900], *[b"x"] * 99], 1, LIMITS.request_seconds, id="drops"
        ),
    ],
)
async def test_a_client_that_takes_its_time_is_hung_up_on(
    autojump_clock: MockClock,
    server: Server,
    nursery: trio.Nursery,
    pieces: list[bytes],
    pause: float,
    seconds: float,
) -> None:
    stream = server.connect()

    async def send() -> None:
        for piece in pieces:
            try:
                await stream.send_all(piece)
            except trio.BrokenResourceError:
                return
            await trio.sleep(pause)

    nursery.start_soon(send)
    await received(stream)
    assert trio.current_time() == seconds
    await wait_all_tasks_blocked()
    assert server.server.connections == 0


async def test_a_client_that_reads_nothing_is_hung_up_on(
    autojump_clock: MockClock, server: Server
) -> None:
    stream = server.connect_unbuffered()
    await stream.send_all(GET_HELLO)
    await trio.sleep(LIMITS.request_seconds - 1)
    assert server.server.connections == 1
    await trio.sleep(2)
    assert server.server.connections == 0


async def test_a_flood_of_requests_is_not_taken_in_before_answers_are_read(
    autojump_clock: MockClock, server: Server
) -> None:
    stream = server.connect_unbuffered()
    sent = 0
    with trio.move_on_after(LIMITS.request_seconds / 2):
        while True:
            await stream.send_all(GET_HELLO * 100)
            sent += 1
    assert sent <= 2


async def test_a_client_that_leaves_is_forgotten_at_once(
    autojump_clock: MockClock, server: Server
) -> None:
    stream = server.connect_unbuffered()
    await stream.send_all(GET_HELLO)
    await trio.aclose_forcefully(stream)
    await wait_all_tasks_blocked()
    assert server.server.connections == 0
    assert trio.current_time() == 0


async def test_too_many_connections_are_turned_away(
    autojump_clock: MockClock, server: Server
) -> None:
    kept = [server.connect(f"8.{number}.0.1") for number in range(LIMITS.connections)]
    await wait_all_tasks_blocked()
    turned_away = await received(server.connect("9.0.0.1"))
    assert status_of(turned_away) == 503
    await trio.aclose_forcefully(kept[0])
    await wait_all_tasks_blocked()
    stream = server.connect("9.0.0.1")
    await stream.send_all(request("GET", f"/sha256/{HELLO_ID}"))
    assert body_of(await received(stream)) == HELLO


_FULL = ServerLimits(connections=32, connections_per_host=8)


@pytest.mark.parametrize(
    "addresses",
    [
        ["8.1.0.1", "8.2.0.1", "8.3.0.1", "8.4.0.1"],
        ["8.8.0.1", "8.8.0.2", "8.8.0.3", "8.8.0.4"],
        ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
        [f"2001:db8:{number:x}::1" for number in range(32)],
    ],
)
@pytest.mark.parametrize("is_busy", [False, True])
async def test_who_has_many_makes_way_for_who_has_none(
    autojump_clock: MockClock, nursery: trio.Nursery, addresses: list[str], is_busy: bool
) -> None:
    server = Server(nursery, DictOffer(), limits=_FULL)
    each = _FULL.connections // len(addresses)
    kept = [server.connect(address) for address in addresses for _ in range(each)]
    for stream in kept if is_busy else ():
        await stream.send_all(batch_of(bytes(999))[:-900])
    await wait_all_tasks_blocked()
    for newcomer in ("10.0.0.6", "9.9.0.1"):
        answer = await server.ask(request("GET", f"/sha256/{HELLO_ID}"), host=newcomer)
        assert body_of(answer) == HELLO
        assert server.server.connections < _FULL.connections


async def test_who_is_idle_longest_makes_way(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, DictOffer(), limits=LIMITS)
    busy, idle, other, last = (server.connect(f"8.8.0.{n}") for n in (1, 1, 2, 2))
    await trio.sleep(1)
    for stream in (other, busy):
        await stream.send_all(batch_of(bytes(999))[:-900])
    for stream in (last, idle):
        await trio.sleep(1)
        await stream.send_all(GET_HELLO)
        answer = b""
        while not answer.endswith(HELLO):
            answer += await stream.receive_some()
    assert body_of(await server.ask(request("GET", f"/sha256/{HELLO_ID}"), host="9.9.0.1")) == HELLO
    assert await last.receive_some() == b""
    assert server.server.connections == 3


async def test_one_host_does_not_get_all_connections(
    autojump_clock: MockClock, server: Server
) -> None:
    kept = [server.connect() for _ in range(LIMITS.connections_per_host)]
    await wait_all_tasks_blocked()
    assert status_of(await received(server.connect())) == 503
    assert len(kept) == server.server.connections


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "it asked for nothing within 10 s"),
        (GET_HELLO[:-2], "it asked for nothing within 10 s"),
        (batch_of(bytes(999))[:-900], "a request took it more than 60 s"),
        (b"\x16\x03\x01 nonsense\r\n\r\n", "it sent what is no request (status 400)"),
        (GET_HELLO[:-4] + b"x" * MAX_HEAD_BYTES, "it sent what is no request (status 431)"),
        (request("GET", "/", "content-length: 9"), "it sent what is not wanted here (status 413)"),
    ],
)
async def test_the_log_names_whoever_is_hung_up_on_and_why(
    autojump_clock: MockClock,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    reason: str,
) -> None:
    caplog.set_level(logging.INFO)
    await server.ask(sent)
    await trio.sleep(2 * LIMITS.linger_seconds)
    assert caplog.messages == [f"a connection of {HOST} was ended: {reason}"]


@pytest.mark.parametrize(
    "sent", [GET_HELLO, request("GET", "/nothing"), request("GET", "/sha256/")]
)
async def test_nobody_is_named_who_kept_to_the_limits(
    autojump_clock: MockClock, server: Server, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.INFO)
    await server.ask(sent)
    stream = server.connect()
    await stream.send_all(sent[:20])
    await trio.aclose_forcefully(stream)
    await wait_all_tasks_blocked()
    assert caplog.messages == []


async def test_the_log_names_who_is_turned_away_and_a_flood_costs_few_lines(
    autojump_clock: MockClock, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept = [server.connect() for _ in range(LIMITS.connections_per_host)]
    await wait_all_tasks_blocked()
    for _ in range(50):
        await received(server.connect())
        await received(server.connect())
        await received(server.connect())
        await trio.sleep(0.1)
    assert caplog.messages[0] == f"{HOST} is turned away: it has {len(kept)} connections already"
    await trio.sleep(100)
    server.connect()
    await wait_all_tasks_blocked()
    assert len([line for line in caplog.messages if "turned away" in line]) <= 3


class BrokenOffer(DictOffer):
    """An offer that fails at every read."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self._failure = failure

    async def read(self, block_id: BlockId) -> bytes | None:
        raise self._failure


@pytest.mark.announces("cannot be answered: the disk is gone")
async def test_a_store_that_cannot_be_read_is_not_an_absent_block(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(nursery, BrokenOffer(StoreError("the disk is gone")))
    answer = await server.ask(request("GET", f"/sha256/{HELLO_ID}"))
    assert status_of(answer) == 503
    assert b"disk" not in answer
    assert "the disk is gone" in caplog.text


@pytest.mark.announces("a request on the peer port could not be answered")
async def test_a_bug_costs_one_answer_and_a_traceback(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(nursery, BrokenOffer(ZeroDivisionError("a bug")))
    assert status_of(await server.ask(request("GET", f"/sha256/{HELLO_ID}"))) == 500
    assert "ZeroDivisionError" in caplog.text
    assert status_of(await server.ask(request("HEAD", f"/sha256/{HELLO_ID}"))) == 200


async def test_the_most_ids_allowed_are_answered(autojump_clock: MockClock, server: Server) -> None:
    answer = await server.ask(batch_of(bytes(MAX_BATCH_REQUEST_BYTES)))
    assert len(list(batch_records(memoryview(body_of(answer))))) == MAX_BATCH_IDS
