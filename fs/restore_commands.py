"""libernet restore: a snapshot, backup or bundle to a folder of this machine."""

import os
from functools import partial
from typing import Any

import click

from libernet.blocks.addresses import parse_opening
from libernet.blocks.errors import FormatError
from libernet.fs.amounts import size_text
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.copy_command import copy
from libernet.fs.places import Places
from libernet.fs.unmounted import ask_anyway

NOTE_SECONDS = 3600.0
"""How long the mount may say nothing: a backup is published before it can be restored."""


@click.command()
@click.argument("source")
@click.argument("target", type=click.Path(file_okay=False))
@click.option("--verify", is_flag=True, help="Read what was written, and was there, and compare.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
@with_json
@click.pass_obj
def restore(
    places: Places, source: str, target: str, *, verify: bool, dry_run: bool, as_json: bool
) -> int:
    """Write what is in SOURCE into the folder TARGET, past the kernel.

    SOURCE is a snapshot (snapshots/NAME/TIME or .../latest), a backup, an opened bundle, something
    in one of them, or a reference, also that of a stream. Files that are in TARGET with the same
    size and time are left alone, so an interrupted restore goes on where it was; others are
    replaced, and what is beside them stays. A large file has a name of its own, .libernet-...,
    until it is complete: what is there of it is not fetched again. The exit code is 3 where
    something could not be restored. Nothing has to be mounted for what is on this machine.
    """
    try:
        what = {"reference": str(parse_opening(source))}
    except FormatError:
        what = {"path": inside_mount(places, source)}
    request = {
        **what,
        "target": os.path.realpath(target),
        "verify": verify,
        "dry_run": dry_run,
    }
    return copy(
        partial(ask_anyway, places),
        "restore",
        request,
        _described,
        failed="not restored",
        note_seconds=NOTE_SECONDS,
        as_json=as_json,
    )


def _described(answer: dict[str, Any]) -> str:
    """Return the summary as lines for a person."""
    verb = "would be restored" if answer["dry_run"] else "restored"
    lines = [
        f"files       {answer['files_restored']} {verb}, {answer['files_unchanged']} already there",
        f"written     {size_text(answer['bytes_restored'])} of"
        f" {size_text(answer['total_bytes'])} in {answer['total_duration']:.1f} s",
    ]
    if answer["files_verified"]:
        lines.append(f"verified    {answer['files_verified']} files")
    return "\n".join(lines)
