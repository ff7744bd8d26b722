"""libernet status, peers, sync and unmount: how the running mount is, and its end."""

import json

import click

from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask, nobody
from libernet.fs.describe import describe
from libernet.fs.describe_network import describe_peers
from libernet.fs.places import Places

SYNC_SECONDS = 600.0


@click.command()
@with_json
@click.pass_obj
def peers(places: Places, *, as_json: bool) -> None:
    """Show the other nodes that this one asked, and how they did."""
    answer = ask(places.runtime, "peers")
    click.echo(json.dumps(answer, indent=2) if as_json else describe_peers(answer))


@click.command()
@with_json
@click.pass_obj
def sync(places: Places, *, as_json: bool) -> None:
    """Come back when everything written so far is durable."""
    answer = ask(places.runtime, "sync", timeout=SYNC_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))


@click.command()
@with_json
@click.pass_obj
def status(places: Places, *, as_json: bool) -> None:
    """Show what is mounted, not yet durable, published or announced, and how the network is."""
    answer = ask(places.runtime, "status")
    click.echo(json.dumps(answer, indent=2) if as_json else describe(answer))


@click.command()
@with_json
@click.pass_obj
def unmount(places: Places, *, as_json: bool) -> None:
    """Unmount, and come back when everything is durable."""
    from libernet.fs.lock import holder
    from libernet.fs.unmount_command import unmount_and_wait

    found = holder(places.data)
    if found is None:
        raise nobody(places.runtime)
    unmount_and_wait(found.mountpoint, places.data)
    if as_json:
        click.echo(json.dumps({"unmounted": str(found.mountpoint)}))
