"""The original Libernet's servers, client and backup tool, and ours, with each other."""

import base64
import hashlib
import http.client
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, RemoteProtocolError
from libernet.blocks.ids import BlockId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.blocks.store_index import BlockClass
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.network import Network, NetworkSettings
from tests.support.original_bundles import original_bundles
from tests.support.original_client import (
    BackupTool,
    OriginalClient,
    like_id,
    merged,
    opened_settings,
    sealed_settings,
)
from tests.support.original_server import MainServer, RewriteServer, listening
from tests.support.vectors import load

HOST = "127.0.0.1"
VECTORS = load("libernet-http.json")
SETTINGS = load("libernet-backup-settings.json")
NOW = 1_795_000_000.0
"""A day in November 2026, in any time zone."""

Exchange = dict[str, Any]


class TestOurCopies:
    """The test servers and the test tool do what the originals did."""

    @pytest.mark.parametrize(
        ("kind", "server"), [("main", MainServer), ("python_rewrite_local", RewriteServer)]
    )
    def test_the_servers_answer_as_the_originals_did(self, kind: str, server: Any) -> None:
        made = server()
        for bundle in original_bundles().values():
            if bundle.branch == "rewrite" and kind != "main":
                made.blocks |= {str(each): block for each, block in bundle.blocks.items()}
        for vector in VECTORS[kind]:
            if kind != "main" and not _is_about_a_block(vector["path"]):
                continue
            headers = {key.lower(): text for key, text in vector["request_headers"].items()}
            answer = made.answer(vector["method"], vector["path"], headers, _body_of(vector))
            assert answer.status == vector["status"], vector
            if vector["status"] < 400 and vector["method"] != "OPTIONS":
                told = {"content-type": answer.content_type, **answer.headers}
                length = {"content-length": str(len(answer.body))}
                for name in ("content-type", "content-length", "etag", "cache-control"):
                    if name in vector["headers"]:
                        assert (told | length).get(name) == vector["headers"][name], vector
                if vector["body_b64"] and vector["method"] == "GET":
                    assert answer.body == base64.b64decode(vector["body_b64"])

    def test_the_tool_reads_the_settings_of_the_original(self) -> None:
        blocks = {
            address: base64.b64decode(block)
            for step in SETTINGS["steps"]
            for address, block in step["new_blocks"].items()
        }
        read = {
            address: settings
            for address, block in blocks.items()
            if (settings := opened_settings(block, SETTINGS["passphrase"])) is not None
        }
        assert read == SETTINGS["decoded"]
        assert merged(read) == SETTINGS["merged_as_seen_by_original"]
        assert like_id(SETTINGS["user"], NOW) == SETTINGS["similar_id"]

    def test_the_tool_writes_settings_as_the_original_does(self) -> None:
        (settings,) = [each for each in SETTINGS["decoded"].values() if "previous" not in each]
        block = sealed_settings(settings, SETTINGS["passphrase"], SETTINGS["similar_id"])
        assert opened_settings(block, SETTINGS["passphrase"]) == settings
        assert hashlib.sha256(block).hexdigest()[:3] == SETTINGS["similar_id"][:3]


def _is_about_a_block(path: str) -> bool:
    return path.startswith("/sha256/") and len(path.split("/")) <= 4 and "aes256" not in path


def _body_of(vector: Exchange) -> bytes:
    if vector["request_body_b64"] is None:
        return bytes(vector["request_len"])
    return base64.b64decode(vector["request_body_b64"])


@pytest.fixture
def store(quick_folder: Path) -> Iterator[Store]:
    with Store(quick_folder / "store", reserve_bytes=0, guest_bytes=10**8) as opened:
        yield opened


@pytest.fixture
async def node(store: Store, quick_folder: Path, nursery: trio.Nursery) -> AsyncIterator[Network]:
    """A node on loopback, by itself."""
    network = Network(store, NetworkSettings(host=HOST, port=0), quick_folder)
    with trio.fail_after(20):
        await nursery.start(partial(network.run))
    yield network
    nursery.cancel_scope.cancel()


