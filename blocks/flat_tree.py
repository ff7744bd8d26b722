"""One tree of the original's bundle and its sub-bundles, which grows as these arrive."""

from typing import Final

from libernet.blocks.documents import Document, FolderEntry
from libernet.blocks.errors import FormatError
from libernet.blocks.flat_bundles import MAX_ENTRIES, FlatBundle
from libernet.blocks.reference import Reference

MAX_SUB_BUNDLES: Final = 1024
"""Most sub-bundles of one bundle: 1 GiB of JSON, four terabytes in parts of 1 MiB."""

MAX_BUNDLE_LEVELS: Final = 8
"""Most levels of sub-bundles inside each other. The original needs one."""


class FlatTree:
    """The files of a bundle, as far as its documents are known.

    As the original does, it takes nothing but files from sub-bundles, and follows their own
    sub-bundles in the dialect of python_rewrite only. A sub-bundle that is malformed, or does not
    go with what is there, adds nothing at all.

    State
      document   the top folder; it and what is in it grow in place
      entries    how many files, links and folders are in it, at most MAX_ENTRIES
      refused    why sub-bundles were refused, by reference
      _pending   sub-bundles that were not added yet, each with those that it stands in
      _known     all that were ever pending
      _nests     whether sub-bundles may have their own
    """

    def __init__(self, reference: Reference, top: FlatBundle) -> None:
        """Begin with the *top* bundle, which *reference* opens, and take over its document."""
        self.document = top.document
        self.entries = top.entries
        self.refused: dict[Reference, FormatError] = {}
        self._nests = top.is_rewrite
        self._known = {reference}
        self._pending: dict[Reference, tuple[Reference, ...]] = {}
        self._expect(top.bundles, (reference,))

    @property
    def pending(self) -> list[Reference]:
        """The sub-bundles that are known and neither added nor refused yet."""
        return list(self._pending)

    def add(self, reference: Reference, bundle: FlatBundle) -> list[Reference]:
        """Add what a pending sub-bundle lists; return the sub-bundles that are pending by it.

        Raises FormatError where it is refused. What is pending no more is left alone. The caller
        gives the bundle's document away.
        """
        above = self._pending.get(reference)
        if above is None:
            return []
        expected: list[Reference] = []
        try:
            if self.entries + bundle.entries > MAX_ENTRIES:
                raise FormatError(f"a bundle has more than {MAX_ENTRIES} files and folders")
            _check_agreement(self.document, bundle.document)
            if self._nests or bundle.is_rewrite:
                expected = self._expect(bundle.bundles, (*above, reference))
        except FormatError as exc:
            self.refuse(reference, exc)
            raise
        del self._pending[reference]
        self.entries += bundle.entries - _merge(self.document, bundle.document)
        return expected

    def refuse(self, reference: Reference, error: FormatError) -> None:
        """Note that a pending sub-bundle is malformed: it will not be asked for again."""
        if self._pending.pop(reference, None) is not None:
            self.refused[reference] = error

    def _expect(
        self, bundles: tuple[Reference, ...], above: tuple[Reference, ...]
    ) -> list[Reference]:
        """Note the sub-bundles of a bundle and return those that were not known before.

        *above* are the bundles that it stands in, and itself.
        """
        if not set(above).isdisjoint(bundles):
            raise FormatError("a bundle is its own sub-bundle")
        new = dict.fromkeys(each for each in bundles if each not in self._known)
        if new and len(above) > MAX_BUNDLE_LEVELS:
            raise FormatError(f"sub-bundles are nested on more than {MAX_BUNDLE_LEVELS} levels")
        if len(self._known) + len(new) > MAX_SUB_BUNDLES + 1:
            raise FormatError(f"a bundle has more than {MAX_SUB_BUNDLES} sub-bundles")
        self._known.update(new)
        self._pending.update(dict.fromkeys(new, above))
        return list(new)


def _check_agreement(ours: Document, theirs: Document) -> None:
    """Raise FormatError where two trees have different things of one path. Folders do not differ.

    Not recursive: paths may have 2,000 folders.
    """
    pairs = [(ours, theirs)]
    while pairs:
        mine, other = pairs.pop()
        for name, file in other.files.items():
            found = mine.find(name)
            if found is not None and found != file:
                raise FormatError(f"two sub-bundles have different entries named {name[:80]!r}")
        for name, folder in other.folders.items():
            if name in mine.files:
                raise FormatError(f"two sub-bundles have a file and a folder named {name[:80]!r}")
            if name in mine.folders:
                pairs.append((_inlined(mine.folders[name]), _inlined(folder)))


def _merge(ours: Document, theirs: Document) -> int:
    """Move what *theirs* has into *ours*, and return how many entries both had."""
    in_both = 0
    pairs = [(ours, theirs)]
    while pairs:
        mine, other = pairs.pop()
        assert isinstance(mine.files, dict)
        assert isinstance(mine.folders, dict)
        in_both += sum(name in mine.files for name in other.files)
        mine.files.update(other.files)
        for name, folder in other.folders.items():
            known = mine.folders.setdefault(name, folder)
            if known is not folder:
                in_both += 1
                pairs.append((_inlined(known), _inlined(folder)))
    return in_both


def _inlined(folder: FolderEntry) -> Document:
    assert folder.document is not None, "all folders of a bundle are inlined"
    return folder.document
