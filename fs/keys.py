"""The keys that settings have: which values each takes, and how they are written as text."""

import grp
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from libernet.blocks.errors import FormatError

Values = dict[str, Any]
"""Checked values by the name of their key; a key that was not set is absent."""

MAX_ID = 2**32 - 2
"""Largest user or group number; the next one means 'no change' to chown(2)."""

_FLAGS = {"yes": True, "true": True, "on": True, "1": True} | {
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}


class Odd(Exception):
    """Say what a value must be, to follow the name of its key."""


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be set."""

    name: str
    help: str
    metavar: str | None
    """What stands for the value in the help; None for a flag."""
    from_text: Callable[[str], Any]
    """Turn text into what a TOML file would hold; text of another shape stays as it is."""
    checked: Callable[[Any], Any]
    """Return the value to use, or raise Odd."""
    configurable: bool = True
    """Whether the configuration file and the environment may set it, not only options."""

    def read(self, text: str, *, where: str) -> Any:
        """Return the value written as *text*, or raise FormatError that begins with *where*."""
        return self.check(self.from_text(text), where=where)

    def check(self, value: Any, *, where: str) -> Any:
        """Return the value for *value* from a TOML file, or raise FormatError as `read` does."""
        try:
            return self.checked(value)
        except Odd as error:
            raise FormatError(f"{where}: {self.name} must be {error}, not {value!r}") from None


def _flag_text(text: str) -> Any:
    return _FLAGS.get(text.lower(), text)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Odd("true or false")


def _number_text(text: str) -> Any:
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{1,12}\.[0-9]{1,9}", text):
        return float(text)
    return text


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def checked(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise Odd(f"a whole number from {low} to {high}")

    return checked


def _seconds(low: float, high: float) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        if type(value) in (int, float) and low <= value <= high:
            return float(value)
        raise Odd(f"a number of seconds from {low:g} to {high:g}")

    return checked


def _one_of(*words: str) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if value in words:
            return str(value)
        raise Odd(f"one of {', '.join(words)}")

    return checked


def _path(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise Odd("the path of a folder")


def _ip_address(value: Any) -> str:
    import ipaddress  # rarely needed, and the start-up is timed

    if value == "":
        return ""
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Odd("an IPv4 or IPv6 address, or empty") from None


def _texts(shape: str) -> Callable[[Any], tuple[str, ...]]:
    def checked(value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(text, str) and text for text in value):
            return tuple(value)
        raise Odd(f"a list of texts {shape}")

    return checked


def _list_text(text: str) -> Any:
    return text.split(",")


def _user(value: Any) -> int:
    return _account(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _group(value: Any) -> int:
    return _account(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _account(value: Any, kind: str, look_up: Callable[[str], int]) -> int:
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    try:
        if isinstance(value, str):
            return look_up(value)
    except (KeyError, ValueError):  # unknown; holds a NUL
        pass
    raise Odd(f"the number or the name of a {kind} of this machine")


def _flag_key(name: str, help_: str, *, configurable: bool = True) -> Key:
    return Key(name, help_, None, _flag_text, _flag, configurable)


_ALL = (
    Key("state", "keep everything of this node in DIR", "DIR", str, _path, configurable=False),
    _flag_key("foreground", "stay in the terminal, log to it", configurable=False),
    Key("port", "first port tried, 0 for any", "N", _number_text, _whole(0, 65535)),
    Key("bind", "IP address to listen on", "ADDRESS", str, _ip_address),
    Key(
        "peers",
        "connect to this node; repeat it",
        "HOST:PORT",
        _list_text,
        _texts('"HOST:PORT"'),
    ),
    _flag_key("lan", "look for nodes on the local network"),
    _flag_key("private_network", "dial private addresses that other nodes name"),
    _flag_key("web", "show bundles by URL, to this machine alone"),
    Key("web_port", "first port tried for that, 0 for none", "N", _number_text, _whole(0, 65535)),
    _flag_key("allow_other", "let other users look into the mount"),
    Key("uid", "owner shown for the mount", "USER", _number_text, _user),
    Key("gid", "group shown for the mount", "GROUP", _number_text, _group),
    _flag_key("read_only", "refuse every change"),
    Key(
        "cache_bytes",
        "blocks kept that were fetched from others",
        "N",
        _number_text,
        _whole(0, 2**62),
    ),
    Key(
        "accept_from",
        "nodes for which blocks are kept",
        "KEY,...",
        _list_text,
        _texts("that are nodes' keys, or 'anybody'"),
    ),
    Key(
        "accept_unsigned_from",
        "addresses that may put blocks without a signature",
        "ADDRESS,...",
        _list_text,
        _texts("that are addresses or networks"),
    ),
    Key("held_bytes", "blocks kept for those nodes", "N", _number_text, _whole(0, 2**62)),
    Key("guest_bytes", "blocks kept for who does not sign", "N", _number_text, _whole(0, 2**62)),
    Key(
        "upload_bytes_per_second",
        "most that goes to other nodes, 0 for no limit",
        "N",
        _number_text,
        _whole(0, 2**40),
    ),
    Key(
        "download_bytes_per_second",
        "most that comes from them, 0 for no limit",
        "N",
        _number_text,
        _whole(0, 2**40),
    ),
    Key(
        "max_connections",
        "connections from other nodes at one time",
        "N",
        _number_text,
        _whole(1, 10_000),
    ),
    Key(
        "announce_bytes_per_second",
        "sent at most to tell others of all blocks",
        "N",
        _number_text,
        _whole(0, 2**31),
    ),
    Key(
        "publish_after_seconds",
        "rest after which a changed backup is published",
        "N",
        _number_text,
        _seconds(0, 86400),
    ),
    Key(
        "checkpoint_seconds",
        "age at which a change is made durable at the latest",
        "N",
        _number_text,
        # The promise is 5 s before a crash; looking and committing take a part of them.
        _seconds(0.05, 4),
    ),
    _flag_key("poll_shim", "fetch requests of the kernel by the faster loop"),
    Key(
        "log_level",
        "what goes to the log",
        "LEVEL",
        str,
        _one_of("debug", "info", "warning", "error"),
    ),
)

KEYS = {key.name: key for key in _ALL}
