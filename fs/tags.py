"""Tags of snapshots: short words that a person gives them, to find them by and to keep them for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from libernet.blocks.errors import FormatError

MAX_TAG_CHARACTERS = 255

MAX_TAGS = 100
"""Most tags of one snapshot."""

MAX_NOTE_CHARACTERS = 4096

TagList = tuple[str, ...]
"""Tags that a snapshot must all have."""


def checked_tags(tags: Iterable[str]) -> TagList:
    """Return tags in order and once each, or raise FormatError for what can be none."""
    found = sorted(set(tags))
    for tag in found:
        if not tag or len(tag) > MAX_TAG_CHARACTERS or "," in tag or not tag.isprintable():
            raise FormatError(
                f"{tag[:40]!r} can be no tag: one has 1 to {MAX_TAG_CHARACTERS} printable"
                " characters and no comma"
            )
    if len(found) > MAX_TAGS:
        raise FormatError(f"a snapshot has at most {MAX_TAGS} tags")
    return tuple(found)


def checked_note(note: str) -> str:
    """Return a note, or raise FormatError for what can be none."""
    if len(note) > MAX_NOTE_CHARACTERS or not note.replace("\n", "").isprintable():
        raise FormatError(f"a note has at most {MAX_NOTE_CHARACTERS} printable characters")
    return note


@dataclass(frozen=True, slots=True)
class Labels:
    """What a snapshot that is taken gets beside what it has: more tags, and a note if not None."""

    tags: TagList = ()
    note: str | None = None


def tag_lists(options: Iterable[str]) -> list[TagList]:
    """Return what `--tag a,b --tag c` asks for: snapshots with both a and b, or with c.

    An empty option asks for those without tags.
    """
    return [checked_tags(option.split(",")) if option else () for option in options]


def has_tags(tags: Sequence[str], wanted: TagList) -> bool:
    """Say whether somebody with *tags* is meant by *wanted*."""
    return set(wanted) <= set(tags) if wanted else not tags
