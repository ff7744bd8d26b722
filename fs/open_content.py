"""The content of a file that is open, and what of contents a checkpoint has to make durable."""

from dataclasses import dataclass, field

from libernet.fs.content import ContentMap, Extent, LogPlace, Piece
from libernet.fs.datalog import DataLog


@dataclass(slots=True, eq=False)
class OpenContent:
    """The content of one file that is open, or has something not committed.

    State
      handles     open handles
      map         where the bytes are
      unsealed    whether ranges_to_seal() may find something
      sealing     how many of its ranges the workers have
      frozen      whether a checkpoint is committing extents of it
      written     when it was written last, on the event loop's clock
    """

    ino: int
    map: ContentMap
    handles: int = 0
    unsealed: bool = False
    sealing: int = 0
    frozen: bool = False
    written: float = 0.0


@dataclass(slots=True)
class FrozenContents:
    """What a checkpoint has to make durable: contents, and the pieces that only memory has."""

    contents: list[OpenContent] = field(default_factory=list)
    pieces: list[tuple[int, Extent]] = field(default_factory=list)
    places: dict[Piece, LogPlace] = field(default_factory=dict)

    def log(self, log: DataLog) -> None:
        """Append the pieces to the data log and make them durable, if that is still to be done.

        Records are of what a piece holds now, whole, once however many extents show it. After an
        error nobody knows what the disk has of them: the next try appends all anew. Any thread may.
        """
        if self.places:
            return
        places: dict[Piece, LogPlace] = {}
        for ino, extent in self.pieces:
            piece = extent.piece
            if piece not in places:
                assert piece.buffer is not None
                places[piece] = log.append(ino, extent.offset - extent.skip, piece.buffer)
        log.sync()
        for piece, place in places.items():
            piece.log = place
        self.places = places
