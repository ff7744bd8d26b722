"""The walk to everything that a bundle needs."""

import pytest

from libernet.blocks.ids import BlockId
from libernet.blocks.needs import Needs
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from tests.support.documents import EMPTY, Documents, folder_entry


class _Walk:
    """State: how many documents were opened so far; ids that were met."""

    def __init__(self, documents: Documents) -> None:
        self.opened = 0
        self._documents = documents
        self._met: set[BlockId] = set()
        self.needs = Needs(self._read, self._enter)

    def _read(self, reference: Reference) -> bytes:
        self.opened += 1
        return unseal(reference, self._documents.blocks[reference.id])

    def _enter(self, block_id: BlockId) -> bool:
        is_new = block_id not in self._met
        self._met.add(block_id)
        return is_new


@pytest.mark.parametrize("as_pages", [False, True])
def test_documents_are_opened_one_after_the_other(*, as_pages: bool) -> None:
    documents = Documents()
    chunks = [documents.put(b"content %d" % number) for number in range(50)]
    below = {}
    for number, chunk in enumerate(chunks):
        name = f"{number:02}"
        file = documents.file(b"content %d" % number)
        page = {"version": 1, "files": {name: file}}
        below[name] = documents.folder(page if as_pages else EMPTY | page)
        assert chunk.id in documents.blocks
    pages = [{"first": name, "url": str(reference)} for name, reference in below.items()]
    folders = {name: folder_entry(reference) for name, reference in below.items()}
    top = documents.folder(EMPTY | ({"pages": pages} if as_pages else {"directories": folders}))
    walk = _Walk(documents)
    found = []
    for block_id in walk.needs.of(top):
        found.append(block_id)
        assert walk.opened == 1 + len(found)
    assert {*found} == {chunk.id for chunk in chunks}
