"""libernet: the commands for a running mount."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import libernet
from libernet.blocks.errors import LibernetError
from libernet.fs.control_client import ask, nobody
from libernet.fs.lock import holder
from libernet.fs.places import STATE_VARIABLE, Places
from libernet.fs.unmount_command import unmount_and_wait

EX_OK = 0
EX_FAIL = 1
EX_USAGE = 2
EX_INTERRUPTED = 130

SYNC_SECONDS = 600.0
SNAPSHOT_SECONDS = 3600.0

_with_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv*, by default the process's own arguments; return its exit code."""
    try:
        outcome = cli.main(
            args=None if argv is None else list(argv),
            prog_name="libernet",
            standalone_mode=False,
        )
        return outcome if isinstance(outcome, int) else EX_OK
    except click.Abort:
        return EX_INTERRUPTED
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        sentence = error.format_message()
        stop = "" if sentence.endswith((".", "?")) else "."
        return _report(f"{sentence}{stop} See: {path or 'libernet'} --help", EX_USAGE)
    except (LibernetError, OSError) as error:
        return _report(str(error), EX_FAIL)


@click.group(no_args_is_help=False)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help=f"State folder of the mount. [default: {STATE_VARIABLE}, or the one of this user]",
)
@click.version_option(libernet.__version__, message="libernet %(version)s")
@click.pass_context
def cli(context: click.Context, state: Path | None) -> None:
    """Look after a mounted Libernet. To mount one: mount.libernet MOUNTPOINT"""
    context.obj = Places.of(state)


@cli.command()
@click.argument("name")
@_with_json
@click.pass_obj
def snapshot(places: Places, name: str, *, as_json: bool) -> None:
    """Publish the backup NAME now and print the reference of the snapshot."""
    answer = ask(places.runtime, "snapshot", {"name": name}, timeout=SNAPSHOT_SECONDS)
    click.echo(json.dumps(answer) if as_json else answer["reference"])


@cli.command()
@_with_json
@click.pass_obj
def sync(places: Places, *, as_json: bool) -> None:
    """Come back when everything written so far is durable."""
    answer = ask(places.runtime, "sync", timeout=SYNC_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))


@cli.command()
@_with_json
@click.pass_obj
def status(places: Places, *, as_json: bool) -> None:
    """Show what is mounted, not yet durable and not yet published."""
    answer = ask(places.runtime, "status")
    click.echo(json.dumps(answer, indent=2) if as_json else describe(answer))


@cli.command()
@_with_json
@click.pass_obj
def unmount(places: Places, *, as_json: bool) -> None:
    """Unmount, and come back when everything is durable."""
    found = holder(places.data)
    if found is None:
        raise nobody(places.runtime)
    unmount_and_wait(found.mountpoint, places.data)
    if as_json:
        click.echo(json.dumps({"unmounted": str(found.mountpoint)}))


def describe(answer: dict[str, Any]) -> str:
    """Return the answer to `status` as lines for a person."""
    waiting, store = answer["not_durable"], answer["store"]
    lines = [
        f"mounted     {answer['mountpoint']} (pid {answer['pid']}, version {answer['version']})",
        f"durable     {_durability(waiting['files'], waiting['bytes'])}",
        f"store       {_count(store['blocks'], 'block')}, {size_text(store['bytes'])}",
    ]
    backups = answer["backups"]
    lines.append(f"backups     {len(backups) or 'none yet'}")
    width = max((len(backup["name"]) for backup in backups), default=0)
    lines += [f"  {backup['name']:<{width}}  {_publication(backup)}" for backup in backups]
    return "\n".join(lines)


def size_text(size_bytes: int) -> str:
    """Return *size_bytes* in the largest binary unit that leaves a number of at least 1."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _durability(files: int, size_bytes: int) -> str:
    if not files and not size_bytes:
        return "everything"
    return f"all but {_count(files, 'file')}, {size_text(size_bytes)}"


def _publication(backup: dict[str, Any]) -> str:
    if backup["published"] is None:
        return "not yet published"
    changed = ", changed since" if backup["unpublished"] else ""
    return f"published {backup['published']}{changed}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _report(sentence: str, exit_code: int) -> int:
    click.echo(f"libernet: {sentence}", err=True)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
