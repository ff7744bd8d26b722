"""Pieces of LBRYnet's streams to blobs and back: AES-128-CBC, PKCS7, named by SHA-384.

A stream has one random key and each blob an IV of its own, so equal files share nothing. A blob
does not say how many bytes it holds: only its padding does.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from typing_extensions import Buffer

from libernet.blocks.errors import BlockCorrupt, BlockTooLarge, FormatError
from libernet.blocks.ids import BlobId
from libernet.blocks.limits import MAX_BLOB_BYTES

MAX_PIECE_BYTES = MAX_BLOB_BYTES - 1
"""Where the original cuts files: padding makes exactly 2 MiB of it."""

STREAM_KEY_BYTES = 16
IV_BYTES = 16

CIPHER_BYTES = 16
"""Blobs with data are whole blocks of the cipher; 1 to 16 bytes of the last one are padding."""

_BUFFER_BYTES = MAX_BLOB_BYTES + 2 * CIPHER_BYTES  # update_into wants a block more than it fills


@dataclass(frozen=True, slots=True)
class BlobReference:
    """Name a blob with data and how to open it, as a stream's descriptor says."""

    id: BlobId
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != STREAM_KEY_BYTES or len(self.iv) != IV_BYTES:
            raise FormatError("the key or the IV of a blob has not 16 bytes")


class BlobSealer:
    """Seal the pieces of one stream, one after the other.

    State: the stream's key, and a buffer that holds the blob sealed last.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != STREAM_KEY_BYTES:
            raise ValueError(f"the key of a stream has {STREAM_KEY_BYTES} bytes, not {len(key)}")
        self._algorithm = algorithms.AES128(key)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def seal(self, piece: Buffer, iv: bytes) -> tuple[BlobId, memoryview]:
        """Return the blob that holds *piece*, valid until the next call, and its id.

        Raises BlockTooLarge for more than MAX_PIECE_BYTES.
        """
        with memoryview(piece) as given, given.cast("B") as plain:
            if len(plain) > MAX_PIECE_BYTES:
                raise BlockTooLarge(
                    f"a piece has {len(plain)} bytes, a blob can hold {MAX_PIECE_BYTES}"
                )
            encryptor: CipherContext = Cipher(self._algorithm, modes.CBC(iv)).encryptor()
            whole = len(plain) - len(plain) % CIPHER_BYTES
            written = encryptor.update_into(plain[:whole], self._buffer)
            padding = CIPHER_BYTES - (len(plain) - whole)
            last = bytes(plain[whole:]) + bytes([padding]) * padding
            written += encryptor.update_into(last, self._buffer[written:])
        blob = self._buffer[:written]
        return BlobId.of(blob), blob


def unseal_blob(reference: BlobReference, blob: Buffer) -> bytes:
    """Return the piece that *blob* holds, or raise BlockCorrupt where its padding is wrong.

    The caller has checked the blob against its id. No cut is taken for granted: a piece is as long
    as its padding says, in the last blob and in any other.
    """
    with memoryview(blob) as given, given.cast("B") as sealed:
        if not 0 < len(sealed) <= MAX_BLOB_BYTES or len(sealed) % CIPHER_BYTES:
            raise BlockCorrupt(f"blob {reference.id} has {len(sealed)} bytes, as none with data")
        cipher = Cipher(algorithms.AES128(reference.key), modes.CBC(reference.iv))
        decryptor: CipherContext = cipher.decryptor()
        plain = decryptor.update(sealed)
    padding = plain[-1]
    if not 1 <= padding <= CIPHER_BYTES or plain[-padding:] != bytes([padding]) * padding:
        raise BlockCorrupt(f"blob {reference.id} does not open with the key of its stream")
    # Copying costs 0.07 ms of 2.7 (the hash has most), once the process keeps what malloc frees.
    return plain[:-padding]
