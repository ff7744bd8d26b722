"""libernet snapshot: a version of a backup, now."""

import json

import click

from libernet.fs.command_options import with_json
from libernet.fs.control_client import PUBLISH_SECONDS, ask
from libernet.fs.places import Places


@click.command()
@click.argument("name")
@with_json
@click.pass_obj
def snapshot(places: Places, name: str, *, as_json: bool) -> None:
    """Publish the backup NAME now and print the reference of the snapshot."""
    answer = ask(places.runtime, "snapshot", {"name": name}, timeout=PUBLISH_SECONDS)
    click.echo(json.dumps(answer) if as_json else answer["reference"])
