"""Names of files in LBRYnet's stream descriptors: as the original writes them, and as we show them.

A descriptor suggests a name, and whoever made it can have put anything there. So it is never used
as it stands: `safe_name` is what a folder of ours shows.
"""

import os.path
import re

from libernet.blocks.limits import MAX_NAME_BYTES

DEFAULT_NAME = "lbry_download"
"""What a stream's file is called when nothing is left of its name."""

_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[1-9]|LPT[1-9])\Z")
_REMOVED = {ord(character): None for character in '<>:"/\\|?*'} | dict.fromkeys(range(32))
_BLANKS = " \t"

_MAX_EXTENSION_BYTES = 32
"""Longer ones are no extensions that anybody opens files by, and may be cut."""


def suggested_name(name: str) -> str:
    """Return the name that the original suggests for a file called *name*, which is not yet safe.

    It removes <>:"/\\|?*, control characters, dots at the end and blanks at both ends, in stem and
    extension each by itself and once: '.?' becomes '.'. Reserved names of DOS, in upper case,
    and what has nothing left become `lbry_download`. Takes linear time, unlike its expressions.
    """
    stem, extension = os.path.splitext(name)
    extension = _cleaned(extension)
    return (_cleaned(stem) or DEFAULT_NAME) + (extension if len(extension) > 1 else "")


def safe_name(name: str) -> bytes:
    """Return the name under which a folder shows the file that a descriptor calls *name*.

    It is cleaned as the original does, is no path, and has 1 to 255 bytes, of which a
    longer one keeps its extension.
    """
    cleaned = suggested_name(name.encode(errors="replace").decode())
    if not cleaned.strip("."):
        return DEFAULT_NAME.encode()
    encoded = cleaned.encode()
    if len(encoded) <= MAX_NAME_BYTES:
        return encoded
    extension = os.path.splitext(cleaned)[1].encode()
    if len(extension) > _MAX_EXTENSION_BYTES:
        extension = b""
    stem = encoded[: MAX_NAME_BYTES - len(extension)].decode(errors="ignore").encode()
    return stem + extension


def _cleaned(part: str) -> str:
    """Return a stem or an extension without what it must not have."""
    line = part.removesuffix("\n")  # where the original's "$" matches
    if _RESERVED.match(line):
        return ""
    without_dots = line.rstrip(_BLANKS).rstrip(".")
    if len(without_dots) < len(line):
        line = without_dots.rstrip(_BLANKS)
    if line.startswith(" "):  # a tab at the start goes as a control character, and alone
        line = line.lstrip(_BLANKS)
    return line.translate(_REMOVED)
