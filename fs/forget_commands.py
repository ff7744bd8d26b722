"""libernet forget: thinning out snapshots."""

import json
from typing import Any

import click

from libernet.fs.amounts import count_text
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import snapshot_named
from libernet.fs.control_client import PUBLISH_SECONDS, ask
from libernet.fs.describe import freed_text
from libernet.fs.places import Places
from libernet.fs.printable import printable
from libernet.fs.snapshot_commands import table

_KINDS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


class _Number(click.ParamType[int]):
    """How many to keep: a number, or `unlimited`."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "unlimited":
            return -1
        if not (isinstance(value, str) and value.isascii() and value.isdecimal()):
            self.fail(f"{value!r} is neither a number nor 'unlimited'", param, ctx)
        return int(value)


def _policy_options(command: Any) -> Any:
    """Add the options that say what to keep."""
    tags_help = "Keep those with all of these tags."
    command = click.option("--keep-tag", multiple=True, metavar="T[,T...]", help=tags_help)(command)
    for kind in reversed(_KINDS[1:]):
        command = click.option(
            f"--keep-within-{kind}", metavar="SPAN", help=f"Keep {kind} ones of the last SPAN."
        )(command)
    command = click.option(
        "--keep-within", metavar="SPAN", help="Keep all of the last SPAN, like 1y2m3d4h."
    )(command)
    for kind in reversed(_KINDS):
        noun = "ones" if kind == "last" else f"{kind} ones"
        command = click.option(
            f"--keep-{kind}", type=_Number(), help=f"Keep the last N {noun}; or 'unlimited'."
        )(command)
    return command


@click.command()
@click.argument("what", metavar="[NAME | SNAPSHOT]...", nargs=-1)
@_policy_options
@click.option(
    "--tag", "tags", multiple=True, metavar="T[,T...]", help="Look only at those with these tags."
)
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be forgotten.")
@click.option("--prune", is_flag=True, help="Then give up the blocks that are not needed.")
@click.option(
    "--unsafe-allow-remove-all",
    "may_remove_all",
    is_flag=True,
    help="Accept a policy that keeps no snapshot of a backup.",
)
@with_json
@click.pass_obj
def forget(
    places: Places,
    /,
    what: tuple[str, ...],
    *,
    tags: tuple[str, ...],
    dry_run: bool,
    prune: bool,
    may_remove_all: bool,
    as_json: bool,
    **keep: Any,
) -> None:
    """Forget snapshots by a policy, of each backup or of NAME; or those that are named.

    The policy is that of restic: of the last N hours (days, ...) with snapshots the newest one of
    each is kept, and the oldest of all while there are fewer. What they needed stays until
    'libernet prune'. What a backup holds now always has a snapshot: if its newest is forgotten, it
    gets another by itself.
    """
    asked = {
        "what": [each if "/" not in each else snapshot_named(places, each) for each in what],
        "keep": _kept(keep),
        "tags": list(tags),
        "dry_run": dry_run,
        "prune": prune,
        "may_remove_all": may_remove_all,
    }
    answer = ask(places.runtime, "forget", asked, timeout=PUBLISH_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        _print(answer)


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name.removeprefix("keep_"): value for name, value in options.items() if value is not None
    }
    tags = kept.pop("tag")
    return kept | ({"tags": list(tags)} if tags else {})


def _print(answer: dict[str, Any]) -> None:
    would = "would " if answer["dry_run"] else ""
    if not answer["groups"]:
        click.echo("no snapshot is meant: there is nothing to forget")
    for group in answer["groups"]:
        kept, removed = group["keep"], group["remove"]
        backup = printable(group["backup"])
        click.echo(f"{backup}: {would}keep {count_text(len(kept), 'snapshot')}")
        if kept:
            click.echo(table(kept, [("reasons", "Reasons")]))
        click.echo(f"{backup}: {would}forget {count_text(len(removed), 'snapshot')}")
        if removed:
            click.echo(table(removed, [("note", "Note")]))
        click.echo()
    if "prune" in answer:
        click.echo(freed_text(answer["prune"]))
