"""References: what one needs to find a block, open it, and walk on inside the folder it lists."""

import enum
import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from libernet.blocks.errors import FormatError
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_NAME_BYTES, MAX_PATH_PARTS

KEY_BYTES = 32

_ID_BYTES = 32
_LIKE = "/sha256/like/"
SCHEME = "libernet:"
"""What links begin with."""

_SHAPE = "a reference reads /sha256/ID[/SUITE/KEY[/PATH]] or /sha256/ID/plain[/PATH]"
_HEX_DIGITS = 64
_NOT_HEX = re.compile(r"[^0-9a-f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# What RFC 3986 lets stand in a path segment (pchar), so that any correct encoder is understood.
_NOT_IN_PATH = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@%]")
# All of a path percent-encoded, before it: '/sha256/', two hex fields and a suite.
_MAX_TEXT_CHARACTERS = MAX_PATH_PARTS * (3 * MAX_NAME_BYTES + 1) + 256


class Suite(enum.StrEnum):
    """The ways of sealing that this version can open, as they are written in references.

    AES256GCM is ours, the others are the original's. PLAIN blocks are not sealed and have no key:
    what leads on from them stands behind the suite, and a reference of one alone ends with its id.
    """

    AES256GCM = "aes256gcm"
    AES256 = "aes256"
    PASSPHRASE = "passphrase"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Reference:
    """Name a block and how to open it; *path* leads from the folder it lists to something in it.

    *key* has 32 bytes, and none for PLAIN. *index* (written as a slash at the end) asks for the
    file that a folder is shown by. Whoever has a reference can read what it names: the key stays
    out of `repr` and of error texts, so that logs do not give it away.
    """

    id: BlockId
    suite: Suite
    key: bytes = field(repr=False)
    path: tuple[bytes, ...] = ()
    index: bool = False

    def __post_init__(self) -> None:
        if len(self.id) != _ID_BYTES:
            raise FormatError(f"a block id has {_ID_BYTES} bytes, not {len(self.id)}")
        key_bytes = 0 if self.suite is Suite.PLAIN else KEY_BYTES
        if len(self.key) != key_bytes:
            raise FormatError(f"a key has {key_bytes} bytes, not {len(self.key)}")
        if self.path:
            _check_path(self.path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference written as `/sha256/ID[/SUITE/KEY[/PATH]][/]`, or raise FormatError.

        Where SUITE is `plain` there is no KEY. ID and KEY are 64 lower-case hex digits. Each part
        of PATH is percent-encoded (RFC 3986), also where it need not be; apart from that, and from
        `plain` without anything behind it, what is printed is what was parsed.
        """
        if len(text) > _MAX_TEXT_CHARACTERS:
            raise FormatError(f"the reference is too long: {len(text)} characters")
        fields = text.split("/")
        index = len(fields) > 3 and not fields[-1]
        if index:
            fields.pop()
        if fields[:2] != ["", "sha256"]:
            raise FormatError(f"{text[:40]!r} is no reference: {_SHAPE}")
        block_id = BlockId(_parse_hex(_field(fields, 2, "block id"), "block id"))
        if len(fields) == 3:
            return cls(block_id, Suite.PLAIN, b"", index=index)
        suite = _parse_suite(_field(fields, 3, "suite"))
        if suite is Suite.PLAIN:
            return cls(block_id, suite, b"", _parse_path(fields[4:]), index)
        key = _parse_hex(_field(fields, 4, "key"), "key")
        return cls(block_id, suite, key, _parse_path(fields[5:]), index)

    @property
    def block(self) -> Self:
        """The reference of the block alone, without what leads on from it."""
        return replace(self, path=(), index=False) if self.path or self.index else self

    def __str__(self) -> str:
        if self.suite is not Suite.PLAIN:
            seal = f"/{self.suite.value}/{self.key.hex()}"
        else:
            seal = f"/{self.suite.value}" if self.path or self.index else ""
        path = "".join("/" + quote_from_bytes(part, safe="") for part in self.path)
        return f"/sha256/{self.id.hex()}{seal}{path}{'/' if self.index else ''}"


@dataclass(frozen=True, slots=True)
class LikeSearch:
    """Ask for blocks whose ids have leading bits in common with *id*: `/sha256/like/ID`."""

    id: BlockId

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the search written as `/sha256/like/ID`, or raise FormatError."""
        if not text.startswith(_LIKE):
            raise FormatError(f"{text[:40]!r} is no search: one reads {_LIKE}ID")
        return cls(BlockId.parse(text[len(_LIKE) :]))

    def __str__(self) -> str:
        return f"{_LIKE}{self.id}"


def parse_address(text: str) -> Reference | LikeSearch:
    """Return what `/sha256/...` names, or raise FormatError."""
    return LikeSearch.parse(text) if text.startswith(_LIKE) else Reference.parse(text)


def parse_link(text: str) -> Reference:
    """Return the reference that a person typed or clicked, with or without `libernet:` before it.

    Slashes behind the colon are accepted as browsers write them (`libernet:///sha256/...`). Raises
    FormatError.
    """
    return Reference.parse(without_scheme(text))


def without_scheme(text: str) -> str:
    """Return a link without `libernet:`, and anything else as it is."""
    if text[: len(SCHEME)].lower() != SCHEME:
        return text
    rest = text[len(SCHEME) :]
    return rest[2:] if rest.startswith("///") else rest


def _field(fields: list[str], index: int, what: str) -> str:
    if index >= len(fields):
        raise FormatError(f"the reference is truncated, its {what} is missing: {_SHAPE}")
    return fields[index]


def _parse_hex(text: str, what: str) -> bytes:
    wrong = _NOT_HEX.search(text, 0, _HEX_DIGITS)
    if wrong:
        raise FormatError(
            f"the {what} has {wrong[0]!r} in place {wrong.start() + 1}:"
            f" it must be {_HEX_DIGITS} lower-case hex digits"
        )
    if len(text) < _HEX_DIGITS:
        raise FormatError(f"the {what} is truncated: {len(text)} of {_HEX_DIGITS} hex digits")
    if len(text) > _HEX_DIGITS:
        raise FormatError(f"the {what} is too long: {len(text)} of {_HEX_DIGITS} hex digits")
    return bytes.fromhex(text)


def _parse_suite(text: str) -> Suite:
    try:
        return Suite(text)
    except ValueError:
        raise FormatError(
            f"the suite {text[:40]!r} is unknown: this version opens {', '.join(Suite)}"
        ) from None


def _parse_path(fields: list[str]) -> tuple[bytes, ...]:
    return tuple(_parse_part(field, place) for place, field in enumerate(fields, start=1))


def _parse_part(text: str, place: int) -> bytes:
    wrong = _BAD_ESCAPE.search(text)
    if wrong:
        escape = text[wrong.start() : wrong.start() + 3]
        raise FormatError(f"path part {place} has the incomplete escape {escape!r}")
    wrong = _NOT_IN_PATH.search(text)
    if wrong:
        raise FormatError(
            f"path part {place} has {wrong[0]!r}, which must be percent-encoded{_encoded(wrong[0])}"
        )
    return unquote_to_bytes(text)


def _encoded(character: str) -> str:
    try:
        return f" as {quote_from_bytes(character.encode(), safe='')}"
    except UnicodeEncodeError:  # a lone surrogate: which byte was meant is not known here
        return ""


def _check_path(path: tuple[bytes, ...]) -> None:
    if len(path) > MAX_PATH_PARTS:
        raise FormatError(f"the path has {len(path)} parts, at most {MAX_PATH_PARTS} are accepted")
    for place, part in enumerate(path, start=1):
        if not part:
            raise FormatError(f"path part {place} is empty")
        if part in (b".", b".."):
            raise FormatError(f"path part {place} is {part.decode()!r}, which is no name")
        if b"\0" in part or b"/" in part:
            raise FormatError(f"path part {place} has a slash or a NUL in its name")
        if len(part) > MAX_NAME_BYTES:
            raise FormatError(
                f"path part {place} has {len(part)} bytes, a name at most {MAX_NAME_BYTES}"
            )
