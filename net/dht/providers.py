"""What other nodes announced here."""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from libernet.net.address import region_of
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.crowds import Crowds
from libernet.net.dht.records import Record
from libernet.net.discovery import RECORD_SECONDS

MAX_RECORDS_PER_KEY = 64
MAX_RECORDS = 100_000
"""About 115 MB when full: measured 1,150 bytes each, of 50,000 regions."""

SWEPT_SHARE = 0.75
"""How much of the room is for blocks announced by sweep: one node can have a million of them,
while a root or a share is worth a whole tree."""


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


_Provider = Address | bytes


class ProviderStore:
    """Providers by key, each until RECORD_SECONDS after it announced itself last.

    Nothing else makes a record last longer. All last equally long, so the order in which they
    came is the order in which they end. Where all is full, the region that has most gives up its
    newest record for a region that has less.

    A provider is who signed its record, or the address of one that is not signed; of each only the
    newest record under a key is kept. A withdrawal stays in the place of the record that it took
    back, so that no copy of that can come again.

    State: _records, key to provider to record; _ends, the end of each (key, provider), soonest
    first, with exactly the pairs of _records; _blocks, how many each address block has; _regions,
    the same pairs by region.
    """

    def __init__(
        self, clock: Callable[[], float], policy: AddressPolicy, limits: ProviderLimits
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._limits = limits
        self._random = random.Random()
        self._records: dict[bytes, dict[_Provider, Record]] = {}
        self._ends: OrderedDict[tuple[bytes, _Provider], float] = OrderedDict()
        self._blocks: Counter[bytes] = Counter()
        self._regions: Crowds[tuple[bytes, _Provider]] = Crowds()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def keys(self) -> int:
        """How many keys have a provider."""
        return len(self._records)

    def add(self, key: bytes, record: Record, *, is_swept: bool = False) -> bool:
        """Keep or renew what a provider announced or withdrew; False when a limit forbids it, or
        a newer one is here. What *is_swept* leaves some room to roots and shares.

        With a key's last free place gone, a newcomer takes that of one picked at random in the
        region that has most of them, so that nobody can reserve a popular key for a day.
        """
        self.expire()
        provider = _provider(record)
        known = self._records.get(key, {}).get(provider)
        if known is None and record.is_withdrawal:
            return True
        if known is not None and record.signed_ms < known.signed_ms:
            return False
        if known is None and not self._make_room(key, record, SWEPT_SHARE if is_swept else 1.0):
            return False
        self._discard(key, provider)
        if len(self._records.get(key, ())) >= self._limits.per_key:
            self._discard(key, self._one_of_many(key))
        self._records.setdefault(key, {})[provider] = record
        ip, pair = record.address.ip, (key, provider)
        self._blocks[self._policy.block(ip)] += 1
        self._regions.add(region_of(ip), pair)
        self._ends[pair] = self._clock() + RECORD_SECONDS
        return True

    def discard(self, key: bytes, address: Address) -> None:
        """Forget a record that is not signed, if it is there."""
        self._discard(key, address)

    def find(self, key: bytes, want: int, *, but: Address | None = None) -> list[Record]:
        """Return up to *want* records under *key*, a random choice, without those of *but*."""
        self.expire()
        of_key = [
            each
            for each in self._records.get(key, {}).values()
            if not each.is_withdrawal and each.address != but
        ]
        return self._random.sample(of_key, min(want, len(of_key)))

    def expire(self) -> None:
        """Forget what has ended."""
        now = self._clock()
        while self._ends:
            (key, provider), end = next(iter(self._ends.items()))
            if end > now:
                return
            self._discard(key, provider)

    def _discard(self, key: bytes, provider: _Provider) -> None:
        if self._ends.pop((key, provider), None) is None:
            return
        of_key = self._records[key]
        ip = of_key.pop(provider).address.ip
        if not of_key:
            del self._records[key]
        self._regions.remove(region_of(ip), (key, provider))
        block = self._policy.block(ip)
        self._blocks[block] -= 1
        if not self._blocks[block]:
            del self._blocks[block]

    def _one_of_many(self, key: bytes) -> _Provider:
        """Return a provider of *key* in the region that has most of them."""
        regions: dict[bytes, list[_Provider]] = {}
        for provider, record in self._records[key].items():
            regions.setdefault(region_of(record.address.ip), []).append(provider)
        most = max(map(len, regions.values()))
        return self._random.choice(
            [each for region in regions.values() if len(region) == most for each in region]
        )

    def _make_room(self, key: bytes, record: Record, share: float) -> bool:
        """Say whether a record keeps the limits, where it may have only that *share* of them.

        Where all is full, another goes for it.
        """
        ip, limits = record.address.ip, self._limits
        block = self._policy.block(ip)
        if self._blocks[block] >= share * limits.per_block:
            return False
        others = self._records.get(key, {}).values()
        neighbours = sum(self._policy.block(each.address.ip) == block for each in others)
        if neighbours >= limits.per_key_and_block:
            return False
        if len(self) < share * limits.total:
            return True
        goes = self._regions.next_to_go(region_of(ip))
        if goes is not None:
            self._discard(*goes)
        return goes is not None


def _provider(record: Record) -> _Provider:
    return record.public_key or record.address
