"""libernet: the commands for a running mount."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import libernet
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference, link_of, parse_link
from libernet.fs.check_commands import check_command
from libernet.fs.command_options import with_json
from libernet.fs.command_paths import inside_mount
from libernet.fs.control_client import ask, nobody
from libernet.fs.describe import describe, describe_peers
from libernet.fs.lock import holder
from libernet.fs.places import STATE_VARIABLE, Places
from libernet.fs.publish_commands import publish
from libernet.fs.repair_commands import repair_command
from libernet.fs.store_commands import gc
from libernet.fs.unmount_command import unmount_and_wait

EX_OK = 0
EX_FAIL = 1
EX_USAGE = 2
EX_INTERRUPTED = 130

SYNC_SECONDS = 600.0
SNAPSHOT_SECONDS = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv*, by default the process's own arguments; return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names come out as the bytes they are
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
@with_json
@click.pass_obj
def snapshot(places: Places, name: str, *, as_json: bool) -> None:
    """Publish the backup NAME now and print the reference of the snapshot."""
    answer = ask(places.runtime, "snapshot", {"name": name}, timeout=SNAPSHOT_SECONDS)
    click.echo(json.dumps(answer) if as_json else answer["reference"])


@cli.command()
@click.argument("path")
@click.option("--link", is_flag=True, help="Print it as a link that a desktop opens: libernet:...")
@with_json
@click.pass_obj
def share(places: Places, path: str, *, link: bool, as_json: bool) -> None:
    """Print a reference that opens the backup, folder or file at PATH for whoever has it.

    PATH is in the mount, or begins with backups/. A snapshot or an opened bundle can be shared as a
    whole. A reference cannot be taken back.
    """
    if not path:
        raise click.UsageError("the path is empty")
    inside = inside_mount(places, path)
    answer = ask(places.runtime, "share", {"path": inside}, timeout=SNAPSHOT_SECONDS)
    if link:
        answer["link"] = link_of(Reference.parse(answer["reference"]))
    click.echo(json.dumps(answer) if as_json else answer["link" if link else "reference"])


@cli.command("open")
@click.argument("reference")
@click.argument("name", required=False)
@with_json
@click.pass_obj
def open_(places: Places, reference: str, name: str | None, *, as_json: bool) -> None:
    """Open what REFERENCE, or a libernet: link, leads to as bundles/NAME; print where it is."""
    try:
        parsed = parse_link(reference)
    except FormatError as error:
        raise click.UsageError(str(error)) from None
    if parsed.path:
        raise click.UsageError("open the reference without the path behind its key, then go there")
    answer = ask(places.runtime, "open", {"reference": str(parsed), "name": name})
    click.echo(json.dumps(answer) if as_json else answer["path"])


@cli.command()
@click.argument("name")
@with_json
@click.pass_obj
def close(places: Places, name: str, *, as_json: bool) -> None:
    """Close the bundle that was opened as bundles/NAME; its blocks may stay for a while."""
    answer = ask(places.runtime, "close", {"name": name})
    if as_json:
        click.echo(json.dumps(answer))


@cli.command()
@with_json
@click.pass_obj
def peers(places: Places, *, as_json: bool) -> None:
    """Show the other nodes that this one asked, and how they did."""
    answer = ask(places.runtime, "peers")
    click.echo(json.dumps(answer, indent=2) if as_json else describe_peers(answer))


@cli.command()
@with_json
@click.pass_obj
def sync(places: Places, *, as_json: bool) -> None:
    """Come back when everything written so far is durable."""
    answer = ask(places.runtime, "sync", timeout=SYNC_SECONDS)
    if as_json:
        click.echo(json.dumps(answer))


@cli.command()
@with_json
@click.pass_obj
def status(places: Places, *, as_json: bool) -> None:
    """Show what is mounted, not yet durable and not yet published."""
    answer = ask(places.runtime, "status")
    click.echo(json.dumps(answer, indent=2) if as_json else describe(answer))


@cli.command()
@with_json
@click.pass_obj
def unmount(places: Places, *, as_json: bool) -> None:
    """Unmount, and come back when everything is durable."""
    found = holder(places.data)
    if found is None:
        raise nobody(places.runtime)
    unmount_and_wait(found.mountpoint, places.data)
    if as_json:
        click.echo(json.dumps({"unmounted": str(found.mountpoint)}))


cli.add_command(publish)
cli.add_command(gc)
cli.add_command(check_command)
cli.add_command(repair_command)


def _report(sentence: str, exit_code: int) -> int:
    click.echo(f"libernet: {sentence}", err=True)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
