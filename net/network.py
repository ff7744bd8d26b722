"""A node's part in the network: what it serves, finds, fetches and announces, put together."""

import ipaddress
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import StoredId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.address import PeerAddress
from libernet.net.announcer import Announcer
from libernet.net.chain import ChainDiscovery
from libernet.net.dht.contact import Address
from libernet.net.dht.discovery import DhtDiscovery
from libernet.net.discovery import Discovery
from libernet.net.exchange.admission import AcceptanceRules, Admission
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.connection import MAX_CONNECTIONS, ServerLimits
from libernet.net.exchange.line import Line, Lines
from libernet.net.exchange.offer import StoreOffer
from libernet.net.exchange.reception import Reception, StoreIntake
from libernet.net.exchange.server import ExchangeServer
from libernet.net.exchange.signing import Signer
from libernet.net.fetcher import Fetcher
from libernet.net.identity import NodeIdentity
from libernet.net.lan import LanDiscovery
from libernet.net.peers import Peer, Peers
from libernet.net.ports import first_free_port
from libernet.net.remembered import RememberedPeers
from libernet.net.sparing_log import SparingLog
from libernet.net.static import StaticDiscovery
from libernet.net.sweeper import SWEEP_BYTES_PER_SECOND, Sweeper
from libernet.net.whereabouts import Whereabouts

_log = logging.getLogger(__name__)

