"""The contacts of a node, in buckets by their distance from it."""

import time
from collections.abc import Callable, Iterator

from kademlia.routing import KBucket, RoutingTable

from libernet.net.dht.contact import MAX_NEIGHBOURS, Address, AddressPolicy, Contact
from libernet.net.dht.keys import KEY_BYTES

BUCKET_CONTACTS = 20
"""The paper's k: contacts in a bucket, and nodes that a record is given to."""

LONELY_SECONDS = 3600.0
"""A bucket that rested so long is refreshed (the paper, section 2.3)."""

MAX_FAILURES = 2
"""Unanswered requests in a row after which a contact is dropped: one datagram may get lost."""


# kademlia carries no types.
class ContactTable(RoutingTable):  # type: ignore[misc]
    """kademlia's routing table, made exact and passive: it sends nothing by itself.

    State: the buckets. Only nodes that proved their id from their address are added, by add().
    """

    def __init__(
        self,
        own: Contact,
        policy: AddressPolicy,
        *,
        bucket_contacts: int = BUCKET_CONTACTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._clock = clock
        super().__init__(None, bucket_contacts, own)

    def flush(self) -> None:
        """Forget everybody: one bucket for all ids, which the original makes one too wide."""
        self.buckets = [KBucket(0, 2 ** (8 * KEY_BYTES) - 1, self.ksize)]
        self.buckets[0].last_updated = self._clock()

    def split_bucket(self, index: int) -> None:
        """Make two of a bucket, both as rested as it was."""
        last_updated = self.buckets[index].last_updated
        super().split_bucket(index)
        for half in self.buckets[index : index + 2]:
            half.last_updated = last_updated

    def touch(self, key: bytes) -> None:
        """Note that *key* is looked up: its bucket has no need of it for a while."""
        self.bucket_for(key).last_updated = self._clock()

    def lonely_buckets(self) -> list[KBucket]:
        """Return the buckets in which nothing was looked up for LONELY_SECONDS."""
        since = self._clock() - LONELY_SECONDS
        return [each for each in self.buckets if each.last_updated < since]

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def bucket_for(self, node_id: bytes) -> KBucket:
        """Return the bucket whose range the id lies in."""
        return self.buckets[self.get_bucket_for(Contact(node_id, Address("", 0)))]

    def get_bucket_for(self, node: Contact) -> int:
        """Return the index of the bucket whose range *node* lies in, both its ends included.

        The original counts an id at the very end of a range to the next bucket.
        """
        for index, bucket in enumerate(self.buckets):
            if node.long_id <= bucket.range[1]:
                return index
        raise AssertionError("the buckets cover all ids")

    def get(self, node_id: bytes) -> Contact | None:
        """Return the contact with that id, if it has a place in its bucket."""
        contact: Contact | None = self.bucket_for(node_id)[node_id]
        return contact

    def wants(self, node_id: bytes, address: Address) -> bool:
        """Tell whether a node is new, or has another address than before, and add() may keep it."""
        if node_id == self.node.id:
            return False
        bucket = self.bucket_for(node_id)
        known = bucket.nodes.get(node_id) or bucket.replacement_nodes.get(node_id)
        if known is not None:
            return bool(known.address != address)
        has_room = len(bucket) < self.ksize or bucket.has_in_range(self.node)
        # As many in waiting as have a place; each costs a hello, and is rarely needed.
        may_wait = len(bucket.replacement_nodes) < int(self.ksize)
        return (has_room or may_wait) and not self._is_crowded(bucket, node_id, address.ip)

    def add(self, contact: Contact) -> Contact | None:
        """Take in a contact that has just answered, as the most recently seen of its bucket.

        Returns the contact whose place it would take if that one were gone, when its bucket is
        full, or its namesake at another address, which keeps its place while it answers.
        """
        while True:
            bucket = self.buckets[self.get_bucket_for(contact)]
            known = bucket[contact.id]
            if known is None and self._is_crowded(bucket, contact.id, contact.ip):
                return None
            if known is not None and known.address != contact.address and not known.failures:
                return known  # type: ignore[no-any-return] # from kademlia's untyped bucket
            if bucket.add_node(contact):
                return None
            if not bucket.has_in_range(self.node):
                return bucket.head()  # type: ignore[no-any-return] # as above
            self.split_bucket(self.buckets.index(bucket))

    def fail(self, contact: Contact) -> None:
        """Count a request that *contact* left unanswered, and drop it after MAX_FAILURES."""
        known = self.get(contact.id)
        if known is None or known.address != contact.address:
            return
        known.failures += 1
        if known.failures >= MAX_FAILURES:
            self.remove_contact(known)

    def _is_crowded(self, bucket: KBucket, node_id: bytes, ip: str) -> bool:
        """Say whether the bucket has enough other contacts near *ip*, those in waiting counted."""
        crowd = self._policy.crowd(ip)
        if crowd is None:
            return False
        others = [*bucket.nodes.values(), *bucket.replacement_nodes.values()]
        near = [each for each in others if self._policy.crowd(each.ip) == crowd]
        return len([each for each in near if each.id != node_id]) >= MAX_NEIGHBOURS

    def find_neighbors(
        self, node: Contact, k: int | None = None, exclude: Contact | None = None
    ) -> list[Contact]:
        """Return the *k* nearest to *node*, nearest first, without it and without *exclude*.

        The original stops at the first k that it comes across. Contacts that left a request
        unanswered come only where there are too few others.
        """
        return self.nearest(
            node.id, k or self.ksize, but={node.id, exclude.id} if exclude else {node.id}
        )

    def nearest(
        self, key: bytes, count: int = BUCKET_CONTACTS, *, but: set[bytes] | None = None
    ) -> list[Contact]:
        """Return the *count* contacts nearest to *key*, nearest first, without the ids in *but*."""
        target = int.from_bytes(key)
        excluded = but or set()
        found: list[Contact] = []
        doubtful: list[Contact] = []
        for bucket in sorted(self.buckets, key=lambda each: _least_distance(each, target)):
            for each in sorted(bucket.nodes.values(), key=lambda node: node.long_id ^ target):
                if each.id not in excluded:
                    (doubtful if each.failures else found).append(each)
            if len(found) >= count:
                break
        return (found + doubtful)[:count]


def _least_distance(bucket: KBucket, target: int) -> int:
    """Return how near to *target* an id in the bucket can be.

    A bucket holds all ids that begin with the same bits, so those of one are all nearer than those
    of another.
    """
    low: int
    high: int
    low, high = bucket.range
    free_bits = (high - low).bit_length()
    return ((low ^ target) >> free_bits) << free_bits
