"""What the consistency check finds."""

import enum
from dataclasses import dataclass
from typing import Any, Self


class Severity(enum.StrEnum):
    """How bad a finding is."""

    DAMAGE = "damage"
    """What is written down contradicts itself: repair can put that right."""
    LOSS = "loss"
    """Bytes are not here, or not what they were. They may come back from a peer or a program."""
    NOTE = "note"
    """What a crash may leave. Nothing is wrong, and the next start or collection clears it up."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the check found: the *rule* that is broken, *where*, and in words.

    *where* is a path in the mount where there is one, else a table, file or block. *block* is the
    id of the block that it is about, if it is about one.
    """

    rule: str
    severity: Severity
    where: str
    sentence: str
    block: str = ""

    @property
    def is_fault(self) -> bool:
        """Say whether something is wrong."""
        return self.severity is not Severity.NOTE

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return what as_json() has made plain values."""
        return cls(**fields | {"severity": Severity(fields["severity"])})

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "where": self.where,
            "sentence": self.sentence,
            "block": self.block,
        }

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.sentence}"
