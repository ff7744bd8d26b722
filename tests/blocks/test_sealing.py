"""Sealing and unsealing: the pinned format, round trips, and blocks made to do harm."""

import array
import hashlib
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import BlockCorrupt, BlockTooLarge
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import Sealer, opens_to, unseal

SECRET = bytes(range(32))
KEY = b"k" * 32

RAW = b"\x00"
ZSTD = b"\x01"


@pytest.fixture(scope="module")
def sealer() -> Sealer:
    return Sealer(SECRET)


def random_chunk(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def sealed_by_hand(payload: bytes) -> tuple[Reference, bytes]:
    """Return a block whose tag is right, whatever its payload is: all an attacker can do."""
    block = AESGCM(KEY).encrypt(bytes(12), payload, None)
    return Reference(BlockId.of(block), Suite.AES256GCM, KEY), block


def frame(content: bytes, *, with_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_content_size=with_size).compress(content)


def frame_claiming(size_bytes: int, content: bytes) -> bytes:
    """Return a frame of *content* (256 bytes to 64 KiB) whose header gives another size."""
    honest = frame(content)
    # RFC 8878 section 3.1.1: magic, descriptor with the single-segment flag, then the size.
    assert honest[4] == 0x60
    return honest[:4] + b"\xe0" + struct.pack("<Q", size_bytes) + honest[7:]


# The expected texts were made with hmac and AES-GCM alone, not with the code under test.
@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (
            b"",
            "/sha256/e2e0bc47d77558a4d9b8cc2d81838f3aab97a8274ceb04d05b5ee51349dc9776/aes256gcm/"
            "0667aaf52cdd9e24ce70bb078f20723a877af2b5aa0ede0b863230189669c77a",
        ),
        (
            b"The quick brown fox jumps over the lazy dog",
            "/sha256/45e721ccaa72450135ab300f6f96f928d25f6d973f225f1cfc48a18e04d23a9f/aes256gcm/"
            "ed324240932d35f9f7f0b461764ae1d4602134d1edb1416a6fdbf63bc9d97cf4",
        ),
        (
            random_chunk(MAX_CHUNK_BYTES),
            "/sha256/7373d00138a21fc3810c3d672865241556173ff907b7484dbe8bed8a0bbc51fe/aes256gcm/"
            "2cf1bd26a699d0d52efc89a795e967c6ec94b8d1f59371a9c184a8677fe6a8e3",
        ),
    ],
    ids=["empty", "short", "largest"],
)
def test_the_format_of_incompressible_chunks_never_changes(
    sealer: Sealer, chunk: bytes, text: str
) -> None:
    reference, block = sealer.seal(chunk)
    assert str(reference) == text
    assert hashlib.sha256(block).digest() == reference.id
    assert len(block) == len(chunk) + 17
    assert unseal(reference, block) == chunk


def test_a_compressed_block_of_the_first_version_is_still_read() -> None:
    reference = Reference.parse(
        "/sha256/5d806776b23a62b085d6d8fc3c7b7dfabd4af616fb3d07adf619519037246cc0/aes256gcm/"
        "a489df26beec04dd6fe88724542bd7022ff27b1198bf826d033d213ff5bee7d9"
    )
    block = bytes.fromhex(
        "c59f316e2c6f04aec501f8b00aef8a9a37f8e18e334f42a04ed74691cf997cb3c3bf7f4748ff"
    )
    assert BlockId.of(block) == reference.id
    assert unseal(reference, block) == b"abcd" * 100


@given(st.binary(max_size=2000) | st.binary(min_size=1, max_size=50).map(lambda part: part * 500))
@settings(deadline=None)
def test_a_chunk_comes_back_from_its_block(chunk: bytes) -> None:
    reference, block = Sealer(SECRET).seal(chunk)
    assert BlockId.of(block) == reference.id
    assert unseal(reference, block) == chunk
    assert len(block) <= len(chunk) + 17


@pytest.mark.parametrize("size_bytes", [256 * 1024 - 1, 256 * 1024, MAX_CHUNK_BYTES])
@pytest.mark.parametrize("kind", ["random", "text", "zeros"])
def test_large_chunks_come_back(sealer: Sealer, size_bytes: int, kind: str) -> None:
    text = b"".join(b"%d bottles of beer\n" % count for count in range(60_000))
    chunk = {
        "random": random_chunk(size_bytes),
        "text": text[:size_bytes],
        "zeros": bytes(size_bytes),
    }[kind]
    reference, block = sealer.seal(chunk)
    assert unseal(reference, block) == chunk
    assert (len(block) < size_bytes) == (kind != "random")


def test_a_compressible_stretch_inside_a_large_random_chunk_is_made_use_of(sealer: Sealer) -> None:
    noise = random_chunk(MAX_CHUNK_BYTES)
    for start in range(0, MAX_CHUNK_BYTES - 66 * 1024, 50_000):
        chunk = noise[:start] + bytes(66 * 1024) + noise[start + 66 * 1024 :]
        assert len(sealer.seal(chunk)[1]) < MAX_CHUNK_BYTES - 60 * 1024


def test_equal_chunks_give_equal_blocks_under_one_secret_and_unrelated_ones_under_another() -> None:
    chunk = b"the same everywhere" * 10
    assert Sealer(SECRET).seal(chunk) == Sealer(SECRET).seal(chunk)
    reference, block = Sealer(SECRET).seal(chunk)
    other_reference, other_block = Sealer(bytes(32)).seal(chunk)
    assert reference.key != other_reference.key
    assert block != other_block


def test_a_compressed_chunk_and_its_own_frame_have_different_keys(sealer: Sealer) -> None:
    chunk = b"abcd" * 100
    assert sealer.seal(chunk)[0].key != sealer.seal(frame(chunk))[0].key


