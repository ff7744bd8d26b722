"""Where large files are cut, so that a change re-stores the chunks around it and no others."""

import hmac
from typing import Final

from pyfastcdc import FastCDC
from typing_extensions import Buffer

from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.secret import SECRET_BYTES

_LABEL = b"libernet chunking v1"
# Chunks of 516/555/666 KiB (p10/p50/p90); an insertion into 64 MiB re-stores 0.8 % of it, at
# 5.8 GB/s. Frozen like the seed: other cuts would store every large file a second time.
_AVERAGE_BYTES = 512 * 1024
_MIN_BYTES = 256 * 1024
_NORMALIZATION: Final = 3


class Chunker:
    """Find content-defined cuts (FastCDC 2020) that depend on the secret, from any thread.

    Unseeded cuts would give a known file away by the sizes of its blocks.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
        _refuse_pure_python()
        self._fastcdc = FastCDC(
            _AVERAGE_BYTES,
            min_size=_MIN_BYTES,
            max_size=MAX_CHUNK_BYTES,
            normalized_chunking=_NORMALIZATION,
            seed=_seed(secret),
        )

    def cuts(self, buffer: Buffer, *, final: bool) -> list[int]:
        """Return the ascending end offsets of the chunks in *buffer*, which starts at a chunk.

        With *final* the buffer ends where the file does, and so does the last chunk; an empty
        buffer has none. Without it only those chunks are returned that no further bytes can
        change: one that starts less than MAX_CHUNK_BYTES before the end is left to the next call,
        whose buffer starts where the last cut is. Cuts are then the same however a file is fed.

        A file of at most MAX_CHUNK_BYTES is stored as one chunk: the caller does not ask for cuts.
        """
        view = memoryview(buffer).cast("B")
        pieces = self._fastcdc.cut_buf(view)
        settled = len(view) if final else len(view) - MAX_CHUNK_BYTES + 1
        ends: list[int] = []
        end = 0
        while end < settled:
            end += next(pieces).length
            ends.append(end)
        return ends


def _seed(secret: bytes) -> int:
    """Return a seed for pyfastcdc: not 0, which means unseeded, and below 2^63.

    pyfastcdc 0.3.1 shifts the seed left before it takes it as 64 bits, and fails on a 64th.
    """
    digest = hmac.digest(secret, _LABEL, "sha256")
    return int.from_bytes(digest[:8], "big") % 2**63 or 1


def _refuse_pure_python() -> None:
    if not FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise ImportError(
            "pyfastcdc is installed without its compiled part and would be 200 times slower."
            " Install a C compiler and the Python headers (apt install gcc python3-dev), then:"
            " pip install --force-reinstall --no-cache-dir pyfastcdc"
        )
