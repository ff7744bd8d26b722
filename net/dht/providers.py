"""What other nodes announced here."""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.discovery import RECORD_SECONDS

MAX_RECORDS_PER_KEY = 64
MAX_RECORDS = 100_000
"""About 65 MB when full: measured 640 bytes each."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """How many records are kept: for one key, of one address block for one key, of one address
    block in all, and altogether.

    An address block is what AddressPolicy.block() says.
    """

    per_key: int = MAX_RECORDS_PER_KEY
    per_key_and_block: int = 4
    per_block: int = 20_000
    total: int = MAX_RECORDS


SAME_BLOCK = ProviderLimits(per_key_and_block=MAX_RECORDS_PER_KEY, per_block=MAX_RECORDS)
"""For private networks, whose nodes may all live in one address block."""


class ProviderStore:
    """Providers by key, each until RECORD_SECONDS after it announced itself last.

    Nothing else makes a record last longer. All last equally long, so the order in which they
    came is the order in which they end.

    State: _providers, key to address to protocol flags; _ends, the end of each (key, address),
    soonest first, with exactly the pairs of _providers; _blocks, how many each address block has.
    """

    def __init__(
        self, clock: Callable[[], float], policy: AddressPolicy, limits: ProviderLimits
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._limits = limits
        self._random = random.Random()
        self._providers: dict[bytes, dict[Address, int]] = {}
        self._ends: OrderedDict[tuple[bytes, Address], float] = OrderedDict()
        self._blocks: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def keys(self) -> int:
        """How many keys have a provider."""
        return len(self._providers)

    def add(self, key: bytes, provider: Address, flags: int) -> bool:
        """Keep or renew a record that its provider announced; False when a limit forbids it.

        With a key's last free place gone, a newcomer takes that of one picked at random, so that
        nobody can reserve a popular key for a day.
        """
        self.expire()
        if (key, provider) not in self._ends:
            if not self._has_room(key, provider):
                return False
            others = self._providers.get(key, {})
            if len(others) >= self._limits.per_key:
                self.discard(key, self._random.choice(list(others)))
            self._blocks[self._policy.block(provider.ip)] += 1
        self._providers.setdefault(key, {})[provider] = flags
        self._ends[key, provider] = self._clock() + RECORD_SECONDS
        self._ends.move_to_end((key, provider))
        return True

    def discard(self, key: bytes, provider: Address) -> None:
        """Forget a record, if it is there."""
        if self._ends.pop((key, provider), None) is None:
            return
        of_key = self._providers[key]
        del of_key[provider]
        if not of_key:
            del self._providers[key]
        block = self._policy.block(provider.ip)
        self._blocks[block] -= 1
        if not self._blocks[block]:
            del self._blocks[block]

    def find(
        self, key: bytes, want: int, *, but: Address | None = None
    ) -> list[tuple[Address, int]]:
        """Return up to *want* providers of *key* and their flags, a random choice of them."""
        self.expire()
        of_key = [pair for pair in self._providers.get(key, {}).items() if pair[0] != but]
        return self._random.sample(of_key, min(want, len(of_key)))

    def expire(self) -> None:
        """Forget what has ended."""
        now = self._clock()
        while self._ends:
            (key, provider), end = next(iter(self._ends.items()))
            if end > now:
                return
            self.discard(key, provider)

    def _has_room(self, key: bytes, provider: Address) -> bool:
        block = self._policy.block(provider.ip)
        if len(self) >= self._limits.total or self._blocks[block] >= self._limits.per_block:
            return False
        neighbours = sum(
            self._policy.block(each.ip) == block for each in self._providers.get(key, {})
        )
        return neighbours < self._limits.per_key_and_block
