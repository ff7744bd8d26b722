"""libernet dht: the DHT for other programs."""

import json

import click

from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask
from libernet.fs.places import Places

DHT_SECONDS = 60.0


@click.group()
def dht() -> None:
    """Let any program be found, and find others, under an identifier of its own."""


@dht.command()
@click.argument("identifier")
@click.option("--port", required=True, type=click.IntRange(1, 65535), help="Where it is reached.")
@with_json
@click.pass_obj
def announce(places: Places, identifier: str, *, port: int, as_json: bool) -> None:
    """Say that something called IDENTIFIER is reached at this machine's PORT, for 24 hours.

    Say it again before they are over. The address is the one at which others see this machine.
    """
    wanted = {"identifier": identifier, "port": port}
    answer = ask(places.runtime, "dht-announce", wanted, timeout=DHT_SECONDS)
    click.echo(json.dumps(answer) if as_json else f"{answer['nodes']} nodes took it")


@dht.command()
@click.argument("identifier")
@click.option("--want", default=20, type=click.IntRange(1, 100), help="How many are enough. [20]")
@with_json
@click.pass_obj
def find(places: Places, identifier: str, *, want: int, as_json: bool) -> None:
    """Print HOST:PORT of each that announced IDENTIFIER."""
    wanted = {"identifier": identifier, "want": want}
    answer = ask(places.runtime, "dht-find", wanted, timeout=DHT_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        for address in answer["addresses"]:
            click.echo(address)
