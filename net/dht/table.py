"""The contacts of a node, in buckets by their distance from it."""

import heapq
from collections.abc import Iterator

from kademlia.routing import KBucket, RoutingTable

from libernet.net.dht.contact import MAX_NEIGHBOURS, Address, AddressPolicy, Contact

BUCKET_CONTACTS = 20
"""The paper's k: contacts in a bucket, and nodes that a record is given to."""

MAX_FAILURES = 2
"""Unanswered requests in a row after which a contact is dropped: one datagram may get lost."""


# kademlia carries no types.
class ContactTable(RoutingTable):  # type: ignore[misc]
    """kademlia's routing table, made exact and passive: it sends nothing by itself.

    State: the buckets. Only nodes that proved their id from their address are added, by add().
    """

    def __init__(
        self, own: Contact, policy: AddressPolicy, *, bucket_contacts: int = BUCKET_CONTACTS
    ) -> None:
        self._policy = policy
        super().__init__(None, bucket_contacts, own)

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
        if self._is_crowded(bucket, node_id, address.ip):
            return False
        if len(bucket) < self.ksize or bucket.has_in_range(self.node):
            return True
        # As many in waiting as have a place; each costs a ping, and is rarely needed.
        return len(bucket.replacement_nodes) < int(self.ksize)

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
        return heapq.nsmallest(
            count,
            (each for each in self if each.id not in excluded),
            key=lambda each: (each.failures > 0, each.long_id ^ target),
        )
