"""Which snapshots a person means."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from libernet.blocks.errors import LibernetError
from libernet.fs.journal_reader import Snapshot
from libernet.fs.snapshots import Snapshots
from libernet.fs.tags import TagList, has_tags

SHORT_ID_DIGITS = 8

_DIGITS = re.compile(r"[0-9a-f]{4,64}")


class Shown(NamedTuple):
    """A snapshot with the name of its backup and its own, as they stand in `snapshots/`."""

    backup: str
    name: str
    snapshot: Snapshot

    @property
    def path(self) -> str:
        return f"{self.backup}/{self.name}"


def shown(
    snapshots: Snapshots, backups: Sequence[str] = (), tags: Iterable[TagList] = ()
) -> list[Shown]:
    """Return snapshots, oldest first in each backup: of *backups* with *tags*, if there are any.

    Raises LibernetError for a name that has no snapshots.
    """
    by_name = {os.fsdecode(name): found for name, found in snapshots.by_name().items()}
    wanted = list(tags)
    for name in backups:
        if name not in by_name:
            known = ", ".join(sorted(by_name)) or "nothing yet"
            raise LibernetError(f"there are no snapshots of {name!r}; there are of: {known}")
    return [
        Shown(backup, os.fsdecode(name), snapshot)
        for backup, versions in sorted(by_name.items())
        if not backups or backup in backups
        for name, snapshot in versions.items()
        if not wanted or any(has_tags(snapshot.tags, each) for each in wanted)
    ]


def chosen(snapshots: Snapshots, text: str) -> Shown:
    """Return the snapshot that [snapshots/]NAME/TIME, NAME/latest or the start of its id names.

    Raises LibernetError when there is none, or more than one.
    """
    everything = shown(snapshots)
    path = text.removeprefix("snapshots/").rstrip("/")
    backup, _, name = path.rpartition("/")
    if backup:
        of_backup = [each for each in everything if each.backup == backup]
        found = of_backup[-1:] if name == "latest" else [e for e in of_backup if e.name == name]
    elif _DIGITS.fullmatch(text):
        found = [each for each in everything if str(each.snapshot.reference.id).startswith(text)]
    else:
        found = []
    if len(found) > 1:
        raise LibernetError(
            f"{text!r} begins the ids of several snapshots: {', '.join(e.path for e in found)}"
        )
    if not found:
        raise LibernetError(
            f"there is no snapshot {text!r}: name one as NAME/TIME, NAME/latest or by at least 4"
            " digits of its id, as 'libernet snapshots' shows them"
        )
    return found[0]
