"""libernet check: whether all that is kept is there and sound, as a command and in the mount."""

import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any

import click
import trio

from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.store_check import Pace
from libernet.fs.amounts import count_text
from libernet.fs.check.consistency import State, at_rest, check
from libernet.fs.check.findings import Finding
from libernet.fs.command_options import with_json
from libernet.fs.control_client import ask
from libernet.fs.lock import Phase, holder, unmounted
from libernet.fs.places import Places
from libernet.fs.printable import printable
from libernet.fs.storage import Storage

CHECK_SECONDS = 24 * 3600.0

EX_CLEAN = 0
EX_FINDINGS = 1
EX_UNCHECKED = 2

_MAX_FINDINGS = 10_000
"""Most findings that one check tells of: they fit in an answer, and nobody reads more."""

Answer = dict[str, Any]


@click.command("check")
@click.option("--read", is_flag=True, help="Read all blocks and the log again, every byte.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    metavar="BYTES",
    help="Read at most so many bytes a second.",
)
@with_json
@click.pass_obj
def check_command(places: Places, *, read: bool, rate: float | None, as_json: bool) -> int:
    """Check that all that is kept is there, and agrees with itself; print what does not.

    A mounted Libernet checks itself and goes on meanwhile. Ends with 0 when all is well, with 1
    when something is wrong, and with 2 when that could not be found out.
    """
    try:
        answer = _answer(places, read=read, rate=rate)
    except (LibernetError, OSError, sqlite3.Error) as error:
        click.echo(f"libernet: {error}", err=True)
        return EX_UNCHECKED
    findings = [Finding.from_json(each) for each in answer["findings"]]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(findings, is_all=answer["is_all"])
    return EX_FINDINGS if any(each.is_fault for each in findings) else EX_CLEAN


def _answer(places: Places, *, read: bool, rate: float | None) -> Answer:
    """Let the mount check itself, or do it here when nothing is mounted."""
    found = holder(places.data)
    if found is not None and found.phase is Phase.MOUNTED:
        arguments = {"read": read, "rate": rate}
        return ask(places.runtime, "check", arguments, timeout=CHECK_SECONDS)
    if not os.path.isdir(places.data):
        raise LibernetError(f"there is nothing to check: {places.data} does not exist")
    with unmounted(places), at_rest(places.data) as state:
        return _as_answer(check(state, read=read, pace=Pace(rate)))


def _as_answer(findings: Iterable[Finding]) -> Answer:
    told = list(islice(findings, _MAX_FINDINGS + 1))
    return {
        "findings": [finding.as_json() for finding in told[:_MAX_FINDINGS]],
        "is_all": len(told) <= _MAX_FINDINGS,
    }


def _print(findings: list[Finding], *, is_all: bool) -> None:
    for finding in findings:
        click.echo(printable(str(finding)))
    faults = sum(finding.is_fault for finding in findings)
    if not faults:
        click.echo("all is well")
    elif is_all:
        click.echo(f"{count_text(faults, 'fault')} found")
    else:
        click.echo(f"more than {count_text(faults, 'fault')} found; only the first are listed")


class CheckCommands:
    """Answer `libernet check` in a running mount."""

    def __init__(self, storage: Storage) -> None:
        self._state = State(storage.journal.path, storage.store, storage.log)

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"check": self._check}

    async def _check(self, arguments: Answer) -> Answer:
        rate = arguments.get("rate")
        if rate is not None and not (isinstance(rate, int | float) and rate > 0):
            raise FormatError("the rate is a number of bytes a second")
        read = arguments.get("read") is True
        return await trio.to_thread.run_sync(self._run, read, rate)

    def _run(self, read: bool, rate: float | None) -> Answer:
        try:
            return _as_answer(
                check(
                    self._state, read=read, pace=Pace(rate), go_on=trio.from_thread.check_cancelled
                )
            )
        except sqlite3.Error as exc:
            raise LibernetError(f"the journal cannot be read: {exc}") from exc
