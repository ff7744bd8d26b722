"""libernet prune, or gc: looking after the store."""

import json

import click

from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask
from libernet.fs.describe import freed_text
from libernet.fs.places import Places

COLLECT_SECONDS = 3600.0


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be given up.")
@with_json
@click.pass_obj
def prune(places: Places, *, dry_run: bool, as_json: bool) -> None:
    """Give up the blocks that no file, snapshot, share or publication needs any more.

    `libernet gc` is the same command.
    """
    answer = ask(places.runtime, "gc", {"dry_run": dry_run}, timeout=COLLECT_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(freed_text(answer))
