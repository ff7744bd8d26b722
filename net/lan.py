"""Nodes on the same local network, found through DNS-SD over multicast DNS (RFC 6763, RFC 6762).

Each node announces the service _libernet._tcp with the port on which it serves blocks, under a
name that is random and new at each start. What others announce is hostile like any datagram: only
addresses that lie in a network of one of this machine's interfaces count, and only so many.
"""

import ipaddress
import logging
import math
import random
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ifaddr
import trio
import zeroconf

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import WANTED_PROVIDERS, Provider

SERVICE = "_libernet._tcp.local."

VERSION = b"1"
"""Of what stands in the service's TXT record: `v`, and nothing else yet."""

MAX_PEERS = 64

_LOOK_SECONDS = 15.0  # at machines that came to another network, or got another address
_RESOLVE_SECONDS = 1.0  # how often it is asked for services of which only the name is known
_RESOLVED_AT_ONCE = 16
_MAX_UNANSWERED = 4096
_LAST_PAUSE_SECONDS = 64.0
_STOP_SECONDS = 3.0

_FAILURES = 3
_SILENT_SECONDS = 120.0

_log = logging.getLogger(__name__)

# A network that is down is no news: it warns of each datagram.
logging.getLogger("zeroconf").setLevel(logging.ERROR)

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class LanDiscovery:
    """The nodes on this machine's networks; each may have any block.

    Behaves otherwise as libernet.net.discovery.Discovery says.
    State
      _peers      the addresses of others, by the name of their service
      _silent     those that could not be reached lately, and until when they are not named
      _networks   in which addresses are taken for neighbours'
    Tasks: run(), and below it one that resolves names for `_Listener`. zeroconf has a thread of its
    own, from which that tells of changes.
    """

    def __init__(self, exchange_port: int, met: Callable[[PeerAddress], None]) -> None:
        """Announce *exchange_port* while run() runs; *met* is told of each new address."""
        self._exchange_port = exchange_port
        self._met = met
        self._name = f"{secrets.token_hex(8)}.{SERVICE}"
        self._peers: dict[str, list[PeerAddress]] = {}
        self._silent: dict[PeerAddress, float] = {}
        self._networks: frozenset[_Network] = frozenset()

    async def run(self) -> None:
        """Announce and look until cancelled; anew when this machine's addresses change."""
        while True:
            own = await trio.to_thread.run_sync(_own_addresses)
            self._networks = frozenset(network for _, network in own)
            try:
                await self._serve([address for address, _ in own])
            except (OSError, zeroconf.Error) as exc:
                _log.debug("the local network cannot be looked at: %s", exc)
            self._peers.clear()
            self._silent.clear()
            await trio.sleep(_LOOK_SECONDS)

    async def announce(self, block_id: BlockId) -> None:
        """Do nothing: neighbours ask for everything."""
        await trio.lowlevel.checkpoint()

    async def withdraw(self, block_id: BlockId) -> None:
        """Do nothing, as nothing was announced."""
        await trio.lowlevel.checkpoint()

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return nobody: neighbours are only hinted at, whatever the block."""
        await trio.lowlevel.checkpoint()
        return []

    def peers_hint(self) -> list[PeerAddress]:
        """Return every neighbour that is not silent."""
        now = trio.current_time()
        return [each for each in self._known() if self._silent.get(each, now) <= now]

    def status(self) -> dict[str, Any]:
        """Return the neighbours."""
        return {"kind": "lan", "peers": [str(address) for address in self.peers_hint()]}

    def found(self, name: str, port: int, addresses: Iterable[str]) -> None:
        """Take in what a service called *name* says of where it is served."""
        if name == self._name or not 0 < port < 65536:
            return
        if name not in self._peers and len(self._peers) >= MAX_PEERS:
            return
        near = [PeerAddress(text, port) for text in addresses if self._is_near(text)]
        new = [each for each in near if each not in self._known()]
        self._peers[name] = near[:4]
        for address in near:
            self._silent.pop(address, None)
        for address in new:
            self._met(address)

    def lost(self, name: str) -> None:
        """Forget a service that said it ends, or was not heard of for long."""
        for address in self._peers.pop(name, []):
            self._silent.pop(address, None)

    def unreachable(self, address: PeerAddress, failures: int) -> None:
        """Take note of so many failures in a row to reach what may be a neighbour.

        One that left without a goodbye is not named any more, but for a try now and then: its
        record ends within the hour, and until then it may be back.
        """
        if failures >= _FAILURES and address in self._known():
            self._silent[address] = trio.current_time() + _SILENT_SECONDS

    def _known(self) -> list[PeerAddress]:
        return list(dict.fromkeys(each for found in self._peers.values() for each in found))

    def _is_near(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if address.is_multicast or address.is_unspecified:
            return False
        return any(
            address in network and address != network.broadcast_address
            for network in self._networks
            if network.version == address.version
        )

    async def _serve(self, addresses: list[str]) -> None:
        """Announce and listen for as long as this machine has these addresses."""
        if not addresses:
            return await self._until_other(addresses)
        token = trio.lowlevel.current_trio_token()
        listener = _Listener(token.run_sync_soon, self)
        service = await trio.to_thread.run_sync(
            self._start, addresses, listener, abandon_on_cancel=True
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.resolve, service)
                await self._until_other(addresses)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(_STOP_SECONDS, shield=True):
                await trio.to_thread.run_sync(service.close, abandon_on_cancel=True)

    def _start(self, addresses: list[str], listener: "_Listener") -> zeroconf.Zeroconf:
        service = zeroconf.Zeroconf(interfaces=addresses)
        try:
            info = zeroconf.ServiceInfo(
                SERVICE,
                self._name,
                port=self._exchange_port,
                parsed_addresses=addresses,
                properties={b"v": VERSION},
                server=f"{self._name.partition('.')[0]}.local.",
            )
            service.register_service(info)
            zeroconf.ServiceBrowser(service, SERVICE, listener=listener)
        except BaseException:
            service.close()
            raise
        return service

    async def _until_other(self, addresses: list[str]) -> None:
        """Return when this machine has other addresses."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            own = await trio.to_thread.run_sync(_own_addresses)
            if [address for address, _ in own] != addresses:
                return


