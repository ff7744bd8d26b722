"""Publishing a file as a stream of LBRYnet, which everybody can read who knows its hash."""

import os
import stat
from pathlib import Path

import trio
from typing_extensions import Buffer

from libernet.blocks.descriptors import MAX_STREAM_BYTES, blob_ids, parse_descriptor
from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlobId
from libernet.blocks.store import Store
from libernet.blocks.streams import StreamAddress, write_stream
from libernet.fs.publications import Kind, Publications


class StreamPublisher:
    """Publish files as streams, one at a time.

    State: `_busy`, held for a whole publication, from the first blob to the journal's commit. Who
    collects waits for it once, after a collection began and before it looks into the journal.
    """

    def __init__(self, store: Store, publications: Publications) -> None:
        self._store = store
        self._publications = publications
        self._busy = trio.Lock()

    async def settled(self) -> None:
        """Return when who was publishing has told the journal, or given up."""
        async with self._busy:
            pass

    async def publish(self, path: Path) -> StreamAddress:
        """Return the address of a new stream that holds the file at *path*, once it is durable.

        The file is read as it is meanwhile. Raises LibernetError for what is no file or too long,
        OSError when it cannot be read, StoreFull. What was stored until then is collected later.
        """
        async with self._busy:
            address = await trio.to_thread.run_sync(self._write, path)
            await self._publications.record(str(address), os.fsencode(path), Kind.STREAM)
        return address

    def _write(self, path: Path) -> StreamAddress:
        # not to wait for whoever would write into a fifo
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise LibernetError(f"{path} is no regular file: only these become streams")
            if status.st_size > MAX_STREAM_BYTES:
                raise LibernetError(
                    f"{path} has {status.st_size} bytes: a stream holds at most {MAX_STREAM_BYTES}"
                )
            sd_hash = write_stream(file, path.name, self._put)
        self._store.flush()
        descriptor = parse_descriptor(self._store.get(sd_hash))
        return StreamAddress(sd_hash, descriptor.file_name)

    def _put(self, blob_id: BlobId, blob: Buffer) -> None:
        trio.from_thread.check_cancelled()  # the mount ends
        self._store.put(blob_id, blob)


def needed_blobs(reference: str, store: Store) -> list[BlobId]:
    """Return all blobs that a published stream needs, its descriptor first, for a collection.

    Raises a LibernetError when the descriptor cannot be read: then nobody knows what it needs.
    """
    return blob_ids(parse_descriptor(store.get(StreamAddress.parse(reference).sd_hash)))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
