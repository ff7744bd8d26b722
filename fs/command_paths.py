"""Paths as a person types them, as paths below the mount point."""

import os
from pathlib import Path

from libernet.blocks.errors import LibernetError
from libernet.fs.control_client import nobody
from libernet.fs.lock import holder
from libernet.fs.places import Places

_TOP_FOLDERS = ("backups", "snapshots", "bundles", "sha256", "sha384")


def inside_mount(places: Places, path: str) -> str:
    """Return *path* relative to the mount point.

    One that begins like those in the mount counts from there, unless it leads into the mount from
    where the person is: a backup may hold a folder named `backups` too.
    """
    relative = os.path.normpath(path)
    is_relative = relative.partition("/")[0] in _TOP_FOLDERS
    found = holder(places.data)
    if found is None:
        if is_relative:
            return relative
        raise nobody(places.runtime)
    absolute = Path(os.path.abspath(path))
    above = Path(os.path.realpath(absolute.parent), absolute.name)
    for candidate in (absolute, above, Path(os.path.realpath(path))):
        if candidate.is_relative_to(found.mountpoint):
            return str(candidate.relative_to(found.mountpoint))
    if is_relative:
        return relative
    raise LibernetError(f"{path} is not below {found.mountpoint}, where this Libernet is mounted")


def snapshot_named(places: Places, text: str) -> str:
    """Return what names a snapshot in the mount: a path into the mount as NAME/TIME."""
    if text.startswith(("/", ".")):
        text = inside_mount(places, text)
    return text.removeprefix("snapshots/").rstrip("/")
