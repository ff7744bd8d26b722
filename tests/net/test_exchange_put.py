"""Blocks put on a node by others, at both ends, in memory and on a virtual clock."""

import itertools
import logging
import os
import zlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.errors import (
    LibernetError,
    PeerRefused,
    PeerTimeout,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.net.exchange.admission import SKEW_SECONDS, AcceptanceRules, Admission, Visitor
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.connection import ServerLimits
from libernet.net.exchange.reception import MAX_AT_ONCE, MAX_PER_HOST, Reception
from libernet.net.exchange.signing import NODE_HEADER, SIGNATURE_HEADER, Signature, Signer
from libernet.net.identity import NodeIdentity
from tests.support.exchange import (
    HELLO,
    HELLO_ID,
    PEER,
    DictIntake,
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
    LIMITS,
    Server,
    body_of,
    header_of,
    received,
    request,
    status_of,
)

HERE = "127.0.0.1"
NOW = 1_800_000_000
HELLO_PATH = f"/sha256/{HELLO_ID}"
RECIPIENT = NodeIdentity(b"r" * 32).public_key
FRIEND = NodeIdentity(b"f" * 32)
STRANGER = NodeIdentity(b"s" * 32)
RULES = AcceptanceRules.parse([FRIEND.public_key.hex()], ["198.51.100.0/24"])


MANY = ServerLimits(connections=99, connections_per_host=99)


class Keeper(Server):
    """A server that keeps blocks as *rules* say, in `kept`; its wall clock is `seconds`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        rules: AcceptanceRules = RULES,
        limits: ServerLimits = LIMITS,
    ) -> None:
        self.intake = DictIntake()
        self.seconds = NOW
        self.offer = DictOffer([])
        reception = Reception(Admission(rules, RECIPIENT, lambda: self.seconds), self.intake)
        super().__init__(nursery, self.offer, reception, limits)
        self.outcomes = reception.outcomes
        self.rules = rules

    @property
    def kept(self) -> dict[BlockId, tuple[bytes, bool]]:
        return self.intake.kept


@pytest.fixture
def keeper(nursery: trio.Nursery) -> Keeper:
    return Keeper(nursery)


def put(block_id: BlockId, body: bytes, *headers: str) -> bytes:
    length = f"content-length: {len(body)}"
    return request("PUT", f"/sha256/{block_id}", length, *headers, body=body)


def chunked(pieces: Iterable[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def signed(
    identity: NodeIdentity = FRIEND,
    *,
    method: str = "PUT",
    path: str = HELLO_PATH,
    body: bytes = HELLO,
    recipient: bytes = RECIPIENT,
    seconds: int = NOW,
) -> str:
    made = Signer(identity, lambda: seconds).sign(method, path, body, recipient)
    return f"libernet-signature: {made}"


async def until_broken(send: Callable[[], Awaitable[None]]) -> None:
    with suppress(trio.BrokenResourceError):
        await send()


class TestFromNearby:
    @pytest.mark.parametrize("host", [HERE, "::1", "198.51.100.7"])
    async def test_a_block_is_kept_as_a_guest(
        self, autojump_clock: MockClock, keeper: Keeper, host: str
    ) -> None:
        answer = await keeper.ask(put(HELLO_ID, HELLO), host=host)
        assert (status_of(answer), body_of(answer)) == (200, b"data received")
        assert keeper.kept == {HELLO_ID: (HELLO, True)}

    @pytest.mark.parametrize("host", [HOST, "198.51.101.1", "2001:db8::1", "?"])
    async def test_other_machines_must_sign(
        self, autojump_clock: MockClock, keeper: Keeper, host: str
    ) -> None:
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=host)) == 403
        assert not keeper.kept

    async def test_a_page_in_a_browser_may_not(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        page = put(HELLO_ID, HELLO, "origin: http://localhost:8042")
        assert status_of(await keeper.ask(page, host=HERE)) == 403

    async def test_a_node_that_keeps_nothing_says_so(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        answer = await Server(nursery, DictOffer()).ask(put(HELLO_ID, HELLO), host=HERE)
        assert status_of(answer) == 403
        assert header_of(answer, "libernet-node") is None


class TestBodies:
    @pytest.mark.parametrize(
        "block",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(os.urandom(MAX_BLOCK_BYTES), id="the largest"),
            pytest.param(b"x" * 100_000, id="several receptions"),
        ],
    )
    @pytest.mark.parametrize("in_chunks", [False, True])
    async def test_a_block_of_any_size_is_taken_in_whole(
        self, autojump_clock: MockClock, keeper: Keeper, block: bytes, in_chunks: bool
    ) -> None:
        block_id = BlockId.of(block)
        if in_chunks:
            pieces = [block[at : at + 5000] for at in range(0, len(block), 5000)]
            head = request("PUT", f"/sha256/{block_id}", "transfer-encoding: chunked")
            answer = await keeper.ask(head, chunked(pieces), host=HERE)
        else:
            answer = await keeper.ask(put(block_id, block), host=HERE)
        assert status_of(answer) == 200
        assert keeper.kept[block_id] == (block, True)

    async def test_a_plain_block_of_the_original_is_known_by_what_it_inflates_to(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        plain = b"in the clear " * 1000
        stored = zlib.compress(plain, 9)
        assert status_of(await keeper.ask(put(BlockId.of(plain), stored), host=HERE)) == 200
        assert keeper.kept == {BlockId.of(plain): (stored, True)}

    @pytest.mark.parametrize(
        "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    )
    async def test_a_form_is_a_body_like_any_other(
        self, autojump_clock: MockClock, keeper: Keeper, kind: str
    ) -> None:
        asked = put(HELLO_ID, HELLO, f"content-type: {kind}")
        assert status_of(await keeper.ask(asked, host=HERE)) == 200
        assert keeper.kept == {HELLO_ID: (HELLO, True)}

    @pytest.mark.parametrize(
        "body",
        [b"something else", b"", HELLO[:-1], HELLO + b".", zlib.compress(bytes(2 * 1024**2))],
        ids=["other", "nothing", "short", "long", "a bomb"],
    )
    async def test_what_is_not_the_block_is_not_kept(
        self,
        autojump_clock: MockClock,
        keeper: Keeper,
        body: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        assert status_of(await keeper.ask(put(HELLO_ID, body), host=HERE)) == 422
        assert not keeper.kept
        assert f"127.0.0.1 put {len(body)} bytes that are not block {HELLO_ID}" in caplog.text

    async def test_too_much_is_refused_before_it_is_read(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        announced = request("PUT", HELLO_PATH, f"content-length: {MAX_BLOCK_BYTES + 1}")
        assert status_of(await keeper.ask(announced, host=HERE)) == 413
        endless = keeper.connect(HERE)
        await endless.send_all(request("PUT", HELLO_PATH, "transfer-encoding: chunked"))
        piece = chunked([bytes(16_384)])[: -len(b"0\r\n\r\n")]
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await endless.send_all(piece)
                await wait_all_tasks_blocked()
                sent += len(piece)

        await until_broken(send)
        assert sent < 2.5 * MAX_BLOCK_BYTES
        assert status_of(await received(endless)) == 413

    async def test_crumbs_are_refused(self, autojump_clock: MockClock, keeper: Keeper) -> None:
        head = request("PUT", HELLO_PATH, "transfer-encoding: chunked")
        answer = await keeper.ask(head, chunked(itertools.repeat(b"x", 20_000)), host=HERE)
        assert status_of(answer) == 413

    async def test_a_full_node_says_so(self, autojump_clock: MockClock, keeper: Keeper) -> None:
        keeper.intake.has_room = False
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 507

    async def test_what_came_of_each_is_counted(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        await keeper.ask(put(HELLO_ID, HELLO), host=HERE)
        await keeper.ask(put(HELLO_ID, HELLO), host=HOST)
        await keeper.ask(put(HELLO_ID, b"other"), host=HERE)
        keeper.intake.has_room = False
        await keeper.ask(put(HELLO_ID, HELLO), host=HERE)
        assert keeper.outcomes == {"kept": 1, "refused": 1, "wrong": 1, "no_room": 1, "busy": 0}

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            pytest.param(b"", b"", id="silence"),
            pytest.param(b"x", b"x", id="drops"),
            pytest.param(b"1\r\nx\r\n", b"1\r\nx\r\n", id="drops in chunks"),
        ],
    )
    async def test_a_body_that_only_drips_is_ended(
        self,
        autojump_clock: MockClock,
        keeper: Keeper,
        nursery: trio.Nursery,
        first: bytes,
        again: bytes,
    ) -> None:
        stream = keeper.connect(HERE)
        is_chunked = first.startswith(b"1")
        length = "transfer-encoding: chunked" if is_chunked else "content-length: 100000"

        async def drip() -> None:
            await stream.send_all(request("PUT", HELLO_PATH, length) + first)
            while again:
                await trio.sleep(1)
                await stream.send_all(again)

        nursery.start_soon(until_broken, drip)
        assert await received(stream) == b""
        assert trio.current_time() == LIMITS.request_seconds
        await wait_all_tasks_blocked()
        assert keeper.server.connections == 0
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 200

    async def test_a_lying_length_keeps_nothing(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        stream = keeper.connect(HERE)
        await stream.send_all(request("PUT", HELLO_PATH, "content-length: 99") + HELLO)
        await stream.send_stream.aclose()
        await received(stream)
        await wait_all_tasks_blocked()
        short = f"PUT {HELLO_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n".encode()
        answers = await keeper.ask(short + HELLO + b" / HTTP/1.1\r\n\r\n", host=HERE)
        assert status_of(answers) == 422
        assert b"HTTP/1.1 400" in answers
        assert not keeper.kept
        assert keeper.server.connections == 0

    async def test_addresses_of_one_network_of_ipv6_are_one_host(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        keeper = Keeper(nursery, AcceptanceRules.parse([], ["2001:db8::/32"]), MANY)
        half = request("PUT", HELLO_PATH, "content-length: 12") + HELLO[:6]
        for number in range(MAX_PER_HOST):
            await keeper.connect(f"2001:db8::{number + 1}").send_all(half)
        await wait_all_tasks_blocked()
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host="2001:db8::9")) == 503
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host="2001:db8:1::1")) == 200

    async def test_what_waits_for_the_disk_counts_as_coming_in(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        """Its bodies are in memory, however slowly the disk takes them."""
        keeper = Keeper(nursery, limits=MANY)
        disk = keeper.intake.waits_for = trio.Event()
        waiting = [keeper.connect(f"198.51.100.{n // MAX_PER_HOST}") for n in range(MAX_AT_ONCE)]
        for stream in waiting:
            await stream.send_all(put(HELLO_ID, HELLO))
        await wait_all_tasks_blocked()
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 503
        disk.set()
        for stream in waiting:
            assert status_of(await received(stream)) == 200
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 200

    async def test_only_so_many_bodies_come_in_at_a_time(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        keeper = Keeper(nursery, limits=MANY)
        half = request("PUT", HELLO_PATH, "content-length: 12") + HELLO[:6]
        hosts = [f"198.51.100.{n // MAX_PER_HOST}" for n in range(MAX_AT_ONCE)]
        waiting = [keeper.connect(host) for host in hosts]
        for stream in waiting[:MAX_PER_HOST]:
            await stream.send_all(half)
        await wait_all_tasks_blocked()
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=hosts[0])) == 503
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 200
        for stream in waiting[MAX_PER_HOST:]:
            await stream.send_all(half)
        await wait_all_tasks_blocked()
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 503
        for stream in waiting:
            await stream.send_all(HELLO[6:])
            assert status_of(await received(stream)) == 200
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 200


class TestSigned:
    async def test_a_friends_block_is_held(self, autojump_clock: MockClock, keeper: Keeper) -> None:
        answer = await keeper.ask(put(HELLO_ID, HELLO, signed()))
        assert status_of(answer) == 200
        assert keeper.kept == {HELLO_ID: (HELLO, False)}
        assert header_of(answer, "libernet-node") == RECIPIENT.hex()

    @pytest.mark.parametrize(
        "signature",
        [
            pytest.param(signed(STRANGER), id="a stranger's"),
            pytest.param(signed(method="POST"), id="another method"),
            pytest.param(signed(path=f"/sha256/{BlockId.of(b'')}"), id="another path"),
            pytest.param(signed(body=b"hello"), id="another body"),
            pytest.param(signed(recipient=STRANGER.public_key), id="another recipient"),
            pytest.param(signed(seconds=NOW - SKEW_SECONDS - 1), id="too old"),
            pytest.param(signed(seconds=NOW + SKEW_SECONDS + 1), id="too new"),
            pytest.param(signed()[:-1] + "x", id="not hex"),
            pytest.param(signed().replace("v1", "v2"), id="another version"),
            pytest.param("libernet-signature: v1", id="half of one"),
            pytest.param(
                signed().replace(FRIEND.public_key.hex(), STRANGER.public_key.hex()), id="renamed"
            ),
        ],
    )
    async def test_any_other_signature_is_refused_also_from_here(
        self, autojump_clock: MockClock, keeper: Keeper, signature: str
    ) -> None:
        for host in (HOST, HERE):
            assert status_of(await keeper.ask(put(HELLO_ID, HELLO, signature), host=host)) == 403
        assert not keeper.kept

    @pytest.mark.parametrize("part", ["sender", "seconds", "nonce", "body_hash", "signature"])
    async def test_a_signature_covers_each_of_its_parts(
        self, autojump_clock: MockClock, nursery: trio.Nursery, part: str
    ) -> None:
        made = Signer(FRIEND, lambda: NOW).sign("PUT", HELLO_PATH, HELLO, RECIPIENT)
        value = getattr(made, part)
        fields = {name: getattr(made, name) for name in Signature.__slots__}
        fields[part] = value + 1 if part == "seconds" else bytes([value[0] ^ 1]) + value[1:]
        keeper = Keeper(nursery, AcceptanceRules.parse(["anybody"], []))
        forged = f"libernet-signature: {Signature(**fields)}"
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO, forged))) == 403

    async def test_a_request_is_refused_when_it_comes_again(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        twice = put(HELLO_ID, HELLO, signed())
        assert [status_of(await keeper.ask(twice)) for _ in range(2)] == [200, 403]
        keeper.seconds += SKEW_SECONDS
        assert status_of(await keeper.ask(twice)) == 403
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO, signed()))) == 200
        keeper.seconds += 1
        assert status_of(await keeper.ask(twice)) == 403
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO, signed()))) == 403

    async def test_what_is_refused_is_not_read(
        self, autojump_clock: MockClock, keeper: Keeper
    ) -> None:
        stream = keeper.connect()
        length = f"content-length: {MAX_BLOCK_BYTES}"
        await stream.send_all(request("PUT", HELLO_PATH, length, signed(STRANGER)))
        assert status_of(await received(stream)) == 403

    async def test_anybody_may_where_the_rules_say_so(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        keeper = Keeper(nursery, AcceptanceRules.parse(["anybody"], []))
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO, signed(STRANGER)))) == 200
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO))) == 403

    async def test_by_default_nobody_but_this_machine_may(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        keeper = Keeper(nursery, AcceptanceRules())
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO, signed()))) == 403
        assert status_of(await keeper.ask(put(HELLO_ID, HELLO), host=HERE)) == 200


class TestClient:
    """Our client, with our server or a scripted peer."""

    @pytest.fixture
    def client_of(self, nursery: trio.Nursery) -> Callable[..., ExchangeClient]:
        def make(server: Server, identity: NodeIdentity | None, host: str = HOST) -> ExchangeClient:
            signer = Signer(identity, lambda: NOW) if identity else None
            dial = served_by(nursery, partial(server.server.serve, address=host))
            return ExchangeClient(PEER, dial=dial, signer=signer)

        return make

    async def test_a_friend_signs_with_the_key_that_the_peer_says_it_has(
        self,
        autojump_clock: MockClock,
        keeper: Keeper,
        client_of: Callable[..., ExchangeClient],
    ) -> None:
        client = client_of(keeper, FRIEND)
        blocks = [HELLO, b"", os.urandom(MAX_BLOCK_BYTES)]
        for block in blocks:
            await client.put(BlockId.of(block), block)
        assert keeper.kept == {BlockId.of(block): (block, False) for block in blocks}
        assert client.node_key == RECIPIENT

    async def test_who_has_no_key_puts_as_a_guest(
        self,
        autojump_clock: MockClock,
        keeper: Keeper,
        client_of: Callable[..., ExchangeClient],
    ) -> None:
        await client_of(keeper, None, HERE).put(HELLO_ID, HELLO)
        assert keeper.kept == {HELLO_ID: (HELLO, True)}

    async def test_a_stranger_learns_why_it_is_refused(
        self,
        autojump_clock: MockClock,
        keeper: Keeper,
        client_of: Callable[..., ExchangeClient],
    ) -> None:
        large = os.urandom(MAX_BLOCK_BYTES)
        with pytest.raises(PeerRefused, match=r"peer\.example:4848 .* see accept_from"):
            await client_of(keeper, STRANGER).put(BlockId.of(large), large)
        keeper.intake.has_room = False
        with pytest.raises(PeerRefused, match="no room"):
            await client_of(keeper, FRIEND).put(HELLO_ID, HELLO)

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (http(405), PeerRefused),
            (http(507), PeerRefused),
            (http(503), PeerUnreachable),
            (http(302), RemoteProtocolError),
            (http(500), RemoteProtocolError),
            (b"", PeerUnreachable),
            (b"SSH-2.0\r\n\r\n", RemoteProtocolError),
        ],
    )
    async def test_what_else_a_peer_says_is_an_error(
        self,
        autojump_clock: MockClock,
        nursery: trio.Nursery,
        answer: bytes,
        error: type[LibernetError],
    ) -> None:
        client = ExchangeClient(PEER, dial=ScriptedPeer(nursery, answering(answer)).dial)
        with pytest.raises(error, match=r"peer\.example:4848"):
            await client.put(HELLO_ID, HELLO)

    async def test_a_peer_that_stops_taking_the_block_is_given_up(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        async def deaf(stream: MemoryStream) -> None:
            await stream.receive_some(1000)
            await trio.sleep_forever()

        client = ExchangeClient(PEER, dial=ScriptedPeer(nursery, deaf).dial)
        with pytest.raises(PeerTimeout):
            await client.put(HELLO_ID, HELLO)

    async def test_what_is_sent_again_is_signed_anew(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        puts: list[bytes] = []

        async def forgetful(stream: MemoryStream) -> None:
            """Take the first block, and close the connection as idle instead of an answer."""
            while asked := await hear(stream):
                if asked.startswith(b"PUT"):
                    puts.append(asked)
                    if len(puts) == 1:
                        await stream.aclose()
                        return
                await stream.send_all(http(200, b"", f"{NODE_HEADER}: {RECIPIENT.hex()}"))

        client = ExchangeClient(
            PEER, dial=ScriptedPeer(nursery, forgetful).dial, signer=Signer(FRIEND, lambda: NOW)
        )
        await client.put(HELLO_ID, HELLO)
        assert len(puts) == 2
        admitting = Admission(RULES, RECIPIENT, lambda: NOW)
        for asked in puts:  # the first may have been admitted before the connection broke
            visitor = Visitor(HOST, header_of(asked, SIGNATURE_HEADER))
            assert admitting.admit(visitor, "PUT", HELLO_PATH) is not None

    async def test_an_original_is_given_the_block_as_its_own_client_does(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        heard: list[bytes] = []

        async def original(stream: MemoryStream) -> None:
            while asked := await hear(stream):
                heard.append(asked)
                is_put = asked.startswith(b"PUT")
                await stream.send_all(http(200, b"data received") if is_put else http(504))

        dial = ScriptedPeer(nursery, original).dial
        await ExchangeClient(PEER, dial=dial, signer=Signer(FRIEND)).put(HELLO_ID, HELLO)
        head, _, body = heard[-1].partition(b"\r\n\r\n")
        assert head.startswith(f"PUT {HELLO_PATH} HTTP/1.1\r\n".encode())
        assert b"content-type" not in head.lower()
        assert b"signature" not in head.lower()
        assert body == HELLO