_RESTART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Where to listen, and whom to ask.

    *host* empty stands for all addresses, *port* for TCP and UDP: the first free one from it on.
    *peers* are asked for blocks and are the nodes through which the DHT is joined. Private
    addresses that the DHT names are dialled on a *private_network* only. With *lan* nodes on the
    same local network are found, unless this one is bound to loopback. Others' blocks are kept as
    *accept* says. Rates of 0 are without a limit; they do not hold for the DHT, except that
    *sweep_bytes_per_second* go into telling others of all blocks, with 0 of roots and shares alone.
    """

    host: str = ""
    port: int = 4848
    peers: tuple[PeerAddress, ...] = ()
    private_network: bool = False
    lan: bool = False
    upload_bytes_per_second: int = 0
    download_bytes_per_second: int = 0
    max_connections: int = MAX_CONNECTIONS
    accept: AcceptanceRules = field(default_factory=AcceptanceRules)
    sweep_bytes_per_second: int = SWEEP_BYTES_PER_SECOND


class Network:
    """Everything of `net` behind one mount.

    State
      fetcher     the source of blocks that the mount reads from
      announcer   what others are told at once; _sweeper, what they are told in time
      _dht        the DHT while it runs; _lan, the neighbours while they are looked for
      _port       where peers are served, 0 while they are not
      _last_port  where they were served last; 0 before the start. Once it started, what breaks is
                  no reason to end the mount
    Tasks
      run() holds the server, the DHT, fetcher, announcer and sweeper. When one of them fails for an
      unforeseen reason all start again after a while; what is in the store can be read meanwhile.
    """

    def __init__(self, store: Store, settings: NetworkSettings, state_folder: Path) -> None:
        """Take part as the node whose key is in *state_folder*; StoreError if it is of no use."""
        self._settings = settings
        self._state_folder = state_folder
        self._static = StaticDiscovery(settings.peers)
        self._discovery = ChainDiscovery(self._static)
        self._identity = NodeIdentity.load(state_folder)
        signer = Signer(self._identity)
        self._said = SparingLog(_log)
        lines = Lines(
            Line(settings.upload_bytes_per_second), Line(settings.download_bytes_per_second)
        )
        self._peers = Peers(
            lambda address: ExchangeClient(address, signer=signer, lines=lines),
            self._said,
            self._unreachable,
        )
        self._offer = StoreOffer(store)
        admission = Admission(settings.accept, self._identity.public_key)
        self._reception = Reception(admission, StoreIntake(store), self._said)
        self._server = ExchangeServer(
            self._offer,
            self._reception,
            limits=ServerLimits(connections=settings.max_connections),
            lines=lines,
            said=self._said,
        )
        self._dht: DhtDiscovery | None = None
        self._lan: LanDiscovery | None = None
        self._port = 0
        self._last_port = 0
        self.announcer = Announcer(self._discovery, is_here=store.__contains__)
        self._sweeper = Sweeper(
            store.holdings,
            store.__contains__,
            state_folder,
            bytes_per_second=settings.sweep_bytes_per_second,
        )
        self.fetcher = Fetcher(store, self._discovery, self._peers, fetched=self._fetched)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started when others can reach this node.

        NetworkError or OSError when there is nowhere to listen, perhaps in a group of one.
        """
        while True:
            try:
                await self._run(task_status)
            except Exception:
                if not self._last_port:
                    raise
                _log.exception("the network broke and starts again in %g s", _RESTART_SECONDS)
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(_RESTART_SECONDS)

    def status(self) -> dict[str, Any]:
        """Return what a person may want to know, as plain values for JSON: the README has them."""
        return {
            "node": self._identity.public_key.hex(),
            "listening": self._port or None,
            "connections": self._server.connections,
            "fetched": self._peers.given.status(),
            "served": self._offer.served.status(),
            "put": dict(self._reception.outcomes),
            "failed": dict(self._peers.failures_by_kind),
            "peers": self._peers_status(),
            "discovery": self._discovery.status(),
            "not_announced": [str(block_id) for block_id in self.announcer.pending()],
            "sweep": self._sweeper.status() if self._settings.sweep_bytes_per_second else None,
            "failures": self.fetcher.failures(),
        }

    async def announce_identifier(self, identifier: bytes, port: int) -> int:
        """Announce in the DHT what `DhtDiscovery.announce_identifier` does."""
        return await self._running_dht().announce_identifier(identifier, port)

    async def find_identifier(self, identifier: bytes, want: int) -> list[str]:
        """Return HOST:PORT of whoever announced an identifier."""
        found = await self._running_dht().find_identifier(identifier, want=want)
        return [str(address) for address in found]

    def peer(self, address: PeerAddress) -> Peer:
        """Return the peer at *address*, to be asked, or given blocks; nothing is sent to it yet."""
        return self._peers.peer(address)

    def _peers_status(self) -> list[dict[str, Any]]:
        node_ids = self._dht.node_ids() if self._dht else {}
        return [each | {"node_id": node_ids.get(each["address"])} for each in self._peers.status()]

    def _running_dht(self) -> DhtDiscovery:
        if self._dht is None:
            raise DhtError("the network is down")
        return self._dht

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        settings = self._settings
        try:
            async with trio.open_nursery() as nursery:
                wanted = first_free_port(settings.host, self._last_port or settings.port)
                host = settings.host or None
                port = await nursery.start(self._server.run, host, wanted)
                dht = DhtDiscovery(
                    Address(settings.host, port),
                    identity=self._identity,
                    exchange_port=port,
                    bootstrap=settings.peers,
                    state_folder=self._state_folder,
                    private_network=settings.private_network,
                )
                await nursery.start(dht.run)
                remembered = RememberedPeers(
                    self._state_folder, self._peers, private_network=settings.private_network
                )
                await nursery.start(remembered.run)
                for address in remembered.addresses:
                    dht.greet(address)
                earlier = StaticDiscovery(remembered.addresses, kind="remembered")
                members: list[Discovery] = [self._static, earlier, dht]
                if settings.lan and not _is_loopback(settings.host):
                    self._lan = LanDiscovery(port, dht.greet)
                    nursery.start_soon(self._lan.run)
                    members.insert(1, self._lan)
                self._discovery.set_members(*members)
                self._dht = dht
                await nursery.start(self.fetcher.run)
                nursery.start_soon(self.announcer.run)
                nursery.start_soon(self._said.run)
                whereabouts = Whereabouts(
                    self._discovery.peers_hint, dht.seen_as, self._announce_again
                )
                nursery.start_soon(whereabouts.run)
                if settings.sweep_bytes_per_second:
                    nursery.start_soon(self._sweeper.run, dht, port)
                self._port = self._last_port = port
                task_status.started()
        finally:
            self._dht = self._lan = None
            self._port = 0
            self._peers.close()

    def _announce_again(self) -> None:
        """Tell others anew of everything: they know it at an address that is not this node's."""
        self.announcer.start_over()
        self._sweeper.start_over()

    def _unreachable(self, address: PeerAddress, failures: int) -> None:
        if self._lan is not None:
            self._lan.unreachable(address, failures)

    def _fetched(self, block_id: StoredId, origin: Origin | None) -> None:
        """Tell others of the root of a bundle that was opened and fetched here."""
        if origin is not None and origin.root == block_id:
            self.announcer.add(origin.root)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
