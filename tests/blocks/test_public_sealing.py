"""The original's suites: every vector is opened, and what we seal the same rules open."""

import contextlib
import hashlib
import tracemalloc
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import BlockCorrupt, BlockTooLarge
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES, MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.public_sealing import passphrase_key, seal_public, without_suffix
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import opens_to, unseal
from libernet.blocks.verification import is_block
from tests.support import vectors

_VECTORS = vectors.load("libernet-blocks.json")["blocks"]
_IV = b"0" * 16
_KEY = bytes(range(32))


def _stored(vector: dict[str, Any]) -> bytes:
    """Return the stored bytes of a vector; a large one is made from its recipe and checked."""
    stored = vectors.content(vector, "stored")
    if stored is None:
        plain = vectors.content(vector, "plain")
        assert plain is not None
        stored = seal_public(plain)[1] if vector["kind"] == "aes256" else plain
        if len(plain) > MAX_PUBLIC_CHUNK_BYTES:
            pytest.fail("only its hash is known")
    assert hashlib.sha256(stored).hexdigest() == vector["stored_sha256"]
    return stored


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["name"])
def test_every_block_of_the_original_is_opened(vector: dict[str, Any]) -> None:
    plain = vectors.content(vector, "plain")
    assert plain is not None
    if vectors.content(vector, "stored") is None and len(plain) > MAX_PUBLIC_CHUNK_BYTES:
        stored = plain if vector["kind"] == "sha256" else _encrypted(plain)
    else:
        stored = _stored(vector)
    assert hashlib.sha256(stored).hexdigest() == vector["stored_sha256"]
    reference = Reference.parse(vector["url"])
    assert is_block(reference.id, stored)
    chunk = unseal(reference, stored)
    if vector["like_suffixed"] and reference.suite is Suite.PLAIN:
        chunk = without_suffix(chunk)
    assert chunk == plain
    if vector["passphrase"]:
        assert reference.key == passphrase_key(vector["passphrase"])


def _encrypted(plain: bytes, key: bytes | None = None, *, padding: bytes | None = None) -> bytes:
    """Return what the original stores for data that does not deflate."""
    pad = 16 - len(plain) % 16
    encryptor = Cipher(
        algorithms.AES256(key or hashlib.sha256(plain).digest()), modes.CBC(_IV)
    ).encryptor()
    return encryptor.update(plain + (bytes([pad]) * pad if padding is None else padding))


@given(st.binary(max_size=2000) | st.integers(0, 3000).map(lambda count: b"ab" * count))
@settings(deadline=None)
def test_what_is_sealed_for_all_is_opened_again(plain: bytes) -> None:
    reference, block = seal_public(plain)
    assert reference.suite is Suite.AES256
    assert reference.key == hashlib.sha256(plain).digest()
    assert is_block(reference.id, block)
    assert unseal(reference, block) == plain
    assert len(block) <= len(plain) + 16


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 262_143, 262_144, MAX_PUBLIC_CHUNK_BYTES])
def test_chunks_of_every_size_are_sealed(length: int) -> None:
    for plain in (bytes(length), vectors.counted("size", length)):
        reference, block = seal_public(plain)
        assert unseal(reference, block) == plain
        assert len(block) <= 1024 * 1024


def test_a_chunk_that_the_original_would_not_store_is_refused() -> None:
    with pytest.raises(BlockTooLarge):
        seal_public(bytes(MAX_PUBLIC_CHUNK_BYTES + 1))


def test_a_block_of_the_rewrite_with_one_mebibyte_inside_is_opened() -> None:
    plain = vectors.counted("rewrite", 1024 * 1024)
    block = _encrypted(plain)
    assert len(block) == MAX_BLOCK_BYTES
    reference = Reference(BlockId.of(block), Suite.AES256, hashlib.sha256(plain).digest())
    assert unseal(reference, block) == plain


@pytest.mark.parametrize("suite", [Suite.AES256, Suite.PASSPHRASE])
@pytest.mark.parametrize("padding", [b"\0" * 11, b"\x11" * 11, b"\x0b" * 10 + b"\x0c"])
def test_wrong_padding_is_damage(suite: Suite, padding: bytes) -> None:
    block = _encrypted(b"hello", _KEY, padding=padding)
    with pytest.raises(BlockCorrupt):
        unseal(Reference(BlockId.of(block), suite, _KEY), block)


def test_another_key_opens_nothing() -> None:
    _, block = seal_public(b"hello")
    for suite in (Suite.AES256, Suite.AES256GCM):
        with pytest.raises(BlockCorrupt):
            unseal(Reference(BlockId.of(block), suite, _KEY), block)


@given(st.binary(max_size=100), st.sampled_from([Suite.AES256, Suite.PASSPHRASE]))
@settings(deadline=None)
def test_no_bytes_but_damage_or_a_chunk(block: bytes, suite: Suite) -> None:
    with contextlib.suppress(BlockCorrupt):
        assert len(unseal(Reference(BlockId.of(block), suite, _KEY), block)) < len(block)


@pytest.mark.parametrize("behind", [b"", b"more"])
@pytest.mark.parametrize("length", [MAX_BLOCK_BYTES + 1, 1 << 26])
def test_a_block_that_inflates_beyond_the_limit_takes_no_more_memory(
    length: int, behind: bytes
) -> None:
    bomb = zlib.compress(bytes(length), 9) + behind
    plain_id = BlockId(hashlib.sha256(bytes(length)).digest())
    sealed = _encrypted(bomb, _KEY)
    tracemalloc.start()
    try:
        assert not is_block(plain_id, bomb)
        for reference, block in (
            (Reference(plain_id, Suite.PLAIN, b""), bomb),
            (Reference(BlockId.of(sealed), Suite.AES256, _KEY), sealed),
        ):
            with pytest.raises(BlockCorrupt):
                unseal(reference, block)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * MAX_BLOCK_BYTES


def test_a_plain_block_is_known_by_what_it_inflates_to_and_by_nothing_else() -> None:
    plain = b"plain " * 100
    deflated = zlib.compress(plain)
    named = BlockId.of(plain)
    assert is_block(named, deflated)
    assert is_block(named, plain)
    assert unseal(Reference(named, Suite.PLAIN, b""), deflated) == plain
    for damaged in (deflated[:-1], deflated + b"x", b"x" + deflated, b"", zlib.compress(b"other")):
        assert not is_block(named, damaged)
        with pytest.raises(BlockCorrupt):
            unseal(Reference(named, Suite.PLAIN, b""), damaged)


def test_a_blob_is_known_by_its_sha384_alone() -> None:
    blob = zlib.compress(b"blob")
    assert is_block(BlobId.of(blob), blob)
    assert not is_block(BlobId.of(b"blob"), blob)
    assert BlobId.parse(str(BlobId.of(blob))) == BlobId.of(blob)


def test_a_suffix_that_is_not_there_is_not_cut_off() -> None:
    with pytest.raises(BlockCorrupt):
        without_suffix(b"no zero byte")


@pytest.mark.parametrize("chunk", [b"short", bytes(70_000)])
def test_what_a_public_block_holds_is_known_without_it(chunk: bytes) -> None:
    reference, _ = seal_public(chunk)
    assert opens_to(reference, chunk)
    assert not opens_to(reference, chunk + b"x")
    plain = Reference(BlockId.of(chunk), Suite.PLAIN, b"")
    assert opens_to(plain, chunk)
    assert not opens_to(plain, chunk + b"x")
    key = passphrase_key("any")
    assert not opens_to(Reference(reference.id, Suite.PASSPHRASE, key), chunk)
