"""libernet share, open and close: what passes from one person to another."""

import json

import click

from libernet.blocks.addresses import link_of, parse_opening
from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.control_client import PUBLISH_SECONDS, ask
from libernet.fs.places import Places


@click.command()
@click.argument("path")
@click.option("--link", is_flag=True, help="Print it as a link that a desktop opens: libernet:...")
@with_json
@click.pass_obj
def share(places: Places, path: str, *, link: bool, as_json: bool) -> None:
    """Print a reference that opens the backup, folder or file at PATH for whoever has it.

    PATH is in the mount, or begins with backups/. A snapshot or an opened bundle can be shared as a
    whole. A reference cannot be taken back.
    """
    if not path:
        raise click.UsageError("the path is empty")
    inside = inside_mount(places, path)
    answer = ask(places.runtime, "share", {"path": inside}, timeout=PUBLISH_SECONDS)
    if link:
        answer["link"] = link_of(parse_opening(answer["reference"]))
    click.echo(json.dumps(answer) if as_json else answer["link" if link else "reference"])


@click.command("open")
@click.argument("reference")
@click.argument("name", required=False)
@with_json
@click.pass_obj
def open_(places: Places, reference: str, name: str | None, *, as_json: bool) -> None:
    """Open what REFERENCE, or a libernet: link, leads to as bundles/NAME; print where it is.

    A stream of LBRYnet (/sha384/SD_HASH) becomes a folder of one file.
    """
    try:
        parsed = parse_opening(reference)
    except FormatError as error:
        raise click.UsageError(str(error)) from None
    if isinstance(parsed, Reference) and parsed.path:
        raise click.UsageError("open the reference without the path behind its key, then go there")
    answer = ask(places.runtime, "open", {"reference": str(parsed), "name": name})
    click.echo(json.dumps(answer) if as_json else answer["path"])


@click.command()
@click.argument("name")
@with_json
@click.pass_obj
def close(places: Places, name: str, *, as_json: bool) -> None:
    """Close the bundle that was opened as bundles/NAME; its blocks may stay for a while."""
    answer = ask(places.runtime, "close", {"name": name})
    if as_json:
        click.echo(json.dumps(answer))
