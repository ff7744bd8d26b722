"""libernet: the commands for a running mount."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import libernet
from libernet.blocks.errors import LibernetError
from libernet.fs.lazy_group import LazyGroup
from libernet.fs.places import STATE_VARIABLE, Places

EX_OK = 0
EX_FAIL = 1
EX_USAGE = 2
EX_INTERRUPTED = 130

_COMMANDS = {
    "backup": "libernet.fs.backup_commands:backup",
    "check": "libernet.fs.check_commands:check_command",
    "close": "libernet.fs.sharing_commands:close",
    "dht": "libernet.fs.dht_commands:dht",
    "diff": "libernet.fs.tree_commands:diff",
    "fetch": "libernet.fs.fetch_commands:fetch",
    "find": "libernet.fs.tree_commands:find",
    "forget": "libernet.fs.forget_commands:forget",
    "gc": "libernet.fs.store_commands:prune",
    "note": "libernet.fs.snapshot_commands:note",
    "open": "libernet.fs.sharing_commands:open_",
    "peers": "libernet.fs.mount_commands:peers",
    "prune": "libernet.fs.store_commands:prune",
    "publish": "libernet.fs.publish_commands:publish",
    "repair": "libernet.fs.repair_commands:repair_command",
    "restore": "libernet.fs.restore_commands:restore",
    "share": "libernet.fs.sharing_commands:share",
    "snapshot": "libernet.fs.snapshot_commands:snapshot",
    "snapshots": "libernet.fs.snapshot_commands:snapshots",
    "status": "libernet.fs.mount_commands:status",
    "sync": "libernet.fs.mount_commands:sync",
    "tag": "libernet.fs.snapshot_commands:tag",
    "unmount": "libernet.fs.mount_commands:unmount",
}


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


def _print_version(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        click.echo(f"libernet {libernet.__version__}")
        context.exit()


@click.group(cls=LazyGroup, places=_COMMANDS, no_args_is_help=False)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help=f"State folder of the mount. [default: {STATE_VARIABLE}, or the one of this user]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, state: Path | None) -> None:
    """Look after a mounted Libernet. To mount one: mount.libernet MOUNTPOINT"""
    context.obj = Places.of(state)


def _report(sentence: str, exit_code: int) -> int:
    click.echo(f"libernet: {sentence}", err=True)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
