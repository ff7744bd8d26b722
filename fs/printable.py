"""Names that others may have made, as they are shown to people."""

import sys


def printable(name: str) -> str:
    """Return a name without what would move the cursor, or begin a new line."""
    return "".join(each if each.isprintable() else "?" for each in name)


def printed(name: str) -> str:
    """Return a name as it goes to stdout: `printable` on a terminal, as it is to a program."""
    return printable(name) if sys.stdout.isatty() else name
