"""The DHT as a Discovery: what the rest of the program, which is trio, sees of it."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import trio

from libernet.blocks.errors import DhtError, LocalProtocolError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.family import FamilyNode
from libernet.net.dht.keys import IDENTIFIER_NAMESPACE, SHA256_NAMESPACE, routing_key
from libernet.net.dht.neighbourhood import Swept
from libernet.net.dht.node import DhtNode
from libernet.net.dht.remembered import Remembered
from libernet.net.dht.upkeep import Pace
from libernet.net.discovery import HTTP_EXCHANGE, WANTED_PROVIDERS, Provider
from libernet.net.identity import NodeIdentity
from libernet.net.ports import ALL_ADDRESSES, ALL_IPV6_ADDRESSES

MAX_HINTS = 16

_log = logging.getLogger(__name__)

T = TypeVar("T")


def boot_clock() -> float:
    """Return seconds since the machine started, counted while it sleeps too: records age then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DhtDiscovery:
    """The DHT. Behaves as libernet.net.discovery.Discovery says, while run() runs.

    *bind* without an IP address stands for all of both families: then there is a node for each, on
    one port, and IPv6 is left out where the machine has none. *exchange_port* is announced,
    together with the IP addresses that others see this node at; 0 says that it serves no blocks,
    and then announce() is a mistake. *bootstrap* nodes are dialled wherever they are; other private
    addresses only on a *private_network*. *state_folder* keeps contacts from one start to the next.

    State: _nodes, one for each family; _remembered.
    Tasks: those of the nodes, in run().
    """

    def __init__(
        self,
        bind: Address,
        *,
        identity: NodeIdentity,
        exchange_port: int,
        bootstrap: Sequence[PeerAddress] = (),
        state_folder: Path | None = None,
        private_network: bool = False,
        clock: Callable[[], float] = boot_clock,
        pace: Pace | None = None,
    ) -> None:
        self._identity = Identity(identity, exchange_port, HTTP_EXCHANGE if exchange_port else 0)
        self._remembered = Remembered(state_folder)
        self._nodes = [
            FamilyNode(
                Address(ip, bind.port),
                self._identity,
                private_network=private_network,
                bootstrap=tuple(bootstrap),
                remembered=self._remembered,
                clock=clock,
                pace=pace or Pace(),
            )
            for ip in ([bind.ip] if bind.ip else [ALL_ADDRESSES, ALL_IPV6_ADDRESSES])
        ]

    @property
    def udp_port(self) -> int:
        """The port of all nodes, the real one once run() has started."""
        return self._nodes[0].udp_port

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started as soon as calls can be made.

        OSError when the port cannot be had. Should the DHT break later, it is started again, and
        until then all calls raise DhtError.
        """
        self._remembered.load()
        bound = self._bind()
        try:
            async with trio.open_nursery() as nursery:
                for node in bound:
                    await nursery.start(node.run)
                task_status.started()
        finally:
            for node in bound:
                node.close()

    async def announce(self, block_id: BlockId) -> None:
        """Leave signed records at the nodes nearest to the block's key.

        DhtError when none took it, in a family in which somebody is known.
        """
        own = self._identity
        if not own.exchange_port:
            raise LocalProtocolError("a node that serves no blocks has nothing to announce")
        key = routing_key(SHA256_NAMESPACE, block_id)
        await self._tell(lambda node: node.announce_signed(key, own.exchange_port, own.flags))

    async def withdraw(self, block_id: BlockId) -> None:
        """Take the records back where that can be done; elsewhere they end by themselves."""
        key, port = routing_key(SHA256_NAMESPACE, block_id), self._identity.exchange_port
        done, errors = await _all(
            self._nodes, lambda node: node.call(lambda inner: inner.withdraw_signed(key, port))
        )
        if not done:
            raise errors[0][1]

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Ask ever nearer nodes for providers of the block; DhtError if none of them answers."""
        return await self._find(routing_key(SHA256_NAMESPACE, block_id), want)

    async def sweep(self, keys: Sequence[bytes]) -> Swept:
        """Announce the first of *keys*, in ascending order, and its neighbours among them.

        Returns how many those were; DhtError when nobody answers.
        """
        own = self._identity
        return await self._sweep(
            keys, lambda node, some: node.sweep(some, own.exchange_port, own.flags)
        )

    async def sweep_away(self, keys: Sequence[bytes]) -> Swept:
        """Take back what sweep() announced, for as many of *keys*."""
        port = self._identity.exchange_port
        return await self._sweep(keys, lambda node, some: node.sweep_away(some, port))

    async def announce_identifier(self, identifier: bytes, port: int) -> int:
        """Say that another program is reached at this machine's *port*; return how many know.

        For RECORD_SECONDS. Raises DhtError when nobody took it.
        """
        key = routing_key(IDENTIFIER_NAMESPACE, identifier)
        return sum(await self._tell(lambda node: node.announce(key, port, 0)))

    async def find_identifier(self, identifier: bytes, *, want: int) -> list[PeerAddress]:
        """Return where programs announced an identifier; DhtError if nobody answers."""
        found = await self._find(routing_key(IDENTIFIER_NAMESPACE, identifier), want)
        return [each.address for each in found]

    def peers_hint(self) -> list[PeerAddress]:
        """Return where contacts serve blocks, those first that answered last."""
        serving = [
            each
            for node in self._nodes
            for each in node.contacts
            if each.exchange_port and each.flags & HTTP_EXCHANGE and not each.failures
        ]
        serving.sort(key=lambda each: -each.seen)
        return [PeerAddress(each.ip, each.exchange_port) for each in serving[:MAX_HINTS]]

    def node_ids(self) -> dict[str, str]:
        """Return the ids that contacts have proven, by where they serve blocks, both as text."""
        return {
            str(PeerAddress(each.ip, each.exchange_port)): each.id.hex()
            for node in self._nodes
            for each in node.contacts
            if each.exchange_port
        }

    def greet(self, address: PeerAddress) -> None:
        """Make the acquaintance of a node that was met otherwise, if it is one of the DHT."""
        for node in self._nodes:
            node.greet(address)

    def seen_as(self) -> list[str]:
        """Return the public addresses at which others see this node, as far as they are known."""
        families = (node.status() or {} for node in self._nodes)
        return [ip for family in families if (ip := family.get("seen_as"))]

    def status(self) -> dict[str, Any]:
        """Return the node's id and port, whom it knows, what it holds and what it was asked.

        *is_reachable* is None while that is not known, False when it is known of one family and
        better of none.
        """
        families = [status for node in self._nodes if (status := node.status())]
        in_touch = [each for each in families if each["contacts"]] or families
        reached = {each["is_reachable"] for each in families}
        return {
            "kind": "dht",
            "node_id": self._identity.node_id.hex(),
            "udp_port": self.udp_port,
            "is_running": bool(families),
            "is_reachable": next((each for each in (True, False) if each in reached), None),
            "contacts": sum(each["contacts"] for each in families),
            "records": sum(each["records"] for each in families),
            "announced": max((each["announced"] for each in in_touch), default=0),
            "requests": _sum(families, "requests"),
            "dropped": _sum(families, "dropped"),
            "families": [
                {name: each[name] for name in ("family", "contacts", "is_reachable", "seen_as")}
                for each in families
            ],
        }

    def _bind(self) -> list[FamilyNode]:
        """Return the nodes that got their sockets, all on one port."""
        first, *others = self._nodes
        first.bind(first.udp_port)
        bound = [first]
        for node in others:
            try:
                node.bind(first.udp_port)
            except OSError as exc:
                _log.info("The DHT does without %s: %s", node.policy.family_name, exc)
            else:
                bound.append(node)
        return bound

    async def _find(self, key: bytes, want: int) -> list[Provider]:
        """Return what all families find, each address once; until one alone has enough."""
        in_touch = [node for node in self._nodes if node.contacts]
        found, errors = await _all(
            in_touch or self._nodes,
            lambda node: node.call(lambda inner: inner.find(key, want)),
            is_enough=lambda providers: len(providers) >= want,
        )
        if not found:
            raise errors[0][1]
        united = {each.address: each for providers in found for each in providers}
        return list(united.values())

    async def _sweep(
        self,
        keys: Sequence[bytes],
        act: Callable[[DhtNode, Sequence[bytes]], Coroutine[Any, Any, Swept]],
    ) -> Swept:
        """Do *act* with the first of *keys* in all families in which somebody is known.

        The larger a network, the fewer keys are neighbours in it: the largest says how many, since
        telling it of those of a small one could take longer than anybody waits.
        """

        async def tell(node: FamilyNode, some: Sequence[bytes]) -> Swept:
            return await node.tell(lambda inner: act(inner, some))

        in_touch = [node for node in self._nodes if node.contacts and not node.is_client]
        largest, *others = sorted(in_touch or self._nodes, key=lambda node: -len(node.contacts))
        swept = await tell(largest, keys)
        for other in others if in_touch else ():
            rest = keys[: swept.keys]
            while rest:
                step = await tell(other, rest)
                swept = swept.and_also(step)
                rest = rest[step.keys :]
        return swept

    async def _tell(self, act: Callable[[DhtNode], Coroutine[Any, Any, T]]) -> list[T]:
        """Do *act* at all nodes; none may fail that knew somebody, and that others reach."""
        in_touch = [node for node in self._nodes if node.contacts]
        done, errors = await _all(self._nodes, lambda node: node.tell(act))
        for node, error in errors:
            if not done or (node in in_touch and not node.is_client):
                raise error
        return done


async def _all(
    nodes: Iterable[FamilyNode],
    act: Callable[[FamilyNode], Coroutine[Any, Any, T]],
    *,
    is_enough: Callable[[T], bool] = lambda _: False,
) -> tuple[list[T], list[tuple[FamilyNode, DhtError]]]:
    """Return what *act* returns for each node, and where it failed; all run at one time."""
    done: list[T] = []
    errors: list[tuple[FamilyNode, DhtError]] = []

    with trio.CancelScope() as scope:

        async def try_one(node: FamilyNode) -> None:
            try:
                done.append(await act(node))
            except DhtError as exc:
                errors.append((node, exc))
            else:
                if is_enough(done[-1]):
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(try_one, node)
    return done, errors


def _sum(families: Iterable[dict[str, Any]], name: str) -> dict[str, int]:
    """Return the counts of that name of all families together."""
    return dict(sum((Counter(each[name]) for each in families), Counter()))
