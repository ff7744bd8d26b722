"""Libernet: a mounted folder whose files survive, kept by nodes that share disk space."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("libernet")
except PackageNotFoundError:  # imported from a checkout that was never installed
    __version__ = "0+unknown"
