"""libernet diff and find: what changed between trees, and where something is."""

import json
from typing import Any

import click

from libernet.fs.amounts import count_text, size_text
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount, snapshot_named
from libernet.fs.control_client import PUBLISH_SECONDS
from libernet.fs.places import Places
from libernet.fs.printable import printed
from libernet.fs.unmounted import ask_anyway

EX_INCOMPLETE = 3


@click.command()
@click.argument("old")
@click.argument("new")
@with_json
@click.pass_obj
def diff(places: Places, old: str, new: str, *, as_json: bool) -> int:
    """Show what changed from OLD to NEW, which are paths in the mount or references.

    \b
    +  only in NEW              M  other content
    -  only in OLD              T  another type
    U  other owner, mode, time or attribute (of folders: any but the time)

    A backup is looked at as it is now, which publishes it. What cannot be read is marked with !,
    and the exit code is then 3. Contents are compared by their references: two trees that were
    published in different ways differ in all files.
    """

    def hear(note: dict[str, Any]) -> None:
        for each in note["found"]:
            if as_json:
                click.echo(json.dumps({"message_type": "change", **each}))
            else:
                error = f": {each['error']}" if "error" in each else ""
                # click would take what looks like a colour out of names that go to a program
                click.echo(f"{each['modifier']:<5}{printed(each['path'])}{error}", color=True)

    asked = {"old": _named(places, old), "new": _named(places, new)}
    answer = ask_anyway(places, "diff", asked, timeout=PUBLISH_SECONDS, hear=hear)
    if as_json:
        click.echo(json.dumps({"message_type": "statistics", **answer}))
    else:
        click.echo(_statistics(answer))
    return EX_INCOMPLETE if answer["errors"] else 0


@click.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option("--snapshot", "snapshots", multiple=True, metavar="SNAPSHOT", help="Only in this.")
@click.option("--backup", "backups", multiple=True, metavar="NAME", help="Only in those of NAME.")
@click.option("--ignore-case", "-i", is_flag=True, help="Take large letters for small ones.")
@with_json
@click.pass_obj
def find(
    places: Places,
    patterns: tuple[str, ...],
    *,
    snapshots: tuple[str, ...],
    backups: tuple[str, ...],
    ignore_case: bool,
    as_json: bool,
) -> int:
    """Find names in all snapshots, each with the snapshots that have it: first..last.

    PATTERN is a name with *, ? and [...], or the end of a path with slashes, where ** stands for
    any folders; one that begins with a slash is a whole path. What cannot be read is marked with !,
    and the exit code is then 3.
    """

    def hear(note: dict[str, Any]) -> None:
        for each in note["found"]:
            click.echo(json.dumps(each) if as_json else _found(each), color=True)

    asked = {
        "patterns": list(patterns),
        "snapshots": [snapshot_named(places, each) for each in snapshots],
        "backups": list(backups),
        "ignore_case": ignore_case,
    }
    answer = ask_anyway(places, "find", asked, timeout=PUBLISH_SECONDS, hear=hear)
    if not as_json:
        found, searched = answer["matches"], answer["snapshots"]
        click.echo(f"{count_text(found, 'path')} in {count_text(searched, 'snapshot')}")
    return EX_INCOMPLETE if answer["errors"] else 0


def _named(places: Places, text: str) -> str:
    """Return a reference as it is written, and a path as one below the mount point."""
    if text.startswith(("/sha256/", "libernet:")):
        from libernet.blocks.reference import parse_link

        return str(parse_link(text))
    return inside_mount(places, text)


def _statistics(answer: dict[str, Any]) -> str:
    return "\n".join(
        (
            "",
            f"Files:   {answer['files_new']:>8} new, {answer['files_removed']:>8} removed,"
            f" {answer['files_changed']:>8} changed",
            f"Folders: {answer['folders_new']:>8} new, {answer['folders_removed']:>8} removed",
            f"Others:  {answer['others_new']:>8} new, {answer['others_removed']:>8} removed",
            f"Added:   {size_text(answer['bytes_added'])}",
            f"Removed: {size_text(answer['bytes_removed'])}",
        )
    )


def _found(each: dict[str, Any]) -> str:
    path = printed(f"{each['backup']}/{each['path']}")
    if "error" in each:
        return f"! {path}: {each['error']}"
    slash = "/" if each["type"] == "dir" else ""
    number = count_text(each["snapshots"], "snapshot")
    return f"{each['first']}..{each['last']}  {number}  {path}{slash}"