def port_of(node: Network) -> int:
    port = node.status()["listening"]
    assert isinstance(port, int)
    return port


@pytest.fixture(params=[False, True], ids=["with a length", "in chunks"])
def client(node: Network, request: pytest.FixtureRequest) -> OriginalClient:
    return OriginalClient(HOST, port_of(node), in_chunks=request.param)


_DIFFERENT = {
    504: {404},  # absent; its client takes whatever is not 200 for absent
    405: {405, 413},  # a body where none belongs
    500: {400, 404},  # an id that is none, or a key: nothing here fails at those
}


async def test_our_server_answers_what_its_client_asks_as_its_own_did(node: Network) -> None:
    """Refused alone is what must not be done: bytes that are not the block, blocks too large."""
    port = port_of(node)

    def replay() -> None:
        for vector in VECTORS["main"]:
            headers = vector["request_headers"]
            status, body = ask(port, vector["method"], vector["path"], _body_of(vector), headers)
            wanted = vector["status"]
            if vector["note"] in {"no hash check", "no size limit"}:
                assert status in {422, 413}, vector
            elif vector["note"] == "extra parts are ignored" or vector["method"] == "OPTIONS":
                assert status in {404, 405}, vector
            else:
                assert status in _DIFFERENT.get(wanted, {wanted}), vector
            if vector["method"] == "PUT" and status == 200:
                assert body == b"data received"
            if vector["method"] == "GET" and vector["path"].count("/") == 2 and status == 200:
                assert body == b"http vector pub"  # never another's, never none

    await trio.to_thread.run_sync(replay)


def ask(
    port: int, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    received = answer.status, answer.read()
    connection.close()
    return received


async def test_the_originals_client_is_content_with_our_server(
    client: OriginalClient, store: Store
) -> None:
    def use() -> None:
        plain = b"in the clear " * 100
        blocks = [b"", b"small", os.urandom(1024 * 1024)]
        for block in blocks:
            address = f"/sha256/{hashlib.sha256(block).hexdigest()}"
            assert address not in client
            assert client.get(address) is None
            assert client.put(block) == address
            assert client.put(block) == address
            assert address in client
            assert client.get(address) == block
            assert client.like(address.removeprefix("/sha256/"))[address] == len(block)
        packed = zlib.compress(plain, 9)
        assert client.get(client.put(packed, plain=plain)) == packed

    await trio.to_thread.run_sync(use)
    assert store.totals_by_class()[BlockClass.GUEST].blocks == 4


async def test_the_originals_backup_tool_works_with_our_server(
    client: OriginalClient, store: Store, tmp_path: Path
) -> None:
    source, pictures = tmp_path / "source", tmp_path / "pictures"
    (source / "folder" / "empty").mkdir(parents=True)
    pictures.mkdir()
    (source / "folder" / "large").write_bytes(os.urandom(2_500_000))
    (source / "text").write_text("some text\n" * 1000)
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o555)
    (pictures / "one").write_bytes(b"1")

    def use() -> None:
        first = BackupTool(client, "somebody", "pass phrase", "one", NOW)
        assert first.settings() == {}
        first.add(str(source))
        first.backup()
        (source / "text").write_text("other text\n")
        later = BackupTool(client, "somebody", "pass phrase", "one", NOW + 60)
        later.backup()
        second = BackupTool(client, "somebody", "pass phrase", "two", NOW + 120)
        second.add(str(pictures))
        second.backup()
        stranger = BackupTool(client, "somebody", "another", "one", NOW + 180)
        assert stranger.settings() == {}
        found = BackupTool(client, "somebody", "pass phrase", "three", NOW + 40 * 86400)
        assert set(found.settings()["backup"]) == {"one", "two"}
        assert found.restore(str(source), str(tmp_path / "restored"), "one") == []
        assert found.restore(str(pictures), str(tmp_path / "pictures again"), "two") == []

    await trio.to_thread.run_sync(use)
    restored = tmp_path / "restored"
    for path in ("folder/large", "text", "run"):
        assert (restored / path).read_bytes() == (source / path).read_bytes()
        assert (restored / path).stat().st_mtime == pytest.approx((source / path).stat().st_mtime)
    assert (restored / "run").stat().st_mode & 0o777 == 0o555
    assert (restored / "folder" / "empty").is_dir()
    assert (tmp_path / "pictures again" / "one").read_bytes() == b"1"
    assert store.totals_by_class()[BlockClass.OWN].blocks == 0


