"""libernet snapshot, snapshots, tag and note: taking snapshots, and what is known of them."""

import json
from typing import Any

import click

from libernet.fs.amounts import count_text, size_text
from libernet.fs.command_options import labels_wanted, split_tags, with_json, with_labels
from libernet.fs.command_paths import snapshot_named
from libernet.fs.control_client import PUBLISH_SECONDS, ask
from libernet.fs.places import Places
from libernet.fs.printable import printable
from libernet.fs.unmounted import ask_anyway


@click.command()
@click.argument("name")
@with_labels
@with_json
@click.pass_obj
def snapshot(
    places: Places, name: str, *, tags: tuple[str, ...], note: str | None, as_json: bool
) -> None:
    """Publish the backup NAME now and print the reference of the snapshot.

    Where nothing changed that is the newest there is, which gets the tags and the note.
    """
    wanted = {"name": name, **labels_wanted(tags, note)}
    answer = ask(places.runtime, "snapshot", wanted, timeout=PUBLISH_SECONDS)
    click.echo(json.dumps(answer) if as_json else answer["reference"])


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--tag", "tags", multiple=True, metavar="T[,T...]", help="Only those with all of these tags."
)
@with_json
@click.pass_obj
def snapshots(
    places: Places, names: tuple[str, ...], *, tags: tuple[str, ...], as_json: bool
) -> None:
    """List the snapshots of all backups, or of NAME, oldest first.

    Each stands in the mount as snapshots/ and what is listed as its path. Files are all names but
    those of folders, the size is that of their contents. A dash: an older program published it.
    """
    wanted = {"names": list(names), "tags": list(tags)}
    found = ask_anyway(places, "snapshots", wanted)["snapshots"]
    if as_json:
        click.echo(json.dumps(found))
        return
    if found:
        click.echo(table(found, [("note", "Note")]))
    click.echo(count_text(len(found), "snapshot"))


@click.command()
@click.argument("which", metavar="SNAPSHOT...", nargs=-1, required=True)
@click.option("--add", multiple=True, metavar="T[,T...]", help="Add tags.")
@click.option("--remove", multiple=True, metavar="T[,T...]", help="Remove tags.")
@click.option("--set", "new", multiple=True, metavar="T[,T...]", help="Replace all; '' for none.")
@with_json
@click.pass_obj
def tag(
    places: Places,
    which: tuple[str, ...],
    *,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    new: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change the tags of snapshots.

    SNAPSHOT is NAME/TIME, NAME/latest or the beginning of an id.
    """
    if bool(new) == bool(add or remove):
        raise click.UsageError("say either what to --set, or what to --add and --remove")
    wanted: dict[str, Any] = {"snapshots": [snapshot_named(places, each) for each in which]}
    if new:
        wanted["set"] = split_tags(new)
    else:
        wanted |= {"add": split_tags(add), "remove": split_tags(remove)}
    _tell(ask(places.runtime, "tag", wanted)["snapshots"], as_json=as_json)


@click.command()
@click.argument("which", metavar="SNAPSHOT")
@click.argument("text")
@with_json
@click.pass_obj
def note(places: Places, which: str, text: str, *, as_json: bool) -> None:
    """Write TEXT about a snapshot, instead of what was written before.

    SNAPSHOT is NAME/TIME, NAME/latest or the beginning of an id.
    """
    wanted = {"snapshots": [snapshot_named(places, which)], "note": text}
    _tell(ask(places.runtime, "note", wanted)["snapshots"], as_json=as_json)


def table(rows: list[dict[str, Any]], more: list[tuple[str, str]]) -> str:
    """Return snapshots as lines under a headline; *more* are columns: their key and their title."""
    cells = [["ID", "Snapshot", "Files", "Size", "Tags", *(title for _, title in more)]]
    for row in rows:
        extra = [row[key] for key, _ in more]
        cells.append(
            [
                row["short_id"],
                printable(f"{row['backup']}/{row['name']}"),
                *_amounts(row),
                ",".join(row["tags"]),
                *(
                    ", ".join(each) if isinstance(each, list) else each.partition("\n")[0]
                    for each in extra
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _amounts(row: dict[str, Any]) -> tuple[str, str]:
    """Return files and size; nobody counted those of older snapshots."""
    if row["files"] is None or row["bytes"] is None:
        return "-", "-"
    return str(row["files"]), size_text(row["bytes"])


def _tell(found: list[dict[str, Any]], *, as_json: bool) -> None:
    click.echo(json.dumps(found) if as_json else table(found, [("note", "Note")]))
