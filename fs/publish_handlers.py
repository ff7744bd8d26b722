"""What the mount does for `libernet publish`."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from libernet.blocks.errors import FormatError
from libernet.fs.flat_publisher import FlatPublisher
from libernet.fs.mount_paths import MountPaths, told
from libernet.fs.stream_publisher import StreamPublisher

Answer = dict[str, Any]


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
            async with self._paths.lasting(path) as (name, node):
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
