"""Options that several commands have."""

import click

with_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
