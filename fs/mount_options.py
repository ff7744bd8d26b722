"""The options of mount(8): what follows -o, as its helpers are given it."""

import re
from collections.abc import Iterable

from libernet.blocks.errors import FormatError
from libernet.fs.keys import KEYS, Values

# fmt: off
_IGNORED = frozenset({
    "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime",
    "nostrictatime", "lazytime", "nolazytime", "_netdev", "nofail", "user", "users", "nouser",
    "owner", "group", "auto", "noauto", "defaults", "suid", "nosuid", "dev", "nodev", "sync",
    "async", "dirsync", "silent", "loud", "iversion", "noiversion", "mand", "nomand",
})
# fmt: on
"""Options of mount(8) for all file systems that change nothing here, or are mount(8)'s own."""

_IGNORED_WITH_VALUE = re.compile(r"x-|comment=|user=", re.IGNORECASE)

_MEANING: dict[str, tuple[str, bool]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
}

_PIECE = re.compile(r'(?:[^,"]|"[^"]*")+')
"""Text up to a comma that stands outside double quotes."""


def read_mount_options(texts: Iterable[str], *, sloppy: bool = False) -> Values:
    """Return the values that the texts after each -o set, `a,b=c`; later ones win.

    Our keys stand there under their own names, hyphens or underscores, flags alone or with
    no- before them, `peer` any number of times. Generic options of mount(8) are taken. Anything
    else is a FormatError, or ignored when *sloppy* (-s).
    """
    values: Values = {}
    for option in (piece for text in texts for piece in _pieces(text)):
        if option in _MEANING:
            name, flag = _MEANING[option]
            values[name] = flag
        elif option in _IGNORED or _IGNORED_WITH_VALUE.match(option):
            continue
        elif not _take(option, values) and not sloppy:
            raise FormatError(f"there is no mount option {option!r}")
    return values


def _pieces(text: str) -> list[str]:
    if text.count('"') % 2:
        raise FormatError(f"a quotation mark is missing in the mount options {text!r}")
    return _PIECE.findall(text)


def _take(option: str, values: Values) -> bool:
    """Put *option* into *values* when it is one of our keys, and say whether it is."""
    spelled, equals, text = option.partition("=")
    name = spelled.replace("-", "_")
    where = f"option {spelled}"
    text = text.replace('"', "")
    if name == "peer":
        values["peers"] = (*values.get("peers", ()), *KEYS["peers"].read(text, where=where))
        return True
    if name.startswith("no_") and not equals and _is_flag(name[3:]):
        values[name[3:]] = False
        return True
    if name not in KEYS or name == "peers":
        return False
    if not equals and not _is_flag(name):
        raise FormatError(f"{where} needs a value: {spelled}={KEYS[name].metavar}")
    values[name] = KEYS[name].read(text if equals else "yes", where=where)
    return True


def _is_flag(name: str) -> bool:
    return name in KEYS and KEYS[name].metavar is None