class TestOriginalPeers:
    """Our node with a server of the original as its only peer."""

    @pytest.fixture(params=[MainServer, RewriteServer])
    def original(self, request: pytest.FixtureRequest) -> MainServer | RewriteServer:
        made: MainServer | RewriteServer = request.param()
        return made

    @pytest.fixture
    def port(self, original: MainServer | RewriteServer) -> Iterator[int]:
        with listening(original) as port:
            yield port

    async def test_all_of_a_bundle_comes_from_one(
        self,
        original: MainServer | RewriteServer,
        port: int,
        quick_folder: Path,
        nursery: trio.Nursery,
    ) -> None:
        bundle = original_bundles()["main-features"]
        original.blocks |= {str(each): block for each, block in bundle.blocks.items()}
        settings = NetworkSettings(host=HOST, port=0, peers=(PeerAddress(HOST, port),))
        with Store(quick_folder / "store", reserve_bytes=0) as store:
            network = Network(store, settings, quick_folder)
            with trio.fail_after(20):
                await nursery.start(partial(network.run))
            origin = Origin(bundle.reference.id)
            network.fetcher.bring(list(bundle.blocks), origin)
            with trio.fail_after(60):
                for block_id, block in bundle.blocks.items():
                    assert await network.fetcher.get(block_id, bytes, origin) == block
                with pytest.raises(BlockNotFound):
                    await network.fetcher.get(BlockId.of(b"absent"), bytes, origin)
            [peer] = network.status()["peers"]
            assert (peer["delivered"], peer["failed"]) == (len(bundle.blocks), 0)
            nursery.cancel_scope.cancel()
        assert [method for method, _ in original.requests].count("POST") == 1

    async def test_a_plain_block_is_right_as_it_is_stored_and_inflated(
        self, original: MainServer | RewriteServer, port: int
    ) -> None:
        plain = b"in the clear " * 100
        packed = zlib.compress(plain, 9)
        original.blocks[hashlib.sha256(plain).hexdigest()] = packed
        client = ExchangeClient(PeerAddress(HOST, port))
        given = await client.get(BlockId.of(plain))
        assert given == (packed if isinstance(original, MainServer) else plain)
        assert await client.which([BlockId.of(plain), BlockId.of(b"")]) == {BlockId.of(plain)}
        client.close()

    async def test_what_somebody_replaced_is_not_taken(
        self, original: MainServer | RewriteServer, port: int
    ) -> None:
        original.blocks[str(BlockId.of(b"right"))] = b"wrong"
        client = ExchangeClient(PeerAddress(HOST, port))
        with pytest.raises((BlockCorrupt, RemoteProtocolError)):
            await client.get(BlockId.of(b"right"))
        client.close()

    async def test_main_keeps_what_our_client_puts(self) -> None:
        original = MainServer()
        blocks = [b"", b"small", os.urandom(1024 * 1024)]
        with listening(original) as port:
            client = ExchangeClient(PeerAddress(HOST, port))
            for block in blocks:
                await client.put(BlockId.of(block), block)
            client.close()
        assert original.blocks == {str(BlockId.of(block)): block for block in blocks}
