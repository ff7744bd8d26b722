"""libernet publish: what a person makes public, as a command and as what the mount does for it."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from libernet.blocks.errors import FormatError
from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask
from libernet.fs.places import Places
from libernet.fs.stream_publisher import StreamPublisher

PUBLISH_SECONDS = 3600.0

Answer = dict[str, Any]

_PUBLIC = "This is public: whoever has the address can read the file. It cannot be taken back."


@click.command()
@click.option(
    "--stream",
    "stream",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Publish FILE, from anywhere on this machine, as a stream of LBRYnet.",
)
@with_json
@click.pass_obj
def publish(places: Places, stream: Path, *, as_json: bool) -> None:
    """Make a file public for all and print the address under which it can be read.

    Each time under another one. Whoever has it can read the file, and it cannot be taken back.
    """
    path = os.path.abspath(stream)
    answer = ask(places.runtime, "publish-stream", {"path": path}, timeout=PUBLISH_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(answer["reference"])
        click.echo(_PUBLIC, err=True)


class PublishCommands:
    """Answer what `libernet publish` asks of a running mount."""

    def __init__(self, streams: StreamPublisher) -> None:
        self._streams = streams

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"publish-stream": self._publish_stream}

    async def _publish_stream(self, arguments: Answer) -> Answer:
        path = arguments.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            raise FormatError("this needs the absolute path of a file")
        return {"reference": str(await self._streams.publish(Path(path)))}
