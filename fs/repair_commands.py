"""libernet repair: putting right what the consistency check finds."""

import json
import os
import sqlite3

import click

from libernet.blocks.disk import store_error
from libernet.blocks.errors import LibernetError
from libernet.fs.amounts import count_text
from libernet.fs.check.repair import repair
from libernet.fs.command_options import with_json
from libernet.fs.lock import unmounted
from libernet.fs.places import Places


@click.command("repair")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@with_json
@click.pass_obj
def repair_command(places: Places, *, dry_run: bool, as_json: bool) -> None:
    """Put right what `libernet check` finds damaged, while nothing is mounted.

    Nothing is thrown away: what cannot be explained goes to lost+found, in the backup that it
    belongs to or in a backup of that name. A copy of the journal is saved before it changes.
    """
    if not os.path.isdir(places.data):
        raise LibernetError(f"there is nothing to repair: {places.data} does not exist")
    with unmounted(places):
        try:
            deeds = repair(places.data, dry_run=dry_run)
        except sqlite3.Error as exc:
            raise store_error(exc, places.data / "journal.sqlite") from exc
    if as_json:
        done = [{"where": deed.where, "sentence": deed.sentence} for deed in deeds]
        click.echo(json.dumps({"deeds": done, "dry_run": dry_run}, indent=2))
        return
    for deed in deeds:
        click.echo(str(deed))
    verb = "would be" if dry_run else "was" if len(deeds) == 1 else "were"
    click.echo(f"{count_text(len(deeds), 'thing')} {verb} repaired" if deeds else "nothing to do")
