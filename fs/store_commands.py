"""libernet gc: looking after the store, as a command and as what the mount does for it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import click

from libernet.fs.collection import Collector
from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask
from libernet.fs.describe import count_text, size_text
from libernet.fs.places import Places

COLLECT_SECONDS = 3600.0

Answer = dict[str, Any]


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be given up.")
@with_json
@click.pass_obj
def gc(places: Places, *, dry_run: bool, as_json: bool) -> None:
    """Give up the blocks that no file, snapshot, share or publication needs any more."""
    answer = ask(places.runtime, "gc", {"dry_run": dry_run}, timeout=COLLECT_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))
        return
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {count_text(answer['blocks'], 'block')}, {size_text(answer['bytes'])}")


class StoreCommands:
    """Answer what the commands for the store ask of a running mount."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"gc": self._gc}

    async def _gc(self, arguments: Answer) -> Answer:
        dry_run = arguments.get("dry_run") is True
        collected = await self._collector.collect(dry_run=dry_run)
        return {
            "blocks": collected.blocks,
            "bytes": collected.bytes,
            "stray_files": collected.stray_files,
            "dry_run": dry_run,
        }
