"""What the running mount does for `libernet backup`."""

import os
import time
from functools import partial
from typing import Any

import trio

from libernet.blocks.errors import FormatError
from libernet.blocks.store import Store
from libernet.fs.arguments import labels
from libernet.fs.control import Tell
from libernet.fs.history import History
from libernet.fs.sources.backup import Request, SourceBackups
from libernet.fs.sources.mirror import Progress
from libernet.fs.sources.rules import Rules
from libernet.fs.watched import watched

Answer = dict[str, Any]


class BackupHandlers:
    """Answer the command that reads folders into a backup."""

    def __init__(self, backups: SourceBackups, history: History, store: Store) -> None:
        self._backups = backups
        self._history = history
        self._store = store

    async def backup(self, arguments: Answer, tell: Tell) -> Answer:
        """Read the sources and publish, with a note each half second."""
        request = _request(arguments)
        wanted = labels(arguments)
        progress = Progress()
        began = time.monotonic()
        before = await trio.to_thread.run_sync(self._store.totals)
        async with watched(arguments, tell, progress, partial(self._backups.count, request)):
            snapshot = await self._backups.run(request, progress)
            if snapshot is not None:
                snapshot = await self._history.add_labels(snapshot, wanted)
        after = await trio.to_thread.run_sync(self._store.totals)
        return {
            **_counts(progress),
            "data_added": after.bytes - before.bytes,
            "total_duration": time.monotonic() - began,
            "reference": None if snapshot is None else str(snapshot.reference),
            "snapshot": None if snapshot is None else snapshot.name,
            "dry_run": request.dry_run,
            "unmatched": progress.unmatched,
            "skipped": progress.skipped.texts(),
            "errors": progress.errors.texts(),
            "error_count": progress.errors.count,
        }


def _counts(progress: Progress) -> Answer:
    """Return what restic's summary has, under the names that it has there."""
    return {
        "files_new": progress.files_new,
        "files_changed": progress.files_changed,
        "files_unmodified": progress.files_unmodified,
        "folders": progress.folders,
        "others": progress.others,
        "removed": progress.removed,
        "left_out": progress.left_out,
        "total_files_processed": progress.files,
        "total_bytes_processed": progress.total_bytes,
        "bytes_read": progress.bytes_read,
    }


def _request(arguments: Answer) -> Request:
    sources, name = arguments.get("sources"), arguments.get("name")
    rules = arguments.get("rules", {})
    larger_than = rules.get("larger_than")
    patterns = rules.get("patterns", [])
    if not isinstance(name, str) or not isinstance(sources, list) or not sources:
        raise FormatError("this needs the sources and the name of a backup")
    texts = [*sources, *patterns] if isinstance(patterns, list) else [None]
    if not all(isinstance(each, str) and "\0" not in each for each in texts):
        raise FormatError("sources and patterns are texts")
    if not all(os.path.isabs(source) for source in sources):
        raise FormatError("sources are absolute paths")
    if not (larger_than is None or type(larger_than) is int):
        raise FormatError("a size is a number of bytes")
    return Request(
        [os.fsencode(source) for source in sources],
        os.fsencode(name),
        each_inside=arguments.get("each_inside") is True,
        rules=Rules(
            patterns=patterns,
            caches=rules.get("caches") is True,
            larger_than=larger_than,
            one_file_system=rules.get("one_file_system") is True,
        ),
        dry_run=arguments.get("dry_run") is True,
    )
