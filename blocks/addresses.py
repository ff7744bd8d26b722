"""What a person may open: the reference of a bundle, or the address of a stream."""

from libernet.blocks.reference import SCHEME, Reference, without_scheme
from libernet.blocks.streams import StreamAddress

Address = Reference | StreamAddress


def parse_opening(text: str) -> Address:
    """Return what a person typed or clicked, with or without `libernet:` before it.

    Slashes behind the colon are accepted as browsers write them. Raises FormatError.
    """
    text = without_scheme(text)
    return StreamAddress.parse(text) if text.startswith("/sha384/") else Reference.parse(text)


def link_of(address: Address) -> str:
    """Return the link that opens *address* from a desktop: `libernet:/sha256/...`."""
    return f"{SCHEME}{address}"


def without_path(address: Address) -> Address:
    """Return the address of the whole bundle or stream."""
    return StreamAddress(address.sd_hash) if isinstance(address, StreamAddress) else address.block
