"""Libernet: a mounted folder whose files survive, kept by nodes that share disk space."""

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`: finding it out takes 20 ms, which most commands do not need to spend."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("libernet")
    except PackageNotFoundError:  # imported from a checkout that was never installed
        return "0+unknown"
