"""Notice that this node is to be found elsewhere: what it announced leads to where it was."""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable

import trio

from libernet.net.address import PeerAddress

_LOOK_SECONDS = 15.0

_log = logging.getLogger(__name__)


class Whereabouts:
    """Look now and then from which addresses others are spoken to, and where they see this node.

    State: _sources, what was found last when there was anything; _seen, by whether it is one of
    IPv6, the address at which others saw this node last.
    Tasks: run().
    """

    def __init__(
        self,
        others: Callable[[], Iterable[PeerAddress]],
        seen_as: Callable[[], Iterable[str]],
        moved: Callable[[], None],
    ) -> None:
        """Call *moved* when this machine speaks to *others* from a new address, or *seen_as* says
        that it is seen at another one."""
        self._others = others
        self._seen_as = seen_as
        self._moved = moved
        self._sources: frozenset[str] = frozenset()
        self._seen: dict[bool, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._look()
            await trio.sleep(_LOOK_SECONDS)

    def _look(self) -> None:
        sources = sources_towards(self._others())
        seen = {":" in ip: ip for ip in self._seen_as()}
        new = {ip for kind, ip in seen.items() if self._seen.get(kind, ip) != ip}
        if self._sources:
            new |= sources - self._sources
        if new:
            _log.info("this node is at %s now, which is announced anew", ", ".join(sorted(new)))
            self._moved()
        self._sources = sources or self._sources
        self._seen |= seen


def sources_towards(others: Iterable[PeerAddress]) -> frozenset[str]:
    """Return the addresses of this machine from which datagrams to *others* would go.

    Nothing is sent, and no name is looked up. Who cannot be reached has none.
    """
    found = set()
    for host in {each.host for each in others}:
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((host, 9))
                found.add(probe.getsockname()[0])
        except (ValueError, OSError):
            continue
    return frozenset(found)
