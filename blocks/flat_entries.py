"""Files and links of the original's bundles, with parts packed: there may be a million."""

import re
import struct
from collections.abc import Sequence
from dataclasses import replace

from libernet.blocks.entries import Attributes, FileEntry, Part, PartKeys, block_reference
from libernet.blocks.entry_checks import check_sum
from libernet.blocks.errors import FormatError
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.reference import Reference, Suite

_PACKED = struct.Struct("=I32s32s")  # size, id, key: 68 bytes, where an url alone takes 250
_PACKED_SIZE = struct.Struct("=I")
_AES256_URL = re.compile(r"/sha256/([0-9a-f]{64})/aes256/([0-9a-f]{64})")


class FlatEntry(FileEntry, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A file or link of a bundle, with the attributes that ours have in `unix` made up.

    `packed` holds the parts when all are in the suite aes256, as the original writes them; else
    they are in `contents`. `rsrc` holds the parts of a macOS resource fork and `xattr_urls` the
    urls of the extended attributes, whose blocks hold one value each. A link has none of these:
    what the original stores with it is its target's.
    """

    packed: bytes = b""
    rsrc: list[PartKeys] | None = None
    xattr_urls: dict[str, str] | None = None

    @property
    def has_parts(self) -> bool:
        return bool(self.packed or self.contents)

    def parts(self) -> list[Part]:
        """Return the parts in file order; FormatError too where they do not make up the size."""
        parts = super().parts() if self.contents else _unpacked(self.packed)
        if not self.target():
            check_sum(parts, self.size, "a file of a bundle")
        return parts

    @property
    def has_xattrs(self) -> bool:
        return bool(self.xattr_urls)

    def attributes(self) -> Attributes:
        """Return what `lstat` says of it, apart from `size`; FormatError for a malformed url."""
        urls = (self.xattr_urls or {}).items()
        references = {name_bytes(name): block_reference(url) for name, url in urls}
        return replace(self.unix.attributes(), xattr_urls=references)


def pack(parts: Sequence[PartKeys]) -> bytes | None:
    """Return *parts* for `FlatEntry.packed`, None where that cannot hold them."""
    pieces = []
    for part in parts:
        found = _AES256_URL.fullmatch(part.url or "")
        if found is None or part.size > MAX_BLOCK_BYTES:
            return None
        pieces += [_PACKED_SIZE.pack(part.size), bytes.fromhex(found[1] + found[2])]
    return b"".join(pieces)


def _unpacked(packed: bytes) -> list[Part]:
    return [
        Part(size, Reference(BlockId(block_id), Suite.AES256, key))
        for size, block_id, key in _PACKED.iter_unpack(packed)
    ]


def name_bytes(text: str) -> bytes:
    """Return the bytes of a name or link text: those that were no UTF-8 are lone surrogates.

    Raises FormatError for surrogates that stand for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FormatError(f"{text[:80]!a} is not how a name is written") from None
