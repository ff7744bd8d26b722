"""What went wrong in a long command, by path: a folder that cannot be read may hold millions."""

import os
from dataclasses import dataclass, field

MAX_TOLD = 1000
"""Of so many paths it is told why; the others are counted."""


@dataclass(slots=True)
class Troubles:
    """Why, by path, for the first MAX_TOLD paths; `count` has all of them."""

    told: dict[bytes, str] = field(default_factory=dict)
    count: int = 0

    def note(self, path: bytes, why: str) -> None:
        """Note what is wrong with a path."""
        if path in self.told:
            self.told[path] = why
            return
        self.count += 1
        if len(self.told) < MAX_TOLD:
            self.told[path] = why

    def add(self, more: "Troubles") -> None:
        """Note what somebody else noted too."""
        for path, why in more.told.items():
            self.note(path, why)
        self.count += more.count - len(more.told)

    def texts(self) -> dict[str, str]:
        """Return why by path, as it is written in JSON."""
        return {os.fsdecode(path): why for path, why in self.told.items()}
