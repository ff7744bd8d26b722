"""Hosts with a network of their own: network namespaces, joined by a bridge or by a slow link.

Needs root and iproute2; unfit() says what is missing. Nothing of this machine's own network is
touched, and nothing is left at the end.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.relay import GUARDED, enter

T = TypeVar("T")

SECONDS = 60.0
"""Longer than any command in a host takes."""

_DEVICE = "lbn0"
_BRIDGE, _ISLAND = "bridge", "island"
_NETWORK = "10.77.0"
_RELAY = Path(__file__).with_name("relay.py")


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one address.

    *switch* is the namespace of the bridge that joins it with others, *port* its place there;
    empty for those that are far from each other.
    """

    netns: str
    address: str
    switch: str = ""
    port: str = ""

    def entering(self) -> list[str]:
        """Return the words to put in front of a command so that it runs on this host.

        Unlike with `ip netns exec`, what it mounts is seen outside too.
        """
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--"]

    def run(self, *command: str) -> str:
        """Run a command that must succeed on this host; return what it printed."""
        return _run(*self.entering(), *command)

    def inside(self, act: Callable[[], T]) -> T:
        """Return what *act* returns when it uses the network of this host."""
        with ThreadPoolExecutor(1, initializer=enter, initargs=(self.netns,)) as thread:
            return thread.submit(act).result(SECONDS)

    def unplug(self) -> None:
        """Take the host off the network: from then on nothing reaches it or comes from it."""
        _run("ip", "-n", self.netns, "link", "set", _DEVICE, "down")

    def plug_in(self) -> None:
        """Put the host back on the network."""
        _run("ip", "-n", self.netns, "link", "set", _DEVICE, "up")

    def cut_off(self) -> None:
        """Part the host from all others but those that were cut off as well."""
        _run("ip", "-n", self.switch, "link", "set", self.port, "master", _ISLAND)

    def join_again(self) -> None:
        """Let the host reach those again that were not cut off."""
        _run("ip", "-n", self.switch, "link", "set", self.port, "master", _BRIDGE)

    def readdress(self, address: str) -> None:
        """Give the host another address, in place of those that it has."""
        _run("ip", "-n", self.netns, "address", "flush", "dev", _DEVICE)
        _run("ip", "-n", self.netns, "address", "add", f"{address}/24", "dev", _DEVICE)


def unfit() -> str:
    """Return why hosts cannot be made on this machine; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [each for each in ("ip", "nsenter") if shutil.which(each) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages iproute2, util-linux)"
    probe = f"lbn-{secrets.token_hex(3)}-probe"
    try:
        with _namespace(probe):
            _run("ip", "-n", probe, "link", "add", "bridge", "type", "bridge")
            _run("ip", "-n", probe, "link", "add", "one", "type", "veth", "peer", "name", "two")
    except AssertionError as refused:
        return f"network namespaces do not work here: {refused}"
    return ""


def unfit_for_delay() -> str:
    """Return why hosts far from each other cannot be made; empty when they can."""
    has_tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    return unfit() or ("" if has_tun else "there is no /dev/net/tun")


@contextmanager
def hosts(
    names: Sequence[str], *, round_trip_ms: float = 0.0, guarded: str = ""
) -> Iterator[dict[str, Host]]:
    """Make hosts that reach each other, by name.

    With a *round_trip_ms* that is how long each packet and its answer take together; then nothing
    but answers reaches the host *guarded*.
    """
    prefix = f"lbn-{secrets.token_hex(3)}-"
    switch = "" if round_trip_ms else f"{prefix}switch"
    made = {
        name: Host(f"{prefix}{name}", f"{_NETWORK}.{number}", switch, switch and f"port{number}")
        for number, name in enumerate(names, 1)
    }
    with contextlib.ExitStack() as stack:
        for host in made.values():
            stack.enter_context(_namespace(host.netns))
            _run("ip", "-n", host.netns, "link", "set", "lo", "up")
        if round_trip_ms:
            _make_tuns(made.values())
            stack.enter_context(_relayed(made, round_trip_ms, guarded))
        else:
            stack.enter_context(_namespace(switch))
            _make_veths(list(made.values()), switch)
        yield made


@contextmanager
def _namespace(netns: str) -> Iterator[None]:
    _run("ip", "netns", "add", netns)
    try:
        yield
    finally:
        _run("ip", "netns", "del", netns)


def _make_veths(made: Sequence[Host], switch: str) -> None:
    """Join the hosts by a bridge, which has a namespace too: no filter of this machine sees it."""
    for bridge in (_BRIDGE, _ISLAND):
        _run("ip", "-n", switch, "link", "add", bridge, "type", "bridge")
        _run("ip", "-n", switch, "link", "set", bridge, "up")
    for host in made:
        peer = ["peer", "name", host.port, "netns", switch]
        _run("ip", "-n", host.netns, "link", "add", _DEVICE, "type", "veth", *peer)
        _run("ip", "-n", switch, "link", "set", host.port, "master", _BRIDGE, "up")
        _address(host)


def _make_tuns(made: Iterable[Host]) -> None:
    for host in made:
        _run("ip", "-n", host.netns, "tuntap", "add", "dev", _DEVICE, "mode", "tun", "vnet_hdr")
        _address(host)


def _address(host: Host) -> None:
    _run("ip", "-n", host.netns, "address", "add", f"{host.address}/24", "dev", _DEVICE)
    _run("ip", "-n", host.netns, "link", "set", _DEVICE, "up")


@contextmanager
def _relayed(made: dict[str, Host], round_trip_ms: float, guarded: str) -> Iterator[None]:
    ends = [
        f"{GUARDED if name == guarded else ''}{host.netns}={host.address}"
        for name, host in made.items()
    ]
    command = [sys.executable, str(_RELAY), str(round_trip_ms), _DEVICE, *ends]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        try:
            assert relay.stdout.readline() == b"ready\n", "the relay did not start"
            yield
        finally:
            relay.stdin.close()
            relay.wait(SECONDS)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
    return done.stdout
