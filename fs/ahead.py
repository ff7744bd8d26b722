"""What is loaded before a reader comes to it, and given up when the reader goes elsewhere."""

import trio

from libernet.blocks.source import Origin


class Ahead:
    """A chunk that is, or waits to be, loaded ahead of those who read on.

    State
      scope      around its loading; cancelled when nobody will come to it
      is_wanted  whether it is loaded whatever becomes of the readings: somebody waits for it, or
                 nobody said for whom it is
      _readings  who is likely to come to it
    """

    __slots__ = ("_readings", "is_wanted", "origin", "scope")

    def __init__(self, origin: Origin | None) -> None:
        self.origin = origin
        self.scope = trio.CancelScope()
        self.is_wanted = False
        self._readings: set[Reading] = set()

    def join(self, reading: "Reading | None") -> None:
        """Load it for one more reader; for good if that is None."""
        if reading is None:
            self.is_wanted = True
        else:
            self._readings.add(reading)
            reading.ahead.add(self)

    def leave(self, reading: "Reading") -> None:
        """Give it up, if that was the last who would come to it."""
        self._readings.discard(reading)
        if not self._readings and not self.is_wanted:
            self.scope.cancel()

    def over(self) -> None:
        """Note that it is loaded, or will not be."""
        for reading in self._readings:
            reading.ahead.discard(self)
        self._readings.clear()


class Reading:
    """One reader of a file, from its opening to its closing.

    State: ahead, what is on its way because this reader is likely to come to it.
    """

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead: set[Ahead] = set()

    def give_up(self) -> None:
        """Say that it will not come to any of that: it was closed, or reads elsewhere."""
        for each in self.ahead:
            each.leave(self)
        self.ahead.clear()
