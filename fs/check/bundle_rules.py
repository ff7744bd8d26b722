"""Snapshots, shares, publications and opened bundles: does each lead somewhere, and is it here?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from libernet.blocks.addresses import parse_opening
from libernet.blocks.descriptors import blob_ids, parse_descriptor
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store import Store
from libernet.blocks.streams import StreamAddress
from libernet.fs.check.content_rules import not_own
from libernet.fs.check.findings import Finding, Severity
from libernet.fs.check.paths import Paths, Rows
from libernet.fs.journal_reader import KEPT_DOCUMENTS
from libernet.fs.publications import Kind

_ROWS = f"""
SELECT 'snapshot', number, backup_name, name, reference FROM snapshot
UNION ALL SELECT 'share', reference, path, NULL, reference FROM share
UNION ALL SELECT kind, reference, path, NULL, reference FROM publication
UNION ALL SELECT 'opened', name, name, NULL, reference FROM opened
UNION ALL SELECT 'folder_document', ino, ino, NULL, reference {KEPT_DOCUMENTS}
"""
# Snapshots first: what is missing is told of the first that needs it.


@dataclass(frozen=True, slots=True)
class Root:
    """What opens a bundle or a stream, and what a person calls it.

    *table* has it in the row with *key*; of a publication it is the kind.
    """

    table: str
    key: Any
    where: str
    reference: object

    @property
    def is_kept(self) -> bool:
        """Say whether all that it needs must be here."""
        return self.table != "opened"

    def parsed(self) -> Reference | StreamAddress:
        """Return the reference as a value, or raise FormatError."""
        if not isinstance(self.reference, str):
            raise FormatError(f"{self.reference!r} is no text")
        if self.table == Kind.STREAM:
            return StreamAddress.parse(self.reference)
        if self.table == "opened":
            return parse_opening(self.reference)
        return Reference.parse(self.reference)


def roots(rows: Rows, paths: Paths) -> list[Root]:
    """Return everything that the journal has a reference to."""
    return [
        Root(table, key, _where(table, subject, name, paths), reference)
        for table, key, subject, name, reference in rows(_ROWS)
    ]


def _where(table: str, subject: object, name: object, paths: Paths) -> str:
    text = subject.decode(errors="surrogateescape") if isinstance(subject, bytes) else str(subject)
    match table:
        case "folder_document":
            return f"documents of {paths.of(subject)}"
        case "snapshot":
            return f"snapshots/{text}/{name}"
        case "opened":
            return f"bundles/{text}"
        case "share":
            return f"share of {text}"
    return f"publication of {text}"


class BundleWalk:
    """Walk through everything that was published, and tell what is not here.

    State: findings about the root being walked; _unread, documents that could not be read, which
    each root that needs them is told of.
    """

    def __init__(self, store: Store, enter: Callable[[BlockId], bool]) -> None:
        self._store = store
        self._enter = enter
        self._unread: dict[BlockId, LibernetError] = {}
        self._findings: list[Finding] = []
        self._needs = Needs(self._read, self._is_new, unreadable=self._note_unreadable)

    def of(self, root: Root) -> Iterator[Finding]:
        """Yield what is wrong with one root and all that it needs."""
        try:
            reference = root.parsed()
        except FormatError as exc:
            yield Finding("reference", Severity.DAMAGE, root.where, str(exc))
            return
        if not root.is_kept:
            return
        self._findings = []
        try:
            for block_id in self._ids(reference):
                self._look(block_id)
        except LibernetError as exc:
            sentence = f"what it consists of cannot be found out: {exc}"
            self._findings.append(Finding("document", Severity.LOSS, "", sentence))
        for found in self._findings:
            yield replace(found, where=root.where)

    def _ids(self, reference: Reference | StreamAddress) -> Iterator[StoredId]:
        if isinstance(reference, StreamAddress):
            yield from blob_ids(parse_descriptor(self._store.get(reference.sd_hash)))
        else:
            yield from self._needs.of(reference.block)

    def _look(self, block_id: StoredId) -> None:
        if not self._store.is_own(block_id):
            self._findings.append(not_own(self._store, block_id, "", "a part of it"))

    def _is_new(self, block_id: BlockId) -> bool:
        return block_id in self._unread or self._enter(block_id)

    def _read(self, reference: Reference) -> bytes:
        if reference.id in self._unread:
            raise self._unread[reference.id]
        text = unseal(reference, self._store.get(reference.id))
        self._look(reference.id)
        return text

    def _note_unreadable(self, reference: Reference | None, error: LibernetError) -> None:
        if reference is not None:
            self._unread[reference.id] = error
        sentence = f"a folder in it cannot be opened: {error}"
        self._findings.append(Finding("document", Severity.LOSS, "", sentence))