@dataclass(slots=True)
class _Unanswered:
    """When to ask for a service again, on trio's clock, and how long to wait then."""

    due: float = -math.inf
    pause_seconds: float = _RESOLVE_SECONDS


class _Listener(zeroconf.ServiceListener):
    """Hears of services, in zeroconf's thread; *tell* has a function called in trio's.

    That thread never waits: anybody may announce names behind which nobody is.

    State: _unanswered, by name, services of which nothing else is known yet, since datagrams get
    lost. When there is room for no more, a new one takes the place of one picked at random.
    Tasks: resolve() asks for these, in threads.
    """

    def __init__(self, tell: Callable[..., None], lan: LanDiscovery) -> None:
        self._tell = tell
        self._lan = lan
        self._unanswered: dict[str, _Unanswered] = {}

    def add_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        info = zeroconf.ServiceInfo(type_, name)
        if info.load_from_cache(zc):  # as a rule all of it comes with the name
            self._take(info)
            return
        if len(self._unanswered) >= _MAX_UNANSWERED:
            self._unanswered.pop(random.choice(list(self._unanswered)), None)
        self._unanswered.setdefault(name, _Unanswered())

    async def resolve(self, zc: zeroconf.Zeroconf) -> None:
        """Ask for services that did not answer, some at a time, ever more seldom."""
        while True:
            await trio.sleep(_RESOLVE_SECONDS)
            now = trio.current_time()
            due = [(name, each) for name, each in list(self._unanswered.items()) if each.due <= now]
            async with trio.open_nursery() as nursery:
                for name, each in random.sample(due, min(len(due), _RESOLVED_AT_ONCE)):
                    each.due = now + each.pause_seconds
                    each.pause_seconds = min(2 * each.pause_seconds, _LAST_PAUSE_SECONDS)
                    ask = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
                    nursery.start_soon(ask, self._ask, zc, name)

    def _ask(self, zc: zeroconf.Zeroconf, name: str) -> None:
        info = zc.get_service_info(SERVICE, name, timeout=int(_RESOLVE_SECONDS * 1000))
        if info is not None:
            self._take(info)

    def _take(self, info: zeroconf.ServiceInfo) -> None:
        self._unanswered.pop(info.name, None)
        if info.port is not None and info.properties.get(b"v") == VERSION:
            self._call(self._lan.found, info.name, info.port, info.parsed_addresses())

    def update_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        self._unanswered.pop(name, None)
        self._call(self._lan.lost, name)

    def _call(self, act: Callable[..., None], *given: object) -> None:
        try:
            self._tell(act, *given)
        except trio.RunFinishedError:
            _log.debug("the program ended before zeroconf's thread")


def _own_addresses() -> list[tuple[str, _Network]]:
    """Return this machine's IPv4 addresses that others may reach, each with its network.

    Multicast DNS over IPv6 needs more than addresses, and networks without IPv4 are rare in homes.
    """
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if not isinstance(ip.ip, str):
                continue
            address = ipaddress.IPv4Address(ip.ip)
            if not address.is_loopback:
                network = ipaddress.IPv4Network(f"{ip.ip}/{ip.network_prefix}", strict=False)
                found.append((ip.ip, network))
    return sorted(found, key=lambda each: each[0])
