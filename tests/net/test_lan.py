"""What is believed of services that others announce on the local network."""

import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest
import trio
import zeroconf
from trio.testing import MockClock

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.lan import _MAX_UNANSWERED, MAX_PEERS, SERVICE, LanDiscovery, _Listener

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


class _Services:
    """What zeroconf knows and finds out: nothing in advance, and nobody behind names but some."""

    def __init__(self, *honest: str) -> None:
        self.cache = zeroconf.DNSCache()
        self.honest = {f"{name}.{SERVICE}" for name in honest}
        self.asked: list[str] = []

    def get_service_info(self, type_: str, name: str, timeout: int) -> zeroconf.ServiceInfo | None:
        self.asked.append(name)
        if name not in self.honest:
            return None
        address = ipaddress.IPv4Address("192.168.7.5")
        return zeroconf.ServiceInfo(
            type_, name, 4849, addresses=[address.packed], properties={b"v": b"1"}
        )


async def _heard(lan: LanDiscovery, services: Any, names: Iterable[str], seconds: float) -> None:
    """Let names be announced, and as many seconds pass."""
    token = trio.lowlevel.current_trio_token()
    listener = _Listener(token.run_sync_soon, lan)
    for name in names:
        listener.add_service(services, SERVICE, f"{name}.{SERVICE}")
        assert len(listener._unanswered) <= _MAX_UNANSWERED
    with trio.move_on_after(seconds):
        await listener.resolve(services)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_at_once(act: Any, *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return act(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_at_once)


@pytest.mark.parametrize("count", [100, 4000])
async def test_names_behind_which_nobody_is_do_not_hide_a_neighbour(
    lan: LanDiscovery, no_threads: None, autojump_clock: MockClock, count: int
) -> None:
    services = _Services("honest")
    names = ["honest", *(f"fake {number}" for number in range(count))]
    await _heard(lan, services, names, 600)
    assert lan.peers_hint() == [PeerAddress("192.168.7.5", 4849)]
    assert services.asked.count(f"honest.{SERVICE}") == 1


async def test_so_many_names_are_remembered(
    lan: LanDiscovery, no_threads: None, autojump_clock: MockClock
) -> None:
    services = _Services()
    await _heard(lan, services, map(str, range(_MAX_UNANSWERED + 1000)), 10)
    assert 0 < len(services.asked) <= 16 * 10


async def test_a_name_alone_is_asked_for_ever_more_seldom(
    lan: LanDiscovery, no_threads: None, autojump_clock: MockClock
) -> None:
    services = _Services()
    await _heard(lan, services, ["gone"], 600)
    assert 5 < len(services.asked) < 20


async def test_what_came_with_the_name_is_not_asked_for(
    lan: LanDiscovery, no_threads: None, autojump_clock: MockClock
) -> None:
    services = _Services("honest")
    info = services.get_service_info(SERVICE, f"honest.{SERVICE}", 0)
    assert info is not None
    services.asked.clear()
    services.cache.async_add_records([info.dns_service(), info.dns_text(), *info.dns_addresses()])
    await _heard(lan, services, ["honest"], 60)
    assert lan.peers_hint() == [PeerAddress("192.168.7.5", 4849)]
    assert services.asked == []
