"""Extended attributes in bundles: values stand in the document, or in blocks of their own."""

import stat
from collections.abc import Callable, Collection

from libernet.blocks.documents import Attributes
from libernet.blocks.errors import FormatError
from libernet.blocks.source import Origin
from libernet.fs.acls import ACLS, Acl
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import NodeXattrs
from libernet.fs.xattrs import MAX_VALUE_BYTES, can_have


class BundleXattrs(NodeXattrs):
    """The attributes of a file, folder or link; names that Linux does not know are not shown.

    *attributes* raises FormatError where the bundle says nonsense: of what is never asked for, that
    harms nobody.
    """

    __slots__ = ("_attributes", "_chunks", "_origin")

    def __init__(
        self, chunks: ChunkCache, attributes: Callable[[], Attributes], origin: Origin
    ) -> None:
        self._chunks = chunks
        self._attributes = attributes
        self._origin = origin

    def names(self) -> Collection[bytes]:
        attributes = self._attributes()
        kind = stat.S_IFMT(attributes.mode)
        names = (*attributes.xattr, *attributes.xattr_urls)
        return [name for name in names if can_have(kind, name)]

    async def value(self, name: bytes) -> bytes | None:
        attributes = self._attributes()
        if not can_have(stat.S_IFMT(attributes.mode), name):
            return None
        value = attributes.xattr.get(name)
        reference = attributes.xattr_urls.get(name)
        if value is None and reference is not None:
            value = await self._chunks.get(reference, self._origin)
            if len(value) > MAX_VALUE_BYTES:
                raise FormatError(f"the extended attribute {name!r} has {len(value)} bytes")
        if value is not None and name in ACLS:
            Acl.parse(value)  # the kernel goes by what it says
        return value
