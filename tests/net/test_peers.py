"""Whom a node asks, and whom it lets rest."""

import logging

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import (
    BlockCorrupt,
    PeerTimeout,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.net import peers as module
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.peers import Peer, Peers

FIRST, SECOND, THIRD = (PeerAddress(f"peer{number}", 4848) for number in range(3))


class WatchedClient(ExchangeClient):
    """A client that says whether it was closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.fixture
async def peers() -> Peers:
    return Peers(WatchedClient)


def rests(peer: Peer) -> float:
    return max(0.0, peer.resting - trio.current_time())


async def test_strangers_keep_the_order_in_which_they_were_named(peers: Peers) -> None:
    named = [THIRD, FIRST, SECOND, FIRST]
    assert [peer.address for peer in peers.by_merit(named)] == [THIRD, FIRST, SECOND]


async def test_who_delivered_most_is_first_and_who_failed_last(peers: Peers) -> None:
    peers.failed(peers.peer(FIRST), PeerTimeout("late"))
    peers.delivered(peers.peer(THIRD), 5)
    assert [peer.address for peer in peers.by_merit([FIRST, SECOND, THIRD])] == [
        THIRD,
        SECOND,
        FIRST,
    ]


async def test_one_failure_long_ago_does_not_count_more_than_many_blocks(peers: Peers) -> None:
    peers.failed(peers.peer(FIRST), PeerTimeout("late"))
    peers.delivered(peers.peer(FIRST), 1000)
    assert [peer.address for peer in peers.by_merit([SECOND, FIRST])] == [FIRST, SECOND]


async def test_who_let_readers_wait_is_behind_strangers_until_it_delivers(peers: Peers) -> None:
    late = peers.peer(FIRST)
    peers.delivered(late)
    assert late.is_proven
    peers.late(late)
    assert not late.is_proven
    assert [peer.address for peer in peers.by_merit([FIRST, SECOND])] == [SECOND, FIRST]
    peers.delivered(late)
    assert [peer.address for peer in peers.by_merit([FIRST, SECOND])] == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (BlockCorrupt("wrong bytes"), 300),
        (RemoteProtocolError("nonsense"), 60),
        (PeerUnreachable("refused"), 1),
        (PeerTimeout("late"), 1),
    ],
)
async def test_how_long_a_peer_rests_depends_on_what_it_did(
    peers: Peers, autojump_clock: MockClock, error: BlockCorrupt, seconds: float
) -> None:
    peer = peers.peer(FIRST)
    assert not peer.is_resting
    peers.failed(peer, error)
    assert peer.is_resting
    assert rests(peer) == seconds
    await trio.sleep(seconds)
    assert not peer.is_resting


async def test_who_cannot_be_reached_rests_twice_as_long_each_time(
    peers: Peers, autojump_clock: MockClock
) -> None:
    peer = peers.peer(FIRST)
    seen = []
    for _ in range(9):
        peers.failed(peer, PeerUnreachable("refused"))
        seen.append(rests(peer))
        await trio.sleep_until(peer.resting)
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    peers.delivered(peer)
    peers.failed(peer, PeerUnreachable("refused"))
    assert rests(peer) == 1


async def test_questions_that_fail_together_count_as_one_failure(
    peers: Peers, autojump_clock: MockClock
) -> None:
    peer = peers.peer(FIRST)
    for _ in range(16):
        peers.failed(peer, PeerUnreachable("refused"))
    assert rests(peer) == 1
    assert peer.failed == 16


async def test_it_is_told_how_often_in_a_row_a_peer_could_not_be_reached(
    autojump_clock: MockClock,
) -> None:
    told: list[tuple[PeerAddress, int]] = []
    peers = Peers(WatchedClient, unreachable=lambda *each: told.append(each))
    peer = peers.peer(FIRST)
    for error in (PeerUnreachable("refused"), PeerTimeout("late"), PeerUnreachable("refused")):
        peers.failed(peer, error)
        await trio.sleep_until(peer.resting)
    peers.delivered(peer)
    peers.failed(peer, PeerUnreachable("refused"))
    assert told == [(FIRST, 1), (FIRST, 3), (FIRST, 1)]


async def test_a_lie_counts_whatever_else_went_wrong(
    peers: Peers, autojump_clock: MockClock
) -> None:
    peer = peers.peer(FIRST)
    peers.failed(peer, PeerUnreachable("refused"))
    peers.failed(peer, BlockCorrupt("wrong bytes"))
    peers.failed(peer, PeerUnreachable("refused"))
    assert rests(peer) == 300


async def test_the_log_names_the_peer_and_the_reason(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    peers.failed(peers.peer(FIRST), BlockCorrupt("it sent 3 bytes that are not block x"))
    assert "peer0:4848" in caplog.text
    assert "3 bytes that are not block x" in caplog.text


async def test_a_flood_of_bad_peers_costs_the_log_a_line_of_each_kind(
    peers: Peers, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(1000):
        peers.failed(peers.peer(PeerAddress("liar", 1 + number)), BlockCorrupt("wrong bytes"))
    peers.failed(peers.peer(FIRST), PeerTimeout("late"))
    assert caplog.messages == [
        "peer liar:1 is not asked for 300 s: wrong bytes",
        "peer peer0:4848 is not asked for 1 s: late",
    ]


async def test_the_status_says_how_each_did(peers: Peers, autojump_clock: MockClock) -> None:
    peers.delivered(peers.peer(FIRST), 3, 5000)
    peers.failed(peers.peer(SECOND), BlockCorrupt("wrong bytes"))
    first, second = peers.status()
    assert first["address"] == "peer0:4848"
    assert (first["delivered"], first["failed"], first["rests_seconds"]) == (3, 0, 0)
    assert (first["bytes"], first["bytes_per_second"], first["round_trip_seconds"]) == (
        5000,
        1000,
        None,
    )
    assert (second["rests_seconds"], second["last_error"]) == (300, "wrong bytes")


async def test_what_all_did_is_counted_also_of_those_that_were_forgotten(peers: Peers) -> None:
    peers.delivered(peers.peer(FIRST), 3, 5000)
    peers.delivered(peers.peer(SECOND), 1, 100)
    for error in (PeerUnreachable("refused"), PeerUnreachable("refused"), BlockCorrupt("lies")):
        peers.failed(peers.peer(THIRD), error)
    peers.close()
    assert (peers.given.blocks, peers.given.bytes) == (4, 5100)
    assert peers.failures_by_kind == {
        "wrong_bytes": 1,
        "protocol": 0,
        "late": 0,
        "unreachable": 2,
        "other": 0,
    }


async def test_the_one_thought_of_longest_ago_makes_room(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_PEERS", 2)
    first, second = peers.peer(FIRST), peers.peer(SECOND)
    peers.peer(FIRST)
    peers.peer(THIRD)
    assert isinstance(second.client, WatchedClient)
    assert second.client.is_closed
    assert peers.peer(FIRST) is first
    assert len(peers.status()) == 2


async def test_after_closing_peers_are_met_anew(peers: Peers) -> None:
    before = peers.peer(FIRST)
    peers.close()
    assert isinstance(before.client, WatchedClient)
    assert before.client.is_closed
    after = peers.peer(FIRST)
    assert after is not before
    assert isinstance(after.client, WatchedClient)
    assert not after.client.is_closed
