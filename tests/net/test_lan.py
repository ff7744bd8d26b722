"""What is believed of services that others announce on the local network."""

import ipaddress

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.lan import MAX_PEERS, SERVICE, LanDiscovery

_NETWORKS = frozenset({ipaddress.IPv4Network("192.168.7.0/24")})


@pytest.fixture
def met() -> list[PeerAddress]:
    return []


@pytest.fixture
def lan(met: list[PeerAddress]) -> LanDiscovery:
    made = LanDiscovery(4848, met.append)
    made._networks = _NETWORKS
    return made


async def test_a_neighbour_may_have_any_block(lan: LanDiscovery, met: list[PeerAddress]) -> None:
    lan.found(f"one.{SERVICE}", 4849, ["192.168.7.5"])
    address = PeerAddress("192.168.7.5", 4849)
    assert lan.peers_hint() == [address] == met
    lan.found(f"one.{SERVICE}", 4849, ["192.168.7.5"])
    assert met == [address]
    lan.lost(f"one.{SERVICE}")
    lan.lost(f"never heard of.{SERVICE}")
    assert lan.peers_hint() == []


async def test_one_that_left_without_a_goodbye_is_tried_now_and_then_only(
    lan: LanDiscovery, autojump_clock: MockClock
) -> None:
    here, gone = PeerAddress("192.168.7.5", 4848), PeerAddress("192.168.7.6", 4848)
    lan.found(f"one.{SERVICE}", 4848, [here.host])
    lan.found(f"two.{SERVICE}", 4848, [gone.host])
    for failures in (1, 2):
        lan.unreachable(gone, failures)
        assert lan.peers_hint() == [here, gone]
    lan.unreachable(gone, 3)
    assert lan.peers_hint() == [here]
    await trio.sleep(200)
    assert lan.peers_hint() == [here, gone]
    lan.unreachable(gone, 4)
    assert lan.peers_hint() == [here]
    lan.found(f"two.{SERVICE}", 4848, [gone.host])
    assert lan.peers_hint() == [here, gone]


async def test_failures_of_others_than_neighbours_are_not_kept(lan: LanDiscovery) -> None:
    for number in range(1000):
        lan.unreachable(PeerAddress("192.168.7.5", 1 + number), 9)
    assert lan._silent == {}


async def test_a_neighbour_is_no_provider(lan: LanDiscovery) -> None:
    lan.found(f"one.{SERVICE}", 4849, ["192.168.7.5"])
    assert await lan.find(BlockId(bytes(32))) == []


@pytest.mark.parametrize(
    "text",
    [
        *("8.8.8.8", "192.168.8.5", "127.0.0.1", "0.0.0.0", "224.0.0.251", "192.168.7.255"),
        *("::1", "fe80::1%eth0", "2001:db8::1", "", "no address", "192.168.7.5/24"),
    ],
)
async def test_what_is_no_neighbour_is_not_dialled(lan: LanDiscovery, text: str) -> None:
    lan.found(f"one.{SERVICE}", 4848, [text])
    assert lan.peers_hint() == []


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_an_impossible_port_is_ignored(lan: LanDiscovery, port: int) -> None:
    lan.found(f"one.{SERVICE}", port, ["192.168.7.5"])
    assert lan.peers_hint() == []


async def test_so_many_are_remembered_and_one_names_few_addresses(lan: LanDiscovery) -> None:
    lan.found(f"first.{SERVICE}", 4848, [f"192.168.7.{host}" for host in range(1, 200)])
    assert len(lan.peers_hint()) == 4
    for number in range(1000):
        lan.found(f"{number}.{SERVICE}", 10_000 + number, ["192.168.7.9"])
    assert len(lan.peers_hint()) == MAX_PEERS - 1 + 4


async def test_its_own_service_is_no_neighbour(lan: LanDiscovery) -> None:
    lan.found(lan._name, 4848, ["192.168.7.5"])
    assert lan.peers_hint() == []
