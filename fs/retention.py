"""Which snapshots a policy keeps, exactly as `restic forget` decides it.

Snapshots are looked at from the newest to the oldest, as they were taken: a clock that was set back
makes no snapshot older than those before it. Of those in one hour (day, ISO week, month,
year) the newest counts, and as many hours with snapshots are kept as the policy says. While not so
many were found, the oldest of all is kept too. `within` counts back from the newest snapshot that
is not in the future. A snapshot stays if there is one reason for it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from libernet.blocks.errors import FormatError
from libernet.fs.tags import TagList, has_tags

UNLIMITED = -1
"""The number that keeps all of a kind."""

_SPAN = re.compile(r"(?:[0-9]{1,6}[ymdh])+")
_SPAN_PART = re.compile(r"([0-9]{1,6})([ymdh])")
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time as the calendar counts."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what `1y2m3d4h` says, m being months; FormatError for anything else."""
        if not _SPAN.fullmatch(text):
            raise FormatError(
                f"{text[:40]!r} is no length of time: write years, months, days and hours like"
                " 1y2m3d4h"
            )
        found = dict.fromkeys("ymdh", 0)
        for number, unit in _SPAN_PART.findall(text):
            found[unit] += int(number)
        return cls(found["y"], found["m"], found["d"], found["h"])

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{number}{unit}" for number, unit in parts if number) or "0h"

    def before(self, moment: datetime) -> datetime:
        """Return the time so long before *moment*; a day that its month lacks is one of the next.

        (A month before the 31st of March is the 3rd of March, or the 2nd in a leap year.)
        """
        months = (moment.year - self.years) * 12 + moment.month - 1 - self.months
        try:
            first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
            return first + timedelta(days=moment.day - 1 - self.days, hours=-self.hours)
        except (ValueError, OverflowError):
            return _BEGINNING


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep: so many of each kind (UNLIMITED: all), those within a span, those with tags."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span | None = None
    within_hourly: Span | None = None
    within_daily: Span | None = None
    within_weekly: Span | None = None
    within_monthly: Span | None = None
    within_yearly: Span | None = None
    tags: tuple[TagList, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said of what to keep."""
        return self == Policy()


@dataclass(frozen=True, slots=True)
class Taken:
    """When a snapshot was taken, in the time zone whose days and hours count, and its tags."""

    at: datetime
    tags: tuple[str, ...] = ()


def _hour(at: datetime) -> tuple[int, ...]:
    return (at.year, at.month, at.day, at.hour)


def _day(at: datetime) -> tuple[int, ...]:
    return (at.year, at.month, at.day)


def _week(at: datetime) -> tuple[int, ...]:
    return tuple(at.isocalendar()[:2])


def _month(at: datetime) -> tuple[int, ...]:
    return (at.year, at.month)


def _year(at: datetime) -> tuple[int, ...]:
    return (at.year,)


_KINDS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": _hour,
    "daily": _day,
    "weekly": _week,
    "monthly": _month,
    "yearly": _year,
}


def reasons_to_keep(
    policy: Policy, snapshots: Sequence[Taken], *, now: datetime
) -> list[list[str]]:
    """Return for each snapshot why the policy keeps it: nothing for those to be forgotten.

    *snapshots* come as they were taken, the newest first.
    """
    reasons: list[list[str]] = [_by_tags(policy, each) for each in snapshots]
    times = [each.at for each in snapshots]
    latest = max((at for at in times if at < now), default=_BEGINNING)
    if policy.within is not None:
        since = policy.within.before(latest)
        for at, found in zip(times, reasons, strict=True):
            if at > since:
                found.append(f"within {policy.within}")
    _count(policy.last, "last snapshot", list(range(len(times))), reasons)
    for kind, bucket in _KINDS.items():
        buckets = [bucket(at) for at in times]
        _count(getattr(policy, kind), f"{kind} snapshot", buckets, reasons)
    for kind, bucket in _KINDS.items():
        span: Span | None = getattr(policy, f"within_{kind}")
        if span is not None:
            since = span.before(latest)
            shown = [bucket(at) if at > since else None for at in times]
            _first_of_each(f"{kind} within {span}", shown, reasons)
    return reasons


def _by_tags(policy: Policy, snapshot: Taken) -> list[str]:
    return [
        f"has tags {','.join(wanted)}" if wanted else "has no tags"
        for wanted in policy.tags
        if has_tags(snapshot.tags, wanted)
    ]


def _count(number: int, reason: str, buckets: Sequence[object], reasons: list[list[str]]) -> None:
    """Add *reason* to the first of each of the first *number* buckets, or to the oldest of all."""
    left, previous = number, None
    for place, bucket in enumerate(buckets):
        if left == 0:
            return
        is_oldest = place == len(buckets) - 1
        if bucket != previous or is_oldest:
            reasons[place].append(f"oldest {reason}" if bucket == previous else reason)
            left -= left > 0
            previous = bucket


def _first_of_each(reason: str, buckets: Sequence[object | None], reasons: list[list[str]]) -> None:
    """Add *reason* to the first of each bucket."""
    previous = None
    for place, bucket in enumerate(buckets):
        if bucket is not None and bucket != previous:
            reasons[place].append(reason)
            previous = bucket
