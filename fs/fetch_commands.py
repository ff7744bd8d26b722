"""libernet fetch: a whole bundle here, ahead of need."""

import json
from typing import Any

import click

from libernet.blocks.addresses import parse_opening
from libernet.blocks.errors import FormatError
from libernet.fs.amounts import size_text
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.control_client import ask
from libernet.fs.places import Places
from libernet.fs.printable import printable
from libernet.fs.progress_line import progress_line

NOTE_SECONDS = 60.0

EX_INCOMPLETE = 3


@click.command()
@click.argument("what", metavar="REFERENCE|NAME[/PATH]")
@click.option("--pin", is_flag=True, help="Keep it, whatever else the cache needs room for.")
@click.option("--unpin", is_flag=True, help="Only let go of all of it again.")
@with_json
@click.pass_obj
def fetch(places: Places, what: str, *, pin: bool, unpin: bool, as_json: bool) -> int:
    """Bring all of a bundle or stream here: what REFERENCE opens, or is open as bundles/NAME.

    Or of a bundle what is at the PATH in it. What is here already is not asked for again, so an
    interrupted fetch goes on where it was. The exit code is 3 where blocks could not be had, or not
    be kept.
    """
    if pin and unpin:
        raise click.UsageError("either --pin or --unpin")
    try:
        wanted: dict[str, Any] = {"reference": str(parse_opening(what))}
    except FormatError:
        inside = inside_mount(places, what) if what.startswith(("/", ".")) else what
        wanted = {"name": inside.removeprefix("bundles/")}
    with progress_line("blocks", is_quiet=as_json) as hear:
        request = {**wanted, "pin": pin, "unpin": unpin}
        answer = ask(places.runtime, "fetch", request, timeout=NOTE_SECONDS, hear=hear)
    if as_json:
        click.echo(json.dumps(answer))
    elif not unpin:
        click.echo(
            f"blocks      {answer['fetched']} fetched ({size_text(answer['fetched_bytes'])}),"
            f" {answer['here_before']} were here"
        )
    if answer["failed"]:
        click.echo(f"{answer['failed']} blocks could not be had, among them:", err=True)
        for path, why in answer["errors"].items():
            click.echo(f"  {printable(path)}: {why}", err=True)
    if answer["not_kept"]:
        click.echo(f"{answer['not_kept']} blocks found no room in the cache", err=True)
    return EX_INCOMPLETE if answer["failed"] or answer["not_kept"] else 0
