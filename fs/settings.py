"""What a mount can be told, by the configuration file, the environment and options.

Each key has one name everywhere: `allow_other = true` in config.toml, LIBERNET_ALLOW_OTHER=yes
in the environment, `-o allow_other` and `--allow-other` as options; of these four a later one
wins. The keys, with their defaults:

    port = 4848                  first port tried, TCP and UDP; 0 takes any free one
    bind = ""                    IP address to listen on, all when empty
    peers = []                   "HOST:PORT" of nodes to connect to; as an option: --peer, repeated;
                                 in the environment: with commas between
    lan = true                   look for nodes on the local network
    private_network = false      dial private and loopback addresses that other nodes name
    web = true                   show bundles by URL, to this machine alone
    web_port = 8042              first port tried for that; 0 is as good as web = false
    allow_other = false          let other users of this machine look into the mount
    uid = NAME or NUMBER         owner shown for the mount; default: the user who mounts
    gid = NAME or NUMBER         the same for the group
    read_only = false            refuse every change
    cache_bytes = 10737418240    blocks kept that were fetched from others
    accept_from = []             keys of nodes for which blocks are kept, or "anybody"
    accept_unsigned_from = []    addresses and networks that may put blocks without a signature, as
                                 this machine itself may: such blocks go first
    held_bytes = 10737418240     blocks kept for those nodes
    guest_bytes = 1073741824     blocks kept for whoever does not sign
    upload_bytes_per_second = 0  most that goes to other nodes; 0 for no limit
    download_bytes_per_second = 0  the same for what comes from them
    max_connections = 128        from other nodes at one time
    announce_bytes_per_second = 16384  sent at most to tell others of all blocks, one after the
                                 other; 0 tells them of snapshots, shares and open bundles alone
    publish_after_seconds = 10   rest after which a changed backup is published, 0 to 86400
    checkpoint_seconds = 3       age at which a change is made durable at the latest, 0.05 to 4
    poll_shim = true             fetch requests of the kernel by the faster loop
    log_level = "info"           debug, info, warning or error

An unknown key or an odd value is refused, with its line. `peers` and the `accept_...` keys are only
told apart here: this wing does not import `net`, which knows what addresses look like, so the
composition root parses them before it mounts.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from libernet.blocks.errors import FormatError
from libernet.blocks.store_cache import CACHE_BYTES, GUEST_BYTES, HELD_BYTES
from libernet.fs.keys import KEYS, Values

MAX_CONFIG_BYTES = 1024 * 1024
"""A configuration file is written by hand; a larger one is some other file."""

_VARIABLE_PREFIX = "LIBERNET_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that one mount was told. The module says what the keys mean."""

    mountpoint: Path
    """Absolute, without symbolic links."""
    source: str = "libernet"
    """What the mount table shows as the device; mount(8) compares it with fstab."""
    foreground: bool = False
    port: int = 4848
    bind: str = ""
    peers: tuple[str, ...] = ()
    lan: bool = True
    private_network: bool = False
    web: bool = True
    web_port: int = 8042
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    read_only: bool = False
    noexec: bool = False
    cache_bytes: int = CACHE_BYTES
    accept_from: tuple[str, ...] = ()
    accept_unsigned_from: tuple[str, ...] = ()
    held_bytes: int = HELD_BYTES
    guest_bytes: int = GUEST_BYTES
    upload_bytes_per_second: int = 0
    download_bytes_per_second: int = 0
    max_connections: int = 128
    announce_bytes_per_second: int = 16384
    publish_after_seconds: float = 10.0
    checkpoint_seconds: float = 3.0
    poll_shim: bool = True
    log_level: str = "info"

    @classmethod
    def of(cls, mountpoint: Path, source: str, *layers: Values) -> Self:
        """Return the settings that *layers* of checked values give; later layers win."""
        merged: Values = {}
        for layer in layers:
            merged |= layer
        return cls(mountpoint, source, **merged)

    def store_limits(self) -> dict[str, int]:
        """Return how many bytes of blocks the store keeps that are not one's own."""
        return {
            "cache_bytes": self.cache_bytes,
            "held_bytes": self.held_bytes,
            "guest_bytes": self.guest_bytes,
        }


def read_config(config_file: Path) -> Values:
    """Return the values that *config_file* sets, none when there is no such file.

    Raises FormatError with the file's name and the line, OSError when it cannot be read.
    """
    try:
        with config_file.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return {}
    if len(content) > MAX_CONFIG_BYTES:
        raise FormatError(f"{config_file} is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        text = content.decode()
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FormatError(f"{config_file} is not TOML: {error}") from error
    return {
        name: _configured(name, value, where=f"{config_file}, line {_line_of(name, text)}")
        for name, value in document.items()
    }


def read_environment(environment: Mapping[str, str]) -> Values:
    """Return the values that LIBERNET_* variables set; empty ones count as unset.

    Variables that belong to no key are left alone. Raises FormatError naming the variable.
    """
    values: Values = {}
    for key in KEYS.values():
        variable = _VARIABLE_PREFIX + key.name.upper()
        if key.configurable and (text := environment.get(variable)):
            values[key.name] = key.read(text, where=variable)
    return values


def _configured(name: str, value: Any, *, where: str) -> Any:
    key = KEYS.get(name)
    if key is None or not key.configurable:
        known = ", ".join(key.name for key in KEYS.values() if key.configurable)
        raise FormatError(f"{where}: there is no key {name!r}. The keys are: {known}")
    return key.check(value, where=where)


def _line_of(name: str, text: str) -> int:
    """Return the line, counted from 1, in which *text* first sets the key or table *name*.

    tomllib does not tell, so the line is searched; inside a text of several lines it can err.
    """
    spelled = rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[\].=]"""
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, 1) if re.match(spelled, line)), 1)
