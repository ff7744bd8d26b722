"""What a mount's process sets once for itself."""

import ctypes
import gc
import sys

_SWITCH_SECONDS = 0.0002
"""A C call that gave up the GIL waits so long to get it back beside a busy thread; Python's own
5 ms would make a hash of 1 MiB six times slower."""

# glibc's malloc.h. Fresh megabytes are else given back to the kernel and faulted in again at each
# call: decrypting 1 MiB takes 0.95 ms so and 0.17 ms with these.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MALLOC_OPTIONS = (
    (_M_MMAP_THRESHOLD, 8 * 1024 * 1024),
    (_M_TRIM_THRESHOLD, 64 * 1024 * 1024),
    (_M_TOP_PAD, 4 * 1024 * 1024),
    (_M_ARENA_MAX, 4),
)

_GC_YOUNG_OBJECTS = 50_000


def tune() -> None:
    """Set the thread switch interval, malloc's thresholds and the collector's pace."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another libc than glibc has none
        for option, value in _MALLOC_OPTIONS:
            mallopt(option, value)
    gc.freeze()
    gc.set_threshold(_GC_YOUNG_OBJECTS, 20, 20)
