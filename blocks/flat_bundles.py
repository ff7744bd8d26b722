"""Bundles of the original Libernet, in both of its dialects, parsed and checked.

A bundle lists all files below a folder by their paths, in one JSON document; what does not fit in
it stands in sub-bundles. The branch main writes `contents`, the branch python_rewrite `parts`; what
each key means stands in README.md. Names that are not UTF-8 have lone surrogates, which msgspec
refuses: the JSON is read with the standard library, and its shape checked with msgspec.
"""

import json
import math
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from libernet.blocks.documents import Document, FolderEntry, parse_document
from libernet.blocks.entries import (
    Attributes,
    FileEntry,
    PartKeys,
    UnixKeys,
    block_reference,
    link_keys,
)
from libernet.blocks.entry_checks import MAX_LINK_BYTES
from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.blocks.flat_entries import FlatEntry, name_bytes, pack
from libernet.blocks.json_objects import single_valued
from libernet.blocks.names import check_name
from libernet.blocks.reference import Reference

MAX_BUNDLE_BYTES: Final = 1024 * 1024
"""Largest JSON of one bundle, python_rewrite's limit; main's is 16 bytes less."""

MAX_PATH_CHARACTERS: Final = 4095
"""Longest path in a bundle: Linux's PATH_MAX, less its NUL. The original knows no longer ones."""

MAX_ENTRIES: Final = 400_000
"""Most files, links and folders of one bundle, those of its sub-bundles and the folders that only
paths name among them. Each takes about 550 bytes of memory."""

_EPOCH_SECONDS = 978_307_200.0  # 2001-01-01T00:00:00Z
_MAX_NS = 2**63 - 1
_MAX_XATTR_NAME_BYTES = 255  # XATTR_NAME_MAX

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Owner = tuple[int, int]
"""User and group that files are shown as belonging to: bundles name none."""


@dataclass(frozen=True, slots=True)
class FlatBundle:
    """Say what one document of a bundle says.

    *document* has its files, links and folders as a tree in which all folders are inlined, and
    *entries* is their number. *bundles* are its sub-bundles. *index* names the file in the top
    folder that stands for the bundle, *previous* the bundle that was made before this one (main's
    `prior`). *is_rewrite* tells python_rewrite's dialect, whose sub-bundles may have their own.
    """

    document: Document
    entries: int
    bundles: tuple[Reference, ...]
    index: bytes | None
    previous: Reference | None
    is_rewrite: bool


class _FileKeys(msgspec.Struct, gc=False, kw_only=True):
    contents: list[PartKeys] | None = None
    executable: bool | None = None
    link: str | None = None
    modified: float
    parts: list[PartKeys] | None = None
    readonly: bool | None = None
    rsrc: list[PartKeys] | None = None
    size: _Size
    xattr: dict[str, str] | None = None


class _LinkKeys(msgspec.Struct, gc=False):
    link: str | None = None


class _BundleKeys(msgspec.Struct, kw_only=True):
    bundles: list[str] | None = None
    directories: dict[str, str | _LinkKeys | None] | None = None
    files: dict[str, _FileKeys]
    index: str | None = None
    previous: str | None = None
    prior: Any = None  # main's backup tool has an url there, but any caller may set any key
    timestamp: float | None = None


_KEYS = frozenset(_BundleKeys.__struct_fields__)


def parse_bundle(plaintext: bytes, owner: Owner) -> Document | FlatBundle:
    """Return what a reference to a folder opens: a document of ours or a bundle of the original's.

    Raises FormatError where it is neither, UnknownVersion where a newer program wrote it.
    """
    try:
        return parse_document(plaintext)
    except UnknownVersion:
        raise
    except FormatError:
        if b'"files"' not in plaintext:
            raise
        keys = _decode(plaintext)
        if not isinstance(keys, dict) or "files" not in keys or type(keys.get("version")) is int:
            raise
        return _Reader(keys, owner, None).bundle()


def parse_flat_bundle(plaintext: bytes, owner: Owner) -> FlatBundle:
    """Return the bundle that a reference opens, or raise FormatError.

    Its folders have the time of the bundle, or else of its newest file: the original stores none.
    """
    return _Reader(_decode(plaintext), owner, None).bundle()


