"""Datagrams of the DHT: a prefix with the version, then one envelope in msgpack.

An envelope is an array: request id, sender's node id, sender's protocol flags, sender's exchange
port, body. A body is an array that starts with its kind. Later versions of this program may add
elements at an end, which earlier ones ignore; what cannot be understood that way gets a new
version in the prefix. README.md beside this file has the same as a table.
"""

from typing import Annotated, get_args

import msgspec

from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

MAX_DATAGRAM_BYTES = 1200
"""Longest datagram, sent or accepted: what every path carries whole (RFC 9000 section 14)."""

FIND_REQUEST_BYTES = 440
"""Finds are padded to this, so that the longest answer stays within three times the request."""

HELLO_REQUEST_BYTES = 88
"""Hellos too: a proof and a hello in return stay within three times this."""

MAGIC = b"LN"
VERSION = 2
PREFIX = MAGIC + bytes((VERSION,))

CLIENT_ONLY = 2
"""Protocol flag: the sender asks but cannot be reached, and belongs in no table."""

RPC_ID_BYTES = 8
MAX_TOKEN_BYTES = 32
MAX_RECORD_BYTES = 256
MAX_RECORDS = 64

MAX_KEYS = 50
"""Keys in one datagram: 1,000 bytes, beside 60 to 84 of all else."""

_Id = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
_RpcId = Annotated[bytes, msgspec.Meta(min_length=RPC_ID_BYTES, max_length=RPC_ID_BYTES)]
_PublicKey = Annotated[
    bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)
]
_Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
_PackedAddress = Annotated[bytes, msgspec.Meta(min_length=6, max_length=18)]
_Flags = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_PortOrNone = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Token = Annotated[bytes, msgspec.Meta(max_length=MAX_TOKEN_BYTES)]
_Keys = Annotated[bytes, msgspec.Meta(max_length=MAX_KEYS * KEY_BYTES)]
_Record = Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD_BYTES)]
_Records = Annotated[list[_Record], msgspec.Meta(max_length=MAX_RECORDS)]
_RecordCount = Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Ask whether the node is there."""


class Find(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Ask for the contacts nearest to *key* and up to *want* of its providers."""

    key: _Id
    want: _RecordCount
    padding: bytes = b""


class Announce(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Ask to remember the sender, at *port* of the address it is seen at, as a provider."""

    key: _Id
    token: _Token
    port: _Port
    flags: _Flags


class Withdraw(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Ask to forget what Announce with the same key and port asked to remember."""

    key: _Id
    token: _Token
    port: _Port


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Ask for proof of the node's id; *to* is the packed address that it is asked at."""

    to: _PackedAddress
    padding: bytes = b""


class AnnounceSigned(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Ask to remember a signed *record* of the sender, at the address it is seen at."""

    key: _Id
    token: _Token
    record: _Record


class CallBack(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Ask for a ping from a port of the node that the sender does not know."""

    token: _Token


class AnnounceMany(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Ask for what Announce does under each of *keys*, which stand one after the other."""

    keys: _Keys
    token: _Token
    port: _Port
    flags: _Flags


class WithdrawMany(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """Ask for what Withdraw does under each of *keys*."""

    keys: _Keys
    token: _Token
    port: _Port


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=65):
    """Answer a Ping."""


class Found(msgspec.Struct, array_like=True, frozen=True, tag=66):
    """Answer a Find; *token* is what the asker needs to write here in the next minutes, *seen* the
    packed address that it is seen at."""

    contacts: bytes
    records: _Records
    token: _Token
    seen: Annotated[bytes, msgspec.Meta(max_length=18)] = b""


class Stored(msgspec.Struct, array_like=True, frozen=True, tag=67):
    """Answer what asks to write, and CallBack: whether what was asked for is now so."""

    done: bool


class Proof(msgspec.Struct, array_like=True, frozen=True, tag=69):
    """Answer a Hello: the key that the sender's id is made of, and a signature (see proof.py);
    *seen* is the packed address that the asker is seen at."""

    public_key: _PublicKey
    signature: _Signature
    seen: _PackedAddress


class StoredMany(msgspec.Struct, array_like=True, frozen=True, tag=72):
    """Answer AnnounceMany and WithdrawMany: for how many keys that is now so."""

    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_KEYS)]


Request = (
    Ping
    | Find
    | Announce
    | Withdraw
    | Hello
    | AnnounceSigned
    | CallBack
    | AnnounceMany
    | WithdrawMany
)
REQUESTS = get_args(Request)
Reply = Pong | Found | Stored | Proof | StoredMany


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What stands around every body."""

    rpc_id: _RpcId
    sender: _Id
    flags: _Flags
    exchange_port: _PortOrNone
    body: Request | Reply


_SHORT_BYTES = 255
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    """Return the datagram for *envelope*, with finds and hellos padded."""
    datagram = PREFIX + _encoder.encode(envelope)
    body = envelope.body
    match body:
        case Find():
            missing = FIND_REQUEST_BYTES - len(datagram)
        case Hello():
            missing = HELLO_REQUEST_BYTES - len(datagram)
        case _:
            return datagram
    if missing <= 0:
        return datagram
    # One byte less where a padding of over 255 bytes has a longer head than an empty one.
    padding = bytes(missing - (missing > _SHORT_BYTES))
    padded = msgspec.structs.replace(body, padding=padding)
    return PREFIX + _encoder.encode(msgspec.structs.replace(envelope, body=padded))


def decode(datagram: bytes) -> Envelope:
    """Return the envelope in *datagram*; FormatError, in constant words, if there is none."""
    if len(datagram) > MAX_DATAGRAM_BYTES:
        raise FormatError("longer than a datagram may be")
    if not datagram.startswith(PREFIX):
        if datagram.startswith(MAGIC):
            raise UnknownVersion("another version of the protocol")
        raise FormatError("not the protocol of this network")
    try:
        return _decoder.decode(memoryview(datagram)[len(PREFIX) :])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise FormatError("malformed") from exc
