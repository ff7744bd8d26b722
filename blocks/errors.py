"""Every error of Libernet's own, by whose fault it is.

LibernetError
├── FormatError              bytes or text from outside do not follow their format
│   └── UnknownVersion       they follow a newer format than this program knows
├── BlockError
│   ├── BlockNotFound        nobody who could be asked has the block right now
│   ├── BlockCorrupt         stored or received bytes are not the block they claim to be
│   └── BlockTooLarge        more bytes than a block or chunk may have
├── StoreError               the local store or journal cannot do its work
│   ├── StoreFull            no space left for it
│   └── StoreVersion         it was written by a newer version of the program
└── NetworkError
    ├── PeerUnreachable      no connection to the peer
    ├── PeerTimeout          the peer did not answer in time
    ├── PeerRefused          the peer does not want to keep what it was given
    ├── RemoteProtocolError  the peer broke the protocol
    ├── LocalProtocolError   we used the protocol wrongly: a bug here
    └── DhtError             a look-up or announcement in the DHT failed
"""


class LibernetError(Exception):
    """Stand above all errors that Libernet raises itself."""


class FormatError(LibernetError):
    """Say what in a text or document from outside does not follow its format."""


class UnknownVersion(FormatError):
    """Say that a document was written by a newer version of its format."""


class BlockError(LibernetError):
    """Stand above what can be wrong with one block."""


class BlockNotFound(BlockError):
    """Nobody who could be asked has the block right now."""


class BlockCorrupt(BlockError):
    """The bytes are not the block that they claim to be."""


class BlockTooLarge(BlockError):
    """There are more bytes than a block or chunk may have."""


class StoreError(LibernetError):
    """The local store or journal cannot do its work."""


class StoreFull(StoreError):
    """No space is left for the store or the journal."""


class StoreVersion(StoreError):
    """The store or journal was written by a newer version of the program."""


class NetworkError(LibernetError):
    """Stand above what goes wrong between nodes."""


class PeerUnreachable(NetworkError):
    """No connection to the peer can be made."""


class PeerTimeout(NetworkError):
    """The peer did not answer in time."""


class PeerRefused(NetworkError):
    """The peer does not want to keep a block: it may not be put there, or there is no room."""


class RemoteProtocolError(NetworkError):
    """The peer broke the protocol."""


class LocalProtocolError(NetworkError):
    """This node used the protocol wrongly, which is a bug here."""


class DhtError(NetworkError):
    """A look-up or an announcement in the DHT failed."""