def parse_sub_bundle(plaintext: bytes, owner: Owner, folder: Attributes) -> FlatBundle:
    """Return a sub-bundle, whose folders look like *folder*, or raise FormatError.

    As the original does, this takes files from it and no `directories`.
    """
    return _Reader(_decode(plaintext), owner, folder).bundle()


def _decode(plaintext: bytes) -> Any:
    if len(plaintext) > MAX_BUNDLE_BYTES:
        raise FormatError(f"a bundle of {len(plaintext)} bytes is over {MAX_BUNDLE_BYTES}")
    try:
        return json.loads(
            plaintext.decode(), object_pairs_hook=single_valued, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as exc:
        raise FormatError(f"a bundle is not UTF-8: {exc}") from exc
    except ValueError as exc:  # also for a number of thousands of digits
        raise FormatError(f"a bundle is not JSON: {exc}") from exc
    except RecursionError:
        raise FormatError("a bundle is nested too deep") from None


def _refuse_constant(text: str) -> float:
    raise FormatError(f"a bundle has the number {text}")


class _Reader:
    """Make a bundle of its JSON.

    State: _top, the folder that all stands in; _entries, how many entries were made; _latest, the
    path of a folder and that folder: most paths go on where the last one did, as keys are sorted.
    """

    def __init__(self, decoded: Any, owner: Owner, folder: Attributes | None) -> None:
        """Begin with the JSON of a sub-bundle whose folders look like *folder*, or (None) a top."""
        if isinstance(decoded, dict):  # keys of callers may be anything, also no UTF-8
            decoded = {key: value for key, value in decoded.items() if key in _KEYS}
        try:
            self._keys = msgspec.convert(decoded, _BundleKeys)
        except (msgspec.ValidationError, UnicodeEncodeError) as exc:
            raise FormatError(f"malformed bundle: {exc}") from exc
        except RecursionError:
            raise FormatError("a bundle is nested too deep") from None
        self._owner = owner
        self._is_top = folder is None
        self._attributes = folder or self._folder_attributes()
        self._entries = 0
        self._top = Document({}, {}, (), self._attributes)
        self._latest: tuple[str | None, Document] = (None, self._top)

    def bundle(self) -> FlatBundle:
        keys = self._keys
        for text, file in keys.files.items():
            self._add(text, self._file(text, file))
        if self._is_top:
            self._add_directories()
        return FlatBundle(
            document=self._top,
            entries=self._entries,
            bundles=tuple(block_reference(url) for url in keys.bundles or ()),
            index=None if keys.index is None else _index(keys.index),
            previous=self._previous(),
            is_rewrite=self._is_rewrite(),
        )

    def _add_directories(self) -> None:
        """Add folders without files, and links to folders."""
        for text, keys in (self._keys.directories or {}).items():
            target = keys.link if isinstance(keys, _LinkKeys) else keys
            if target is None:
                self._add(text, None)
            else:
                self._add(text, self._link(target, self._attributes.mtime_ns))

    def _add(self, text: str, entry: FlatEntry | None) -> None:
        """Add what stands at a path: a file or link, or (None) a folder."""
        if len(text) > MAX_PATH_CHARACTERS:
            raise FormatError(f"a path of {len(text)} characters is over {MAX_PATH_CHARACTERS}")
        above, slash, last = text.rpartition("/")
        listing = self._top
        if slash and above == self._latest[0]:
            listing = self._latest[1]
        elif slash:
            for part in _names(above, text):
                listing = self._folder(listing, part, text)
            self._latest = above, listing
        [name] = _names(last, text)
        if entry is None:
            self._folder(listing, name, text)
            return
        if listing.find(name) is not None:
            raise FormatError(f"a bundle has two entries for {text[:80]!a}")
        self._count()
        assert isinstance(listing.files, dict)
        listing.files[name] = entry

    def _folder(self, listing: Document, name: bytes, text: str) -> Document:
        """Return a folder in another, made if there is none."""
        entry = listing.find(name)
        if entry is None:
            self._count()
            entry = FolderEntry(self._attributes, Document({}, {}, (), self._attributes), None)
            assert isinstance(listing.folders, dict)
            listing.folders[name] = entry
        if isinstance(entry, FileEntry):
            raise FormatError(f"a bundle has a file and a folder of one name in {text[:80]!a}")
        assert entry.document is not None
        return entry.document

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise FormatError(f"a bundle has more than {MAX_ENTRIES} files and folders")

    def _file(self, text: str, keys: _FileKeys) -> FlatEntry:
        mtime_ns = _mtime_ns(keys.modified)
        if keys.link is not None:
            return self._link(keys.link, mtime_ns)
        if (keys.contents is None) == (keys.parts is None):
            raise FormatError(f"{text[:80]!a} must have either contents or parts")
        contents = keys.parts if keys.contents is None else keys.contents
        assert contents is not None
        if any(part.url is None for part in (*contents, *(keys.rsrc or ()))):
            raise FormatError(f"a part of {text[:80]!a} has no url")
        mode = stat.S_IFREG | (0o444 if keys.readonly else 0o644)
        if keys.executable:
            mode |= 0o111
        packed = pack(contents)
        return FlatEntry(
            contents=contents if packed is None else None,
            packed=packed or b"",
            modified=keys.modified,
            size=keys.size,
            unix=self._unix(mode, mtime_ns),
            rsrc=keys.rsrc,
            xattr_urls=None if keys.xattr is None else _checked_xattr(keys.xattr),
        )

    def _link(self, text: str, mtime_ns: int) -> FlatEntry:
        target = name_bytes(text)
        if not 0 < len(target) <= MAX_LINK_BYTES or b"\0" in target:
            raise FormatError(f"a bundle has a symbolic link with the text {text[:80]!a}")
        link, escaped = link_keys(target)
        unix = self._unix(stat.S_IFLNK | 0o777, mtime_ns, escaped)
        return FlatEntry(modified=0.0, size=len(target), link=link, unix=unix)

    def _unix(self, mode: int, mtime_ns: int, link: str | None = None) -> UnixKeys:
        uid, gid = self._owner
        return UnixKeys(mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, link=link)

    def _folder_attributes(self) -> Attributes:
        modified = self._keys.timestamp
        if modified is None:
            modified = max((file.modified for file in self._keys.files.values()), default=0.0)
        uid, gid = self._owner
        return Attributes(stat.S_IFDIR | 0o755, uid, gid, _mtime_ns(modified))

    def _previous(self) -> Reference | None:
        if self._keys.previous is not None:
            return block_reference(self._keys.previous)
        if isinstance(self._keys.prior, str):
            with suppress(FormatError):
                return block_reference(self._keys.prior)
        return None

    def _is_rewrite(self) -> bool:
        keys = self._keys
        if keys.timestamp is not None:
            return True
        if any(file.parts is not None for file in keys.files.values()):
            return True
        return any(isinstance(each, _LinkKeys) for each in (keys.directories or {}).values())


def _names(text: str, path: str) -> list[bytes]:
    """Return the names that *text*, the whole or a part of *path*, is made of, or FormatError."""
    names = name_bytes(text).split(b"/")
    try:
        for name in names:
            check_name(name)
    except FormatError as exc:
        raise FormatError(f"a bundle has the path {path[:80]!a}: {exc}") from exc
    return names


def _index(text: str) -> bytes:
    [name, *below] = _names(text, text)
    if below:
        raise FormatError(f"the index of a bundle is {text[:80]!a}, which is not in its top folder")
    return name


def _mtime_ns(modified: float) -> int:
    """Return nanoseconds since 1970, in the same rounding as the original restores times."""
    if not math.isfinite(modified):
        raise FormatError(f"a bundle has the time {modified}")
    return int(max(-_MAX_NS, min((modified + _EPOCH_SECONDS) * 1e9, _MAX_NS)))


def _checked_xattr(keys: dict[str, str]) -> dict[str, str]:
    for key in keys:
        name = name_bytes(key)
        if not 0 < len(name) <= _MAX_XATTR_NAME_BYTES or b"\0" in name:
            raise FormatError(f"an extended attribute has the impossible name {key[:80]!a}")
    return keys
