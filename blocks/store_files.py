"""The files of the store's larger blocks.

Folders:

    blocks/xx/ID   one block each; xx is the first byte of its id. What has such a name was complete
                   and on the disk before it got it (rename without fsync lost 36 % of the
                   acknowledged blocks in a power cut)
    cached/ID      one cached block each, which may be torn or gone after a power cut. Apart from
                   blocks/, so that eviction cannot touch one's own whatever goes wrong; in one
                   folder, since there are no more than some 100,000
    incoming/      files being written. Left-overs of a crash are removed at the next start
    corrupt/ID     one's own blocks that turned out damaged, kept for whoever wants to find out why
"""

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import Buffer

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import FormatError
from libernet.blocks.ids import StoredId, parse_stored_id

FAN_OUT = 256
"""Folders under blocks/. Syncing one costs 0.1 ms, 5 % of the time that 16 blocks
of 1 MiB take."""

_SYNCED_AT_ONCE = 4
"""Folders synced at the same time, each by a thread: the disk is flushed once for several. All of
them one by one took 360 to 750 ms on a busy disk, and 63 so."""

_log = logging.getLogger(__name__)


class BlockFiles:
    """One file per block under *folder*.

    State: the folder; nothing in memory but a counter for temporary names. Every method may be
    called from any thread. `name`, `set_aside` and `remove_cached` of one id must not overlap: the
    caller's lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blocks = os.fspath(folder / "blocks")
        self._cached = os.fspath(folder / "cached")
        self._incoming = os.fspath(folder / "incoming")
        self._corrupt = os.fspath(folder / "corrupt")
        self._serial = itertools.count()

    def prepare(self) -> None:
        """Make what folders are missing, durably, and remove left-over temporary files."""
        for folder in (self._blocks, self._cached, self._incoming, self._corrupt):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        sync_folder(self.folder)
        if len(os.listdir(self._blocks)) < FAN_OUT:
            for first_byte in range(FAN_OUT):
                os.makedirs(self._fan_out_folder(first_byte), mode=0o700, exist_ok=True)
        sync_folder(self._blocks)  # also if all were there: their maker may have died before this
        for name in os.listdir(self._incoming):
            os.unlink(os.path.join(self._incoming, name))

    def write(self, block_id: StoredId, block: Buffer, *, durable: bool = True) -> str:
        """Write *block* to a temporary file and return its path.

        If *durable*, its bytes are on the disk by then. Leaves nothing behind when that fails.
        """
        temporary = f"{self._incoming}/{block_id}.{next(self._serial)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(descriptor, block)
            if durable:
                os.fsync(descriptor)
                # Nobody needs it in memory now: whoever wrote it has it in clear. Where it stays,
                # each block takes fresh pages (256 MiB: 0.29 s of processor time, else 0.11).
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary

    def name(self, temporary: str, block_id: StoredId, *, cached: bool = False) -> None:
        """Give what `write` wrote its final name, over a file that has it; else remove it.

        The name is durable after `sync_names`, unless *cached*.
        """
        try:
            os.rename(temporary, self.path(block_id, cached=cached))
        except OSError:
            os.unlink(temporary)
            raise

    def sync_names(self, block_ids: Iterable[StoredId]) -> None:
        """Return when the names of these blocks of one's own are on the disk."""
        folders = [
            self._fan_out_folder(first_byte)
            for first_byte in {block_id[0] for block_id in block_ids}
        ]
        if len(folders) <= _SYNCED_AT_ONCE:
            for folder in folders:
                sync_folder(folder)
        else:
            with ThreadPoolExecutor(_SYNCED_AT_ONCE) as threads:
                list(threads.map(sync_folder, folders))  # which raises what one of them raised

    def holds(self, block_id: StoredId, size_bytes: int, *, cached: bool = False) -> bool:
        """Say whether the block has a file of that size, without looking at its content."""
        try:
            return os.stat(self.path(block_id, cached=cached)).st_size == size_bytes
        except FileNotFoundError:
            return False

    def has(self, block_id: StoredId, block: bytes) -> bool:
        """Say whether the block's file holds it, sound: reading it costs less than losing it."""
        try:
            return self.read(block_id, len(block) + 1) == block
        except FileNotFoundError:
            return False

    def read(self, block_id: StoredId, size_bytes: int, *, cached: bool = False) -> bytes:
        """Return up to *size_bytes* of the block's file, unchecked; none if the disk cannot.

        Raises FileNotFoundError when there is no such file.
        """
        descriptor = os.open(self.path(block_id, cached=cached), os.O_RDONLY)
        try:
            return os.read(descriptor, size_bytes)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return b""  # a bad sector: the block is as lost as one with wrong bytes
        finally:
            os.close(descriptor)

    def set_aside(self, block_id: StoredId) -> None:
        """Move the block's file to the damaged ones, or remove it if that cannot be."""
        try:
            os.replace(self.path(block_id), f"{self._corrupt}/{block_id}")
        except OSError as exc:
            _log.warning("the damaged block %s could not be kept aside: %s", block_id, exc)
            os.unlink(self.path(block_id))

    def set_aside_bytes(self, block_id: StoredId, content: bytes) -> None:
        """Keep *content*, which was the block's, among the damaged ones if there is room."""
        try:
            Path(self._corrupt, str(block_id)).write_bytes(content)
        except OSError as exc:
            _log.warning("the damaged block %s could not be kept aside: %s", block_id, exc)

    def was_set_aside(self, block_id: StoredId) -> bool:
        """Say whether the block, one's own, was once found damaged."""
        return os.path.exists(f"{self._corrupt}/{block_id}")

    def remove_cached(self, block_id: StoredId) -> None:
        """Remove the file of a cached block, if it has one."""
        try:
            os.unlink(self.path(block_id, cached=True))
        except FileNotFoundError:
            return
        except OSError as exc:
            _log.warning("the cached block %s could not be removed: %s", block_id, exc)

    def remove_cached_unless(self, is_known: Callable[[StoredId], bool]) -> None:
        """Remove the files of cached blocks that nobody knows (0.1 s per 20,000 files)."""
        for name in os.listdir(self._cached):
            try:
                block_id = parse_stored_id(name)
            except FormatError:
                _log.warning("%s is none of the store's files", Path(self._cached, name))
                continue
            if not is_known(block_id):
                self.remove_cached(block_id)

    def named_in(self, first_byte: int) -> list[StoredId]:
        """Return the ids of the blocks that have a file in one of the fan-out folders.

        What has no id for its name is none of the store's, and left alone.
        """
        found: list[StoredId] = []
        for name in os.listdir(self._fan_out_folder(first_byte)):
            with contextlib.suppress(FormatError):
                found.append(parse_stored_id(name))
        return found

    def remove(self, block_id: StoredId) -> None:
        """Remove the file of a block that nothing needs any more, if it has one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(block_id))

    def path(self, block_id: StoredId, *, cached: bool = False) -> str:
        """Return where the file of that block is or would be."""
        folder = self._cached if cached else self._fan_out_folder(block_id[0])
        return f"{folder}/{block_id}"

    def _fan_out_folder(self, first_byte: int) -> str:
        return f"{self._blocks}/{first_byte:02x}"


def _write_all(descriptor: int, block: Buffer) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
