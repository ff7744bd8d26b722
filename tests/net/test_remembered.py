"""Peers that gave blocks are known again after a start."""

import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import FormatError
from libernet.net import remembered as module
from libernet.net.address import PeerAddress
from libernet.net.peers import Peers
from libernet.net.remembered import (
    MAX_PEERS_BYTES,
    MAX_REMEMBERED,
    PEERS_FILE,
    RememberedPeers,
    load_peers,
    save_peers,
)
from tests.support.dht import until

ONE, TWO, THREE = (PeerAddress(f"peer{number}", 4848) for number in range(3))

Start = Callable[[], AbstractAsyncContextManager[tuple[RememberedPeers, Peers]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """What a node does between a start and its end."""

    @asynccontextmanager
    async def running() -> AsyncIterator[tuple[RememberedPeers, Peers]]:
        peers = Peers()
        remembered = RememberedPeers(tmp_path, peers, private_network=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(remembered.run)
            yield remembered, peers
            nursery.cancel_scope.cancel()

    return running


async def test_who_gave_most_is_asked_first_after_the_next_start(start: Start) -> None:
    async with start() as (remembered, peers):
        assert remembered.addresses == ()
        peers.delivered(peers.peer(ONE), 10)
        peers.delivered(peers.peer(TWO), 100)
        peers.peer(THREE)
    async with start() as (remembered, peers):
        assert remembered.addresses == (TWO, ONE)
        assert [each.address for each in peers.by_merit([THREE, ONE, TWO])] == [TWO, ONE, THREE]
        assert [each["delivered"] for each in peers.status()] == [0, 0, 0]


async def test_who_only_has_a_name_is_not_waited_for_like_one_that_just_delivered(
    start: Start,
) -> None:
    async with start() as (_, peers):
        peers.delivered(peers.peer(ONE), 10)
    async with start() as (_, peers):
        assert not peers.peer(ONE).is_proven


async def test_who_gives_nothing_any_more_fades(start: Start) -> None:
    async with start() as (_, peers):
        peers.delivered(peers.peer(ONE), 100)
        peers.delivered(peers.peer(TWO), 100)
    for _ in range(7):
        async with start() as (remembered, peers):
            assert TWO in remembered.addresses
            peers.delivered(peers.peer(TWO), 100)
    async with start() as (remembered, peers):
        assert remembered.addresses == (TWO,)


async def test_what_a_kill_cuts_off_was_saved_minutes_ago(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.01)
    async with start() as (_, peers):
        peers.delivered(peers.peer(ONE), 10)
        await until(lambda: load_peers(tmp_path) == {ONE: 10})


async def test_nothing_is_written_where_nothing_happened(start: Start, tmp_path: Path) -> None:
    async with start():
        pass
    assert os.listdir(tmp_path) == []


async def test_one_block_long_ago_is_forgotten(start: Start, tmp_path: Path) -> None:
    save_peers(tmp_path, [(ONE, 1)])
    async with start() as (remembered, _):
        assert remembered.addresses == ()
    assert load_peers(tmp_path) == {}


async def test_the_file_is_its_owners_alone_and_no_other_is_left(tmp_path: Path) -> None:
    save_peers(tmp_path, [(ONE, 2)])
    save_peers(tmp_path, [(ONE, 3)])
    assert os.listdir(tmp_path) == [PEERS_FILE]
    assert stat.S_IMODE((tmp_path / PEERS_FILE).stat().st_mode) == 0o600
    assert load_peers(tmp_path) == {ONE: 3}


async def test_what_a_kill_left_beside_the_file_goes_at_the_next_start(
    start: Start, tmp_path: Path
) -> None:
    save_peers(tmp_path, [(ONE, 8)])
    (tmp_path / f".{PEERS_FILE}-abc").write_bytes(b"half of")
    async with start() as (remembered, _):
        assert remembered.addresses == (ONE,)
        assert os.listdir(tmp_path) == [PEERS_FILE]


async def test_who_has_a_private_address_is_somebody_else_on_another_network(
    start: Start, tmp_path: Path
) -> None:
    private = [PeerAddress(host, 4848) for host in ("192.168.1.5", "fd00::1", "169.254.1.1")]
    public = PeerAddress("8.8.8.8", 4848)
    save_peers(tmp_path, [(address, 100) for address in (*private, public)])
    async with start() as (remembered, peers):
        assert remembered.addresses == (public,)
        for address in (*private, public):
            peers.delivered(peers.peer(address), 10)
    assert list(load_peers(tmp_path)) == [public]


async def test_so_many_are_remembered(start: Start, tmp_path: Path) -> None:
    async with start() as (_, peers):
        for number in range(100):
            peers.delivered(peers.peer(PeerAddress("peer", 1 + number)), 2 + number)
    found = load_peers(tmp_path)
    assert len(found) == MAX_REMEMBERED
    assert min(found.values()) == 2 + 100 - MAX_REMEMBERED


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"version": 1}', b'{"version": 2, "peers": []}'),
        b'{"version": 1, "peers": [{"address": "no address", "merit": 1}]}',
        b'{"version": 1, "peers": [{"address": "peer:4848", "merit": 0}]}',
        b'{"version": 1, "peers": [{"address": "peer:4848", "merit": 1, "more": 1}]}',
        b'{"version": 1, "peers": [' + b"[" * 10_000,
        b" " * (MAX_PEERS_BYTES + 1),
        b'{"version": 1, "peers": ['
        + b",".join([b'{"address": "peer:4848", "merit": 1}'] * (MAX_REMEMBERED + 1))
        + b"]}",
    ],
)
async def test_a_damaged_file_is_told_and_begun_anew(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    (tmp_path / PEERS_FILE).write_bytes(damaged)
    with pytest.raises(FormatError):
        load_peers(tmp_path)
    async with start() as (remembered, peers):
        assert remembered.addresses == ()
        peers.delivered(peers.peer(ONE), 10)
    [warning] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert PEERS_FILE in warning.getMessage()
    assert load_peers(tmp_path) == {ONE: 10}


async def test_a_folder_that_takes_nothing_is_told(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as (_, peers):
        peers.delivered(peers.peer(ONE), 10)
        tmp_path.rename(tmp_path.with_name("moved"))
    assert "cannot be remembered" in caplog.text
