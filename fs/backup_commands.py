"""libernet backup: a folder of this machine into a backup, without the detour through the mount."""

import codecs
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from libernet.blocks.errors import FormatError
from libernet.fs.amounts import size_text
from libernet.fs.command_options import labels_wanted, with_json, with_labels
from libernet.fs.control_client import ask
from libernet.fs.copy_command import copy
from libernet.fs.places import Places
from libernet.fs.printable import printable
from libernet.fs.sources.sizes import parse_size

NOTE_SECONDS = 600.0
"""How long the mount may say nothing: it tells how it gets on twice a second, but for the end."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("sources", metavar="SOURCE [NAME]", nargs=-1, required=True)
@click.option("--into", metavar="NAME", help="Each SOURCE becomes a folder in the backup NAME.")
@click.option("--exclude", "-e", "patterns", multiple=True, metavar="PATTERN")
@click.option("--exclude-file", "pattern_files", multiple=True, metavar="FILE", type=_FILE)
@click.option("--exclude-caches", is_flag=True, help="Not what stands beside a CACHEDIR.TAG.")
@click.option("--exclude-larger-than", metavar="SIZE", help="Not files over 100k, 20M, 1.5G ...")
@click.option("--one-file-system", "-x", is_flag=True, help="Not what is mounted in SOURCE.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
@with_labels
@with_json
@click.pass_obj
def backup(
    places: Places,
    /,
    sources: Sequence[str],
    *,
    into: str | None,
    dry_run: bool,
    tags: Sequence[str],
    note: str | None,
    as_json: bool,
    **left_out: Any,
) -> int:
    """Bring backups/NAME up to date with the folder SOURCE, and publish it.

    NAME is that of SOURCE if none is given. What is no longer in SOURCE is removed from
    backups/NAME; older snapshots keep it. Files whose size, times and inode are as they were are
    not read again. Where nothing changed, the newest snapshot gets the tags and the note. Patterns
    are those of a .gitignore; one may begin with the absolute path of SOURCE. The exit code is 3
    where something could not be read.
    """
    folders, name = _folders_and_name(sources, into)
    request = {
        "sources": [os.path.realpath(folder) for folder in folders],
        "name": name,
        "each_inside": into is not None,
        "rules": _rules(**left_out),
        "dry_run": dry_run,
        **labels_wanted(tags, note),
    }
    return copy(
        partial(ask, places.runtime),
        "backup",
        request,
        partial(_described, patterns=left_out["patterns"]),
        failed="not as it is",
        note_seconds=NOTE_SECONDS,
        as_json=as_json,
    )


def _rules(
    *,
    patterns: Sequence[str],
    pattern_files: Sequence[Path],
    exclude_caches: bool,
    exclude_larger_than: str | None,
    one_file_system: bool,
) -> dict[str, Any]:
    try:
        larger_than = None if exclude_larger_than is None else parse_size(exclude_larger_than)
    except FormatError as error:
        raise click.UsageError(str(error)) from None
    lines = [line for file in pattern_files for line in _lines(file)]
    return {
        "patterns": [*map(_no_comment, patterns), *lines],
        "caches": exclude_caches,
        "larger_than": larger_than,
        "one_file_system": one_file_system,
    }


def _no_comment(pattern: str) -> str:
    return "\\" + pattern if pattern.startswith("#") else pattern


def _lines(file: Path) -> list[str]:
    """Return the patterns in a file: names are bytes, which need not be UTF-8."""
    content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    return [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n")]


def _folders_and_name(sources: Sequence[str], into: str | None) -> tuple[Sequence[str], str]:
    if into is not None:
        return sources, into
    if len(sources) > 2:
        raise click.UsageError("several sources need --into NAME")
    name = sources[1] if len(sources) == 2 else os.path.basename(os.path.realpath(sources[0]))
    return sources[:1], name


def _described(answer: dict[str, Any], *, patterns: Sequence[str]) -> str:
    """Return the summary as lines for a person, who gave *patterns* by hand."""
    verb = "would be " if answer["dry_run"] else ""
    lines = [
        f"files       {answer['files_new']} new, {answer['files_changed']} changed,"
        f" {answer['files_unmodified']} unmodified",
        f"read        {size_text(answer['bytes_read'])} of"
        f" {size_text(answer['total_bytes_processed'])} in {answer['total_duration']:.1f} s",
    ]
    if answer["removed"] or answer["left_out"]:
        lines.append(f"{verb}removed {answer['removed']}, left out {answer['left_out']}")
    if not answer["dry_run"]:
        lines.append(f"added       {size_text(answer['data_added'])} to the store")
        lines.append(f"snapshot    {answer['snapshot']}  {answer['reference']}")
    idle = {each for each in patterns if _no_comment(each) in answer["unmatched"]}
    lines += [f"unmatched   {printable(each)}" for each in sorted(idle)]
    return "\n".join(lines)
