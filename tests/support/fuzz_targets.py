"""What scripts/fuzz throws bytes at: each parser of what comes from outside, by name.

A target takes any bytes and returns. What escapes it is a fault of the parser: anything but the
errors that its docstring names, and a value that does not keep what the parser promises.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress

import h11
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libernet.blocks.blobs import BlobReference, unseal_blob
from libernet.blocks.descriptors import parse_descriptor
from libernet.blocks.documents import Page, parse_contents_list, parse_document, parse_page
from libernet.blocks.errors import BlockCorrupt, FormatError
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES, MAX_CHUNK_BYTES
from libernet.blocks.names import check_name, key_of, name_of
from libernet.blocks.reference import Reference, Suite, parse_address, parse_link
from libernet.blocks.sealing import unseal
from libernet.blocks.streams import StreamAddress
from libernet.blocks.verification import is_block
from libernet.fs.web.conditions import is_known, wanted_range
from libernet.fs.web.requests import HOSTS, MAX_HEAD_BYTES, Refusal, checked_request
from libernet.fs.web.site import parse_url_path
from libernet.net.dht.wire import decode
from libernet.net.exchange.wire import batch_records, parse_batch_request

_KEY = bytes(32)


def reference(given: bytes) -> None:
    """Parse a reference; what is printed of it is the same reference."""
    with suppress(FormatError):
        parsed = Reference.parse(given.decode("utf-8", "surrogateescape"))
        assert Reference.parse(str(parsed)) == parsed


def address(given: bytes) -> None:
    """Parse whatever stands behind /sha256/, and a link to it."""
    text = given.decode("utf-8", "surrogateescape")
    for parse in (parse_address, parse_link):
        with suppress(FormatError):
            parsed = parse(text)
            assert parse(str(parsed)) == parsed


def public_block(given: bytes) -> None:
    """Unseal a block of the original's whose writer put any body, or suffix, into it."""
    whole = given + bytes(-len(given) % 16)
    body = Cipher(algorithms.AES256(_KEY), modes.CBC(b"0" * 16)).encryptor().update(whole)
    for block in (given, body):
        block_id = BlockId.of(block)
        for suite, key in (
            (Suite.PLAIN, b""),
            (Suite.AES256, _KEY),
            (Suite.AES256, hashlib.sha256(given).digest()),
            (Suite.PASSPHRASE, _KEY),
        ):
            with suppress(BlockCorrupt):
                assert len(unseal(Reference(block_id, suite, key), block)) <= MAX_BLOCK_BYTES
        is_block(BlockId(_KEY), block)


def name_key(given: bytes) -> None:
    """Parse the key of a name, of which there is only one."""
    with suppress(FormatError, UnicodeDecodeError):
        key = given.decode()
        assert key_of(name_of(key)) == key


def document(given: bytes) -> None:
    """Parse the document of a folder, and ask its files for their parts."""
    with suppress(FormatError):
        for entry in parse_document(given).files.values():
            with suppress(FormatError):
                assert sum(part.size for part in entry.part_lists() or entry.parts()) >= 0


def page(given: bytes) -> None:
    """Parse a page of a wide folder."""
    with suppress(FormatError):
        parse_page(given, Page(b"a", b"zz", 1, ""))


def flat_bundle(given: bytes) -> None:
    """Parse a bundle of the original's, and ask its files for their parts."""
    with suppress(FormatError):
        bundle = parse_bundle(given, (0, 0))
        if not isinstance(bundle, FlatBundle):
            return
        waiting, entries = [bundle.document], 0
        while waiting:
            listing = waiting.pop()
            entries += len(listing.files) + len(listing.folders)
            for folder in listing.folders.values():
                assert folder.document is not None
                waiting.append(folder.document)
            for entry in listing.files.values():
                with suppress(FormatError):
                    assert entry.target() or sum(part.size for part in entry.parts()) == entry.size
        assert entries == bundle.entries


def contents_list(given: bytes) -> None:
    """Parse a list of parts; they add up to its size."""
    with suppress(FormatError):
        assert sum(part.size for part in parse_contents_list(given, size=1000)) == 1000


def sealed_payload(given: bytes) -> None:
    """Unseal a block whose writer, who knew the key, put any payload into it."""
    block = AESGCM(_KEY).encrypt(bytes(12), given, None)
    with suppress(BlockCorrupt):
        chunk = unseal(Reference(BlockId.of(block), Suite.AES256GCM, _KEY), block)
        assert len(chunk) <= MAX_CHUNK_BYTES


def descriptor(given: bytes) -> None:
    """Parse the descriptor of a stream; its file gets a name that a file can have."""
    with suppress(FormatError):
        check_name(parse_descriptor(given).file_name)


def stream_address(given: bytes) -> None:
    """Parse the address of a stream; what is printed of it is the same address."""
    with suppress(FormatError):
        parsed = StreamAddress.parse(given.decode("utf-8", "surrogateescape"))
        assert StreamAddress.parse(str(parsed)) == parsed


def blob(given: bytes) -> None:
    """Unseal a blob of a stream."""
    with suppress(BlockCorrupt):
        piece = unseal_blob(BlobReference(BlobId.of(given), bytes(16), bytes(16)), given)
        assert len(given) - 16 <= len(piece) < len(given)


def datagram(given: bytes) -> None:
    """Decode a datagram of the DHT."""
    with suppress(FormatError):
        decode(given)


def block_batch(given: bytes) -> None:
    """Read a batch of blocks as its receiver and as its sender does."""
    with suppress(FormatError):
        list(batch_records(memoryview(given)))
    with suppress(FormatError):
        parse_batch_request(given)


def web_request(given: bytes) -> None:
    """Parse a request for a URL; it names this host, and its range is in what there is."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    with suppress(h11.RemoteProtocolError, Refusal):
        http.receive_data(given)
        event = http.next_event()
        if isinstance(event, h11.Request):
            request = checked_request(event, 8042)
            assert request.headers["host"].lower() in {f"{host}:8042" for host in HOSTS}
            is_known(request.headers, '"etag"', is_there=True)
            wanted = wanted_range(request.headers, '"etag"', 100)
            assert wanted is None or 0 <= wanted.start < wanted.stop <= 100
            parse_url_path(request.path)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        reference,
        address,
        public_block,
        name_key,
        document,
        page,
        flat_bundle,
        contents_list,
        sealed_payload,
        descriptor,
        stream_address,
        blob,
        datagram,
        block_batch,
        web_request,
    )
}
