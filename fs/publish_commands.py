"""libernet publish: what a person makes public."""

import json
import os
from pathlib import Path

import click

from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.control_client import PUBLISH_SECONDS, ask
from libernet.fs.places import Places
from libernet.fs.printable import printable

EX_INCOMPLETE = 3

_PUBLIC = "This is public: whoever has the address can read it. It cannot be taken back."


@click.command()
@click.argument("path", required=False)
@click.option("--index", metavar="FILE", help="The file in PATH that stands for all of it.")
@click.option(
    "--stream",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Publish FILE, from anywhere on this machine, as a stream of LBRYnet.",
)
@with_json
@click.pass_obj
def publish(
    places: Places, path: str | None, *, index: str | None, stream: Path | None, as_json: bool
) -> int:
    """Make a folder or file public for all and print the address under which it can be read.

    PATH stands in the mount; the original Libernet can restore it too. What its bundles cannot hold
    is left out and told, and the exit code is then 3. Whoever has the address can read all of it,
    and it cannot be taken back; and whoever has one of the files can tell that you have it.
    """
    if (path is None) == (stream is None) or (path is None and index is not None):
        raise click.UsageError("name either a PATH in the mount, or a file with --stream")
    if path is not None:
        wanted = {"path": inside_mount(places, path), "index": index}
        answer = ask(places.runtime, "publish-flat", wanted, timeout=PUBLISH_SECONDS)
    else:
        assert stream is not None
        wanted = {"path": os.path.abspath(stream)}
        answer = ask(places.runtime, "publish-stream", wanted, timeout=PUBLISH_SECONDS)
    left_out = answer.get("left_out", {})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(answer["reference"])
        click.echo(_PUBLIC, err=True)
        for name, reason in left_out.items():
            click.echo(f"left out: {printable(name)}: {reason}", err=True)
    return EX_INCOMPLETE if left_out else 0
