"""A node in miniature: every size limit so small that kilobytes take the paths of gigabytes."""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libernet.blocks.list_cuts import CutRule

CHUNK_BYTES = 4096
"""Largest chunk in a miniature node."""

XATTR_SPILL_BYTES = 300
"""Largest value of an extended attribute that stands in a document."""

_KIB = 1024
_SIZES: dict[str, dict[str, object]] = {
    "blocks.chunking": {
        "_AVERAGE_BYTES": 2 * _KIB,
        "_MIN_BYTES": _KIB,
        "MAX_CHUNK_BYTES": CHUNK_BYTES,
    },
    "blocks.store": {"SMALL_BLOCK_BYTES": 2 * _KIB},
    "blocks.folder_writer": {
        "INLINE_BYTES": 2 * _KIB,
        "ALWAYS_INLINED_BYTES": 300,
        "SPILL_BYTES": _KIB,
        "XATTR_SPILL_BYTES": XATTR_SPILL_BYTES,
        "_FEW_PARTS": 4,
        "_PARTS_RULE": CutRule(shortest=2, one_in=3, heaviest=8),
        "MAX_CHUNK_BYTES": CHUNK_BYTES,
        "_MANY_NAMES": 40,
    },
    "blocks.page_writer": {
        "MAX_CHUNK_BYTES": CHUNK_BYTES,
        "_PAGE_RULE": CutRule(shortest=4, one_in=8, heaviest=3 * _KIB),
    },
    "fs.sealing": {
        "MAX_CHUNK_BYTES": CHUNK_BYTES,
        "SMALL_CHUNK_BYTES": _KIB,
        "_SMALL_HOLE_BYTES": 256,
        "_WINDOW_BYTES": 16 * _KIB,
    },
    "fs.files": {
        "MAX_CHUNK_BYTES": CHUNK_BYTES,
        "_STREAM_BYTES": 12 * _KIB,
        "_RESTING_BYTES": 16 * _KIB,
        "_RESTING_FILES": 6,
        "_BATCH_BYTES": 4 * _KIB,
        "_PENDING_BYTES": 64 * _KIB,
    },
    "fs.datalog": {"_SEGMENT_BYTES": 32 * _KIB, "SUM_BYTES": 512},
    "fs.check.repair_contents": {"SUM_BYTES": 512},
    "fs.chunks": {"_CACHE_BYTES": 32 * _KIB},
    "fs.overlay": {"_CLEAN_INODES": 8, "_CLEAN_XATTRS": 2, "_PAGE_ENTRIES": 4},
    "fs.backups": {"_PENDING_XATTR_BYTES": 8 * _KIB},
    "fs.tree_documents": {"_KEPT_JSON_BYTES": 2 * _KIB},
    "fs.bundle_view": {"_LISTINGS": 2},
    "fs.checkpoint": {"_RETRY_SECONDS": 0.01},
}


_SHARED_MEMORY = Path("/dev/shm")  # an fsync takes no time there


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Provide an empty folder, in memory where there is one."""
    place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, prefix="libernet-test-") as folder:
        yield Path(folder)


@contextmanager
def small_sizes() -> Iterator[None]:
    """Make everything small while the body runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module, sizes in _SIZES.items():
            for name, value in sizes.items():
                patch.setattr(importlib.import_module(f"libernet.{module}"), name, value)
        yield
