"""Which snapshots a policy keeps."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.fs.retention import UNLIMITED, Policy, Span, Taken, reasons_to_keep

_NOW = datetime(2027, 1, 1, tzinfo=UTC)


def _at(text: str, *tags: str) -> Taken:
    return Taken(datetime.fromisoformat(text).replace(tzinfo=UTC), tags)


def _kept(policy: Policy, snapshots: list[Taken]) -> list[str]:
    reasons = reasons_to_keep(policy, snapshots, now=_NOW)
    return [
        each.at.isoformat()[:16] for each, found in zip(snapshots, reasons, strict=True) if found
    ]


_DAYS = [
    _at("2026-11-25T20:00"),
    _at("2026-11-25T08:30"),
    _at("2026-11-25T08:10"),
    _at("2026-11-24T20:00"),
    _at("2026-11-23T20:00"),
    _at("2026-10-31T20:00"),
    _at("2025-12-31T20:00"),
    _at("2024-01-01T20:00"),
]

_LAST_DAY = ["2026-11-25T20:00", "2026-11-25T08:30", "2026-11-25T08:10"]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(last=2), ["2026-11-25T20:00", "2026-11-25T08:30"]),
        (Policy(hourly=2), ["2026-11-25T20:00", "2026-11-25T08:30"]),
        (Policy(daily=2), ["2026-11-25T20:00", "2026-11-24T20:00"]),
        # 2026-11-23 is a Monday: the three days are in one week.
        (Policy(weekly=2), ["2026-11-25T20:00", "2026-10-31T20:00"]),
        (Policy(monthly=2), ["2026-11-25T20:00", "2026-10-31T20:00"]),
        (Policy(yearly=2), ["2026-11-25T20:00", "2025-12-31T20:00"]),
        (
            Policy(yearly=9),
            ["2026-11-25T20:00", "2025-12-31T20:00", "2024-01-01T20:00"],
        ),
        (Policy(within=Span(hours=12)), _LAST_DAY),
        (Policy(within=Span(days=1)), _LAST_DAY),
        (
            Policy(within_daily=Span(months=1)),
            ["2026-11-25T20:00", "2026-11-24T20:00", "2026-11-23T20:00", "2026-10-31T20:00"],
        ),
    ],
)
def test_a_policy_keeps_what_restic_keeps(policy: Policy, kept: list[str]) -> None:
    assert _kept(policy, _DAYS) == kept


def test_what_was_taken_last_is_the_newest_whatever_the_clock_said() -> None:
    set_back = [_at("2026-11-25T07:40"), _at("2026-11-25T07:20"), *_DAYS]
    for policy in (Policy(last=1), Policy(hourly=1), Policy(daily=1), Policy(yearly=1)):
        assert _kept(policy, set_back) == ["2026-11-25T07:40"]
    assert _kept(Policy(last=3), set_back) == [
        "2026-11-25T07:40",
        "2026-11-25T07:20",
        "2026-11-25T20:00",
    ]


def test_the_oldest_stays_while_there_are_fewer_than_wanted() -> None:
    same_day = [_at("2026-11-25T20:00"), _at("2026-11-25T19:00"), _at("2026-11-25T18:00")]
    assert reasons_to_keep(Policy(daily=2), same_day, now=_NOW) == [
        ["daily snapshot"],
        [],
        ["oldest daily snapshot"],
    ]
    assert _kept(Policy(daily=1), same_day) == ["2026-11-25T20:00"]


def test_weeks_are_those_of_iso_8601_across_the_new_year() -> None:
    # The 28th of December 2026 to the 3rd of January 2027 are week 53 of 2026.
    week = [_at("2027-01-03T12:00"), _at("2026-12-28T12:00"), _at("2026-12-27T12:00")]
    now = _NOW + timedelta(days=30)
    assert [bool(each) for each in reasons_to_keep(Policy(weekly=2), week, now=now)] == [
        True,
        False,
        True,
    ]


def test_within_counts_from_the_newest_that_is_not_in_the_future() -> None:
    snapshots = [_at("2030-01-01T00:00"), _at("2026-11-25T20:00"), _at("2026-11-20T20:00")]
    assert _kept(Policy(within=Span(days=2)), snapshots) == ["2030-01-01T00:00", "2026-11-25T20:00"]


def test_tags_of_one_list_must_all_be_there() -> None:
    both = _at("2026-11-25T20:00", "a", "b")
    snapshots = [both, _at("2026-11-24T20:00", "a"), _at("2026-11-23T20:00")]
    assert _kept(Policy(tags=(("a", "b"),)), snapshots) == ["2026-11-25T20:00"]
    assert len(_kept(Policy(tags=(("b",), ("a",))), snapshots)) == 2
    assert _kept(Policy(tags=((),)), snapshots) == ["2026-11-23T20:00"]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1y2m3d4h", Span(1, 2, 3, 4)),
        ("90d", Span(days=90)),
        ("0h", Span()),
        ("2d1d", Span(days=3)),
    ],
)
def test_a_span_is_read(text: str, span: Span) -> None:
    assert Span.parse(text) == span
    assert Span.parse(str(span)) == span


@pytest.mark.parametrize("text", ["", "1", "d", "1w", "-1d", "1.5d", "1d ", "٣d", "1" * 9 + "d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is no length of time"):
        Span.parse(text)


def test_a_month_before_a_day_that_it_lacks_is_in_the_next() -> None:
    moment = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert Span(months=1).before(moment) == datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert Span(years=999_999).before(moment) == datetime.min.replace(tzinfo=UTC)


_TIMES = st.datetimes(
    datetime(2024, 12, 20),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(2026, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
_SNAPSHOTS = st.lists(
    st.builds(Taken, _TIMES, st.sampled_from([(), ("a",), ("a", "b")])), max_size=40
).map(lambda snapshots: sorted(snapshots, key=lambda each: each.at, reverse=True))
_COUNTS = st.integers(UNLIMITED, 6)
_SPANS = st.none() | st.builds(
    Span, st.integers(0, 1), st.integers(0, 12), st.integers(0, 40), st.integers(0, 30)
)
_POLICIES = st.builds(
    Policy,
    last=_COUNTS,
    hourly=_COUNTS,
    daily=_COUNTS,
    weekly=_COUNTS,
    monthly=_COUNTS,
    yearly=_COUNTS,
    within=_SPANS,
    within_daily=_SPANS,
    tags=st.sampled_from([(), (("a",),), (("a", "b"), ())]),
)


@given(_POLICIES, _SNAPSHOTS)
def test_more_policy_never_keeps_less(policy: Policy, snapshots: list[Taken]) -> None:
    parts = [
        Policy(last=policy.last),
        Policy(daily=policy.daily, weekly=policy.weekly),
        Policy(hourly=policy.hourly, monthly=policy.monthly, yearly=policy.yearly),
        Policy(within=policy.within, within_daily=policy.within_daily, tags=policy.tags),
    ]
    whole = [bool(each) for each in reasons_to_keep(policy, snapshots, now=_NOW)]
    each_part = [reasons_to_keep(part, snapshots, now=_NOW) for part in parts]
    assert whole == [any(found) for found in zip(*each_part, strict=True)]


@given(st.integers(0, 12), _SNAPSHOTS)
def test_keep_last_keeps_so_many_and_the_newest(number: int, snapshots: list[Taken]) -> None:
    reasons = reasons_to_keep(Policy(last=number), snapshots, now=_NOW)
    kept = [each.at for each, found in zip(snapshots, reasons, strict=True) if found]
    gone = [each.at for each, found in zip(snapshots, reasons, strict=True) if not found]
    assert len(kept) == min(number, len(snapshots))
    assert not kept or not gone or min(kept) >= max(gone)


@given(st.integers(1, 12), _SNAPSHOTS)
def test_keep_daily_keeps_the_newest_of_so_many_days_and_the_oldest_of_too_few(
    number: int, snapshots: list[Taken]
) -> None:
    reasons = reasons_to_keep(Policy(daily=number), snapshots, now=_NOW)
    kept = sorted(each.at for each, found in zip(snapshots, reasons, strict=True) if found)
    newest = {}
    for each in sorted(snapshots, key=lambda each: each.at):
        newest[each.at.date()] = each.at
    expected = sorted(newest.values())[-number:]
    if snapshots and len(newest) < number:
        oldest = min(each.at for each in snapshots)
        expected = sorted(
            [*expected, *([] if oldest in expected and len(kept) == len(expected) else [oldest])]
        )
    assert kept == expected


@given(_POLICIES, _SNAPSHOTS)
def test_what_was_kept_once_is_kept_again(policy: Policy, snapshots: list[Taken]) -> None:
    reasons = reasons_to_keep(policy, snapshots, now=_NOW)
    kept = [each for each, found in zip(snapshots, reasons, strict=True) if found]
    assert all(reasons_to_keep(policy, kept, now=_NOW))


@given(_SNAPSHOTS)
def test_unlimited_keeps_all_and_nothing_keeps_nothing(snapshots: list[Taken]) -> None:
    assert all(reasons_to_keep(Policy(last=UNLIMITED), snapshots, now=_NOW))
    assert not any(reasons_to_keep(Policy(), snapshots, now=_NOW))
