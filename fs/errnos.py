"""Which errno each error of Libernet's own becomes for a program that uses the mount."""

import errno

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockError,
    BlockNotFound,
    BlockTooLarge,
    DhtError,
    FormatError,
    LibernetError,
    LocalProtocolError,
    NetworkError,
    PeerRefused,
    PeerTimeout,
    PeerUnreachable,
    RemoteProtocolError,
    StoreError,
    StoreFull,
    StoreVersion,
    UnknownVersion,
)

ERRNOS: dict[type[LibernetError], int] = {
    LibernetError: errno.EIO,
    FormatError: errno.EIO,
    UnknownVersion: errno.EIO,
    BlockError: errno.EIO,
    # Never ENOENT: the file is there, its bytes cannot be had right now.
    BlockNotFound: errno.EIO,
    BlockCorrupt: errno.EIO,
    BlockTooLarge: errno.EIO,
    StoreError: errno.EIO,
    StoreFull: errno.ENOSPC,
    StoreVersion: errno.EIO,
    NetworkError: errno.EIO,
    PeerUnreachable: errno.EIO,
    PeerTimeout: errno.ETIMEDOUT,
    PeerRefused: errno.EIO,
    RemoteProtocolError: errno.EIO,
    LocalProtocolError: errno.EIO,
    DhtError: errno.EIO,
}


def errno_for(error: LibernetError, *, is_read: bool = False) -> int:
    """Return the errno for an error, by its own class or the nearest one above it.

    A read has waited for all of its time, and programs know no other error of read(2) than EIO;
    who looks into a folder may find there what was missing when looking again.
    """
    if is_read and isinstance(error, PeerTimeout):
        return errno.EIO
    return next(ERRNOS[kind] for kind in type(error).__mro__ if kind in ERRNOS)
