"""What the mount does for the commands that look after the store."""

from collections.abc import Awaitable, Callable
from typing import Any

from libernet.blocks.store_collection import Collected
from libernet.fs.collection import Collector

Answer = dict[str, Any]


class StoreCommands:
    """Answer what the commands for the store ask of a running mount."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"gc": self._gc}

    async def _gc(self, arguments: Answer) -> Answer:
        dry_run = arguments.get("dry_run") is True
        return as_answer(await self._collector.collect(dry_run=dry_run), dry_run=dry_run)


def as_answer(collected: Collected, *, dry_run: bool) -> Answer:
    """Return what was given up as JSON."""
    return {
        "blocks": collected.blocks,
        "bytes": collected.bytes,
        "stray_files": collected.stray_files,
        "dry_run": dry_run,
    }
