"""A share opens what was shared, and whoever has it comes no nearer to what lies beside that."""

import hashlib
import http.client
import os
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import Sealer, unseal
from libernet.net.exchange.wire import BATCH_REQUEST_TYPE, BLOCKS_PATH, batch_request, block_path
from tests.support.swarm import PORT, Member
from tests.support.tree import assert_same, picture

_REFERENCE = re.compile(rb"/sha256/([0-9a-f]{64})/aes256gcm/([0-9a-f]{64})")
_SECRET = "what only the two of us know, " * 20
_ABSENT = b"\xff\xff\xff\xff"


@pytest.fixture
def letters(members: dict[str, Member]) -> Path:
    """A published backup of `a`, with a folder to share, a file to share, and one for nobody."""
    members["bootstrap"].join()
    for name in ("a", "b"):
        members[name].join(through=members["bootstrap"])
    folder = members["a"].node.backups / "letters"
    for name in ("for b", "private"):
        (folder / name / "inner").mkdir(parents=True)
    bits = random.Random(3)
    (folder / "for b" / "hello").write_text("hello")
    (folder / "for b" / "inner" / "large").write_bytes(bits.randbytes(3_000_000))
    (folder / "private" / "small").write_text(_SECRET)
    (folder / "private" / "inner" / "large").write_bytes(bits.randbytes(3_000_000))
    (folder / "loose").write_text("a file by itself")
    return folder


def test_a_shared_folder_opens_that_folder(members: dict[str, Member], letters: Path) -> None:
    a, b = members["a"], members["b"]
    reference = a.node.libernet("share", str(letters / "for b")).strip()
    a.until_announced()
    opened = Path(b.node.libernet("open", reference).strip())
    assert_same(picture(letters / "for b", top=False), picture(opened, top=False))
    assert opened == b.node.mountpoint / "bundles" / str(Reference.parse(reference).id)[:12]


def test_a_shared_file_opens_as_a_folder_with_that_file(
    members: dict[str, Member], letters: Path
) -> None:
    a, b = members["a"], members["b"]
    reference = a.node.libernet("share", str(letters / "loose")).strip()
    a.until_announced()
    opened = Path(b.node.libernet("open", reference, "from a").strip())
    assert os.listdir(opened) == ["loose"]
    assert (opened / "loose").read_text() == "a file by itself"


def test_a_share_leads_to_nothing_beside_it(members: dict[str, Member], letters: Path) -> None:
    a, b = members["a"], members["b"]
    everything = Reference.parse(a.node.snapshot("letters"))
    shared = Reference.parse(a.node.libernet("share", str(letters / "for b")).strip())
    get = partial(_get_block, b, a)

    known, all_there_is = _reachable(shared, get), _reachable(everything, get)
    beside = all_there_is.keys() - known.keys()
    secrets = b"".join(all_there_is[each] for each in beside)
    assert b"private" in secrets
    assert _SECRET.encode() in secrets

    plaintexts = b"".join(known.values())
    assert b"private" not in plaintexts
    assert _SECRET.encode() not in plaintexts
    for reference in beside:
        for part in (reference.id, reference.key):
            assert part not in plaintexts
            assert part.hex().encode() not in plaintexts


def test_no_request_with_a_share_yields_what_lies_beside_it(
    members: dict[str, Member], letters: Path
) -> None:
    a, b = members["a"], members["b"]
    a.node.snapshot("letters")
    shared = Reference.parse(a.node.libernet("share", str(letters / "for b")).strip())
    guessed = _guesses(b, shared, (letters / "private" / "small").read_bytes())
    key_path = str(shared)
    paths = [
        *(block_path(each) for each in guessed),
        *("/", "/sha256", BLOCKS_PATH, "/backups/letters/private/small", "/robots.txt"),
        *(f"{key_path}{below}" for below in ("", "/", "/hello", "/../private/small")),
        *(f"{block_path(shared.id)}{below}" for below in ("/", "/..", "?parent", "%2f..")),
        *(f"/sha256/like/{shared.id}", f"/sha256/{str(shared.id)[:-1]}", "//sha256//", "/*"),
    ]
    answers = {path: b.host.inside(partial(_ask, a, "GET", path)) for path in paths}
    # A query means nothing: this is the share's own block.
    own = answers.pop(f"{block_path(shared.id)}?parent")
    assert own == b.host.inside(partial(_ask, a, "GET", block_path(shared.id)))
    assert {path: status for path, (status, _) in answers.items() if status < 400} == {}
    assert not any(b"private" in body for _, body in answers.values())

    batch = partial(_ask, a, "POST", BLOCKS_PATH, batch_request(guessed))
    assert b.host.inside(batch) == (200, _ABSENT * len(guessed))


def test_the_mount_shows_nothing_around_a_share(members: dict[str, Member], letters: Path) -> None:
    a, b = members["a"], members["b"]
    reference = a.node.libernet("share", str(letters / "for b")).strip()
    opened = b.node.at(reference)
    assert sorted(os.listdir(opened)) == ["hello", "inner"]
    for folder in (*opened.parents[:3], opened / "private", opened / "for b"):
        assert not folder.exists() or os.listdir(folder) == []


def _guesses(member: Member, shared: Reference, content: bytes) -> list[BlockId]:
    """Return ids that *member* can make from a share and the right idea of a file's content."""
    own, block = Sealer((member.node.state / "secret").read_bytes()).seal(content)
    return [
        BlockId(hashlib.sha256(content).digest()),
        own.id,
        BlockId(own.key),
        BlockId(hashlib.sha256(block[1:]).digest()),
        BlockId(shared.key),
        BlockId(hashlib.sha256(shared.id).digest()),
        BlockId(hashlib.sha256(shared.key).digest()),
    ]


def _reachable(start: Reference, get: Callable[[BlockId], bytes]) -> dict[Reference, bytes]:
    """Return all that *start* leads to, with the plaintexts."""
    found: dict[Reference, bytes] = {}
    waiting = [start]
    while waiting:
        reference = waiting.pop()
        if reference in found:
            continue
        plaintext = found[reference] = bytes(unseal(reference, get(reference.id)))
        for block_id, key in _REFERENCE.findall(plaintext):
            parsed = BlockId.parse(block_id.decode())
            waiting.append(Reference(parsed, Suite.AES256GCM, bytes.fromhex(key.decode())))
    return found


def _get_block(asking: Member, asked: Member, block_id: BlockId) -> bytes:
    status, block = asking.host.inside(partial(_ask, asked, "GET", block_path(block_id)))
    assert status == 200
    return block


def _ask(asked: Member, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Ask a peer port; return the status and the body of the answer."""
    connection = http.client.HTTPConnection(asked.host.address, PORT, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": BATCH_REQUEST_TYPE})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
