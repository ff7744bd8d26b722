"""Streams of LBRYnet in a real mount, published and read as a person does."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from libernet.blocks.blobs import MAX_PIECE_BYTES
from libernet.blocks.streams import StreamAddress
from tests.support.node import Node

_CONTENT = os.urandom(3 * MAX_PIECE_BYTES + 12_345)


@pytest.fixture
def published(node: Node, tmp_path: Path) -> Path:
    """A file that was published, where the mount shows it."""
    file = tmp_path / "a film?.mkv"
    file.write_bytes(_CONTENT)
    node.mount()
    outcome = node.try_libernet("publish", "--stream", str(file))
    assert outcome.exit_code == 0, outcome
    assert outcome.err.startswith("This is public:")
    address = StreamAddress.parse(outcome.out.strip())
    assert address.file_name == b"a film.mkv"
    return node.mountpoint / "sha384" / str(address.sd_hash) / "a film.mkv"


def test_a_published_stream_is_a_file_in_the_mount_after_a_restart_too(
    node: Node, published: Path
) -> None:
    for _ in range(2):
        assert os.listdir(published.parent) == [published.name]
        assert published.stat().st_size == len(_CONTENT)
        assert published.read_bytes() == _CONTENT
        node.libernet("unmount")
        node.mount()
    assert os.listdir(node.mountpoint / "sha384") == []


def test_a_stream_whose_address_was_printed_survives_the_end_of_the_process(
    node: Node, published: Path
) -> None:
    node.kill()
    node.mount()
    assert published.read_bytes() == _CONTENT


def test_a_stream_is_read_in_any_order(published: Path) -> None:
    with published.open("rb", buffering=0) as file:
        for offset in (len(_CONTENT) - 10, MAX_PIECE_BYTES - 5, 0, 2 * MAX_PIECE_BYTES - 1):
            file.seek(offset)
            assert file.read(100) == _CONTENT[offset : offset + 100]
        file.seek(len(_CONTENT))
        assert file.read(1) == b""


def test_a_file_of_a_backup_can_be_published(node: Node) -> None:
    node.mount()
    (node.backups / "b").mkdir()
    (node.backups / "b" / "file").write_bytes(_CONTENT)
    answer = json.loads(
        node.libernet("publish", "--stream", str(node.backups / "b" / "file"), "--json")
    )
    published = Path(f"{node.mountpoint}{answer['reference']}")
    with published.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(_CONTENT).digest()


@pytest.mark.announces("lookup failed", "readdir failed")
def test_a_stream_that_is_not_here_says_so_when_it_is_looked_into(node: Node) -> None:
    node.mount()
    folder = node.mountpoint / "sha384" / ("ab" * 48)
    assert folder.is_dir()
    with pytest.raises(OSError, match="Input/output error") as caught:
        os.listdir(folder)
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        (folder / "file").stat()


@pytest.mark.announces("read failed", "is damaged")
def test_a_damaged_blob_is_an_error_of_reading(node: Node, published: Path) -> None:
    node.libernet("unmount")
    blob = next((node.state / "store" / "blocks").glob("*/*"))
    blob.write_bytes(bytes(blob.stat().st_size))
    node.broken |= {"store-damaged", "block-missing"}
    node.mount()
    with pytest.raises(OSError, match="Input/output error"):
        published.read_bytes()


def test_what_cannot_be_published_is_told(node: Node, tmp_path: Path) -> None:
    node.mount()
    outcome = node.try_libernet("publish", "--stream", str(tmp_path / "nothing"))
    assert (outcome.exit_code, outcome.out) == (2, "")
    assert "does not exist" in outcome.err
    outcome = node.try_libernet("publish")
    assert outcome.exit_code == 2
    os.mkfifo(tmp_path / "fifo")
    outcome = node.try_libernet("publish", "--stream", str(tmp_path / "fifo"))
    assert (outcome.exit_code, outcome.out) == (1, "")
    assert "no regular file" in outcome.err
