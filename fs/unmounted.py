"""Commands that need no mount: asked of it where there is one, done by this process elsewhere."""

import os
from collections.abc import Callable
from typing import Any

from libernet.fs.control_client import ask, nobody
from libernet.fs.lock import Phase, holder, unmounted
from libernet.fs.places import Places
from libernet.fs.settings import Settings, read_config, read_environment


def ask_anyway(
    places: Places,
    command: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float = 30.0,
    hear: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Let the mount, or else this process, run *command*; return its answer.

    Without a mount there is no network: what only peers have is not found. The state folder is
    locked meanwhile, and backups that changed are published at the end, as at an unmount. Raises
    what `ask` and `unmounted` do, and LibernetError where nothing was ever mounted.
    """
    found = holder(places.data)
    if found is not None and found.phase is Phase.MOUNTED:
        return ask(places.runtime, command, arguments, timeout=timeout, hear=hear)
    if not os.path.isdir(places.data):
        raise nobody(places.runtime)
    # A whole node takes a second and a half to import; the mount's answer is there at once.
    from libernet.fs.mount import answer

    layers = read_config(places.config_file), read_environment(os.environ)
    settings = Settings.of(places.data, "libernet", *layers)
    with unmounted(places):
        return answer(settings, places, command, arguments or {}, hear or (lambda _: None))
