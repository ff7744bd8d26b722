"""Whether others reach this node, or it sits behind a router or firewall that lets only answers in.

What comes unasked from an address that this node never wrote to shows that it can be reached. When
nobody happens to send such, it asks contacts to call it from a port of theirs that it does not
know. (A router that lets in whatever comes from a known IP address, at any port, is not noticed.)
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from libernet.net.dht.contact import Address, AddressPolicy

REMEMBERED_SECONDS = 600.0
"""Routers let answers in for at least two minutes after a datagram went out, and better for five
(RFC 4787, requirement 5)."""

MAX_WRITTEN = 4096

_log = logging.getLogger(__name__)


class Reachability:
    """What is known of it.

    State: is_reachable, None while nothing is known; called, set when a stranger comes through;
    _written, when each address was written to last, the newest last, and never more than
    MAX_WRITTEN: with so many nobody counts as a stranger.
    """

    def __init__(self, policy: AddressPolicy, clock: Callable[[], float]) -> None:
        self.is_reachable: bool | None = None
        self.called = asyncio.Event()
        self._policy = policy
        self._clock = clock
        self._written: OrderedDict[Address, float] = OrderedDict()

    def wrote(self, address: Address) -> None:
        """Note that a datagram goes to *address*."""
        self._written[address] = self._clock()
        self._written.move_to_end(address)
        if len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)

    def hear(self, address: Address) -> None:
        """Note that a request came from *address*."""
        if self.is_telling(address.ip) and self._is_stranger(address):
            self.called.set()
            self.conclude(True)

    def is_telling(self, ip: str) -> bool:
        """Say whether a datagram from *ip* came from outside: neighbours come through always."""
        return self._policy.private_network or self._policy.is_public(ip)

    def conclude(self, is_reachable: bool) -> None:
        """Note what was found out, and say so in the log when it is news."""
        if not is_reachable and self.is_reachable is not False:
            _log.info(
                "This node cannot be reached from outside: it finds and reads, but announces "
                "nothing over %s, since nobody could fetch it. It tries again from time to time",
                self._policy.family_name,
            )
        elif is_reachable and self.is_reachable is False:
            _log.info("This node can be reached over %s again", self._policy.family_name)
        self.is_reachable = is_reachable

    def _is_stranger(self, address: Address) -> bool:
        since = self._clock() - REMEMBERED_SECONDS
        while self._written and next(iter(self._written.values())) <= since:
            self._written.popitem(last=False)
        return address not in self._written and len(self._written) < MAX_WRITTEN
