"""libernet publish: what a person makes public, as a command and as what the mount does for it."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from libernet.blocks.errors import FormatError
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.control_client import ask
from libernet.fs.flat_publisher import FlatPublisher
from libernet.fs.mount_paths import MountPaths, told
from libernet.fs.places import Places
from libernet.fs.stream_publisher import StreamPublisher

PUBLISH_SECONDS = 3600.0

EX_INCOMPLETE = 3

Answer = dict[str, Any]

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
            click.echo(f"left out: {name}: {reason}", err=True)
    return EX_INCOMPLETE if left_out else 0


class PublishCommands:
    """Answer what `libernet publish` asks of a running mount."""

    def __init__(self, paths: MountPaths, flat: FlatPublisher, streams: StreamPublisher) -> None:
        self._paths = paths
        self._flat = flat
        self._streams = streams

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"publish-flat": self._publish_flat, "publish-stream": self._publish_stream}

    async def _publish_flat(self, arguments: Answer) -> Answer:
        path, index = arguments.get("path"), arguments.get("index")
        if not isinstance(path, str) or not path or not isinstance(index, str | None):
            raise FormatError("this needs the path of something in the mount")
        with told(path, "published"):
            name, node = await self._paths.lasting(path)
            published = await self._flat.publish(
                name,
                node,
                path=os.fsencode(path),
                index=None if index is None else os.fsencode(index),
            )
        left_out = {os.fsdecode(name): reason for name, reason in published.left_out.items()}
        return {"reference": str(published.reference), "left_out": left_out}

    async def _publish_stream(self, arguments: Answer) -> Answer:
        path = arguments.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            raise FormatError("this needs the absolute path of a file")
        return {"reference": str(await self._streams.publish(Path(path)))}
