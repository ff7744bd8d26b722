"""Sizes, counts and durations as a person reads them."""

_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def size_text(size_bytes: int) -> str:
    """Return *size_bytes* in the largest binary unit that leaves a number of at least 1."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def seconds_text(seconds: float) -> str:
    """Return a duration in the largest unit that leaves a number of at least 1, or in ms."""
    for length, unit in _SECONDS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def count_text(number: int, thing: str) -> str:
    """Return a number of things, of which *thing* names one."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