def test_any_kind_of_buffer_is_sealed_and_left_free(sealer: Sealer) -> None:
    expected = sealer.seal(b"abcd" * 8)
    growing = bytearray(b"abcd" * 8)
    assert sealer.seal(growing) == expected
    growing += b"not held by a view"
    assert sealer.seal(memoryview(b"-abcd" * 1 + b"abcd" * 7)[1:]) == expected
    assert sealer.seal(array.array("I", b"abcd" * 8)) == expected


def test_a_block_may_be_any_kind_of_buffer(sealer: Sealer) -> None:
    reference, block = sealer.seal(b"chunk")
    assert unseal(reference, bytearray(block)) == b"chunk"
    assert unseal(reference, memoryview(b"-" + block)[1:]) == b"chunk"


def test_threads_seal_at_once_without_mixing_their_chunks(sealer: Sealer) -> None:
    chunks = [random_chunk(20_000, seed) * (1 + seed % 3) for seed in range(200)]
    alone = [sealer.seal(chunk) for chunk in chunks]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sealer.seal, chunks)) == alone


def test_a_chunk_over_the_limit_is_refused(sealer: Sealer) -> None:
    with pytest.raises(BlockTooLarge, match="a chunk has 1048545 bytes, at most 1048544"):
        sealer.seal(bytes(MAX_CHUNK_BYTES + 1))


def test_a_secret_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a secret has 32 bytes, not 31"):
        Sealer(bytes(31))


@given(st.binary(max_size=300), st.data())
@settings(deadline=None)
def test_a_block_with_any_bit_flipped_is_corrupt(chunk: bytes, data: st.DataObject) -> None:
    reference, block = Sealer(SECRET).seal(chunk)
    bit = data.draw(st.integers(0, 8 * len(block) - 1))
    damaged = bytearray(block)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BlockCorrupt, match="does not open with its key"):
        unseal(reference, damaged)


def test_a_block_does_not_open_with_the_key_of_another(sealer: Sealer) -> None:
    reference, _ = sealer.seal(b"one")
    _, block = sealer.seal(b"two")
    with pytest.raises(BlockCorrupt, match=f"{reference.id} does not open"):
        unseal(reference, block)


@pytest.mark.parametrize("size_bytes", [0, 1, 16])
def test_a_block_too_short_for_codec_and_tag_is_corrupt(sealer: Sealer, size_bytes: int) -> None:
    reference, block = sealer.seal(b"")
    with pytest.raises(BlockCorrupt, match=f"has {size_bytes} bytes"):
        unseal(reference, block[:size_bytes])


def test_a_raw_block_over_the_limit_is_corrupt() -> None:
    with pytest.raises(BlockCorrupt, match="has 1048562 bytes"):
        unseal(*sealed_by_hand(RAW + bytes(MAX_CHUNK_BYTES + 1)))


def test_an_unknown_codec_is_corrupt() -> None:
    with pytest.raises(BlockCorrupt, match="the unknown codec 2"):
        unseal(*sealed_by_hand(b"\x02whatever"))


TEXT = b"some text, and again some text. " * 32
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no frame at all",
        SKIPPABLE,
        SKIPPABLE + frame(TEXT),
        frame(b""),
        frame(b"") + b"garbage",
        frame(TEXT)[:-1],
        frame(TEXT) + b"\x00",
        frame(TEXT) + frame(TEXT),
        frame(TEXT) + SKIPPABLE,
        frame(TEXT, with_size=False),
        frame_claiming(len(TEXT) - 1, TEXT),
        frame_claiming(len(TEXT) + 1, TEXT),
        frame_claiming(MAX_CHUNK_BYTES, TEXT),
        frame_claiming(MAX_CHUNK_BYTES + 1, TEXT),
        frame_claiming(2**40, TEXT),
        frame_claiming(2**64 - 3, TEXT),
        frame(bytes(MAX_CHUNK_BYTES + 1)),
        frame(bytes(100 * MAX_CHUNK_BYTES)),
    ],
    ids=lambda body: body[:24].hex() or "nothing",
)
def test_a_frame_that_is_not_exactly_one_whole_chunk_is_corrupt(body: bytes) -> None:
    with pytest.raises(BlockCorrupt, match="inflate"):
        unseal(*sealed_by_hand(ZSTD + body))


def test_a_frame_by_another_encoder_is_read() -> None:
    other = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(TEXT)
    assert unseal(*sealed_by_hand(ZSTD + other)) == TEXT
    assert unseal(*sealed_by_hand(ZSTD + frame_claiming(len(TEXT), TEXT))) == TEXT


@given(st.integers(0, 60), st.integers(0, 255))
@settings(deadline=None)
def test_a_damaged_frame_never_inflates_beyond_the_limit(place: int, value: int) -> None:
    body = bytearray(frame(TEXT))
    body[place % len(body)] = value
    try:
        chunk = unseal(*sealed_by_hand(ZSTD + bytes(body)))
    except BlockCorrupt:
        return
    assert len(chunk) <= MAX_CHUNK_BYTES


@pytest.mark.parametrize("chunk", [b"", b"short", bytes(70_000), random_chunk(MAX_CHUNK_BYTES)])
def test_what_a_block_holds_is_known_without_it(sealer: Sealer, chunk: bytes) -> None:
    reference, _ = sealer.seal(chunk)
    assert opens_to(reference, chunk)
    assert not opens_to(reference, chunk + b"x")
    assert not opens_to(reference, bytes(len(chunk) + 1))
    other = Reference(reference.id, Suite.AES256GCM, bytes(32))
    assert not opens_to(other, chunk)
