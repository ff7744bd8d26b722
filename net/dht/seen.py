"""Where this node is, as others see it: it cannot know itself behind a router."""

from collections import Counter, OrderedDict

from libernet.net.dht.contact import Address, AddressPolicy

MAX_REPORTS = 16
LEAST_REPORTS = 3
"""A single liar, or two of one address block, must not move a node."""


class SeenAs:
    """The IP address at which others see this node, as far as they agree.

    State: _reports, by the address block of who reported the newest report from there, for the
    MAX_REPORTS that did last; ip, what more than half of them say, None while they do not.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self.ip: str | None = None
        self._policy = policy
        self._reports: OrderedDict[bytes, str] = OrderedDict()

    def add(self, reporter: Address, seen: Address) -> None:
        """Take in what the node at *reporter*, whose id is proven, says; only public addresses."""
        if not self._policy.is_public(seen.ip):
            return
        block = self._policy.block(reporter.ip)
        self._reports[block] = seen.ip
        self._reports.move_to_end(block)
        if len(self._reports) > MAX_REPORTS:
            self._reports.popitem(last=False)
        [(ip, count)] = Counter(self._reports.values()).most_common(1)
        is_agreed = count >= LEAST_REPORTS and count > len(self._reports) / 2
        self.ip = ip if is_agreed else None

    def may_be(self, ip: str) -> bool:
        """Say whether a datagram to *ip* may have come here."""
        return self.ip in (None, ip) or not self._policy.is_public(ip)
