"""A port that peers can reach by TCP, for blocks, and by UDP, for the DHT."""

import errno
import socket
from collections.abc import Iterable

from libernet.blocks.errors import NetworkError
from libernet.net.exchange.listening import MAX_PORT, PORTS_TRIED

ALL_ADDRESSES = "0.0.0.0"
ALL_IPV6_ADDRESSES = "::"

_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def first_free_port(host: str, port: int) -> int:
    """Return the first port from *port* on that nobody has taken, neither for TCP nor for UDP.

    *host* empty stands for all addresses, *port* 0 for any port. Raises NetworkError when there is
    none; another process may still be faster to take it.
    """
    hosts = (host,) if host else (ALL_ADDRESSES, ALL_IPV6_ADDRESSES)
    if not port:
        candidates = (_any_port(hosts[0]) for _ in range(PORTS_TRIED))
        return next((each for each in candidates if _is_free(hosts, each)), 0)
    last = min(port + PORTS_TRIED - 1, MAX_PORT)
    for candidate in range(port, last + 1):
        if _is_free(hosts, candidate):
            return candidate
    raise NetworkError(
        f"cannot listen: the ports from {port} to {last} are all taken; name another one"
    )


def _any_port(host: str) -> int:
    """Return a port that was free for TCP; 0 if that cannot be told."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            return 0
        port: int = sock.getsockname()[1]
        return port


def _is_free(hosts: Iterable[str], port: int) -> bool:
    """Say whether nobody has the port, for TCP or UDP, at any of *hosts*."""
    return not any(_is_taken(kind, host, port) for host in hosts for kind in _KINDS)


def _is_taken(kind: socket.SocketKind, host: str, port: int) -> bool:
    """Say whether the port is taken; whatever else is wrong is told to who really listens there."""
    try:
        with socket.socket(_family(host), kind) as sock:
            if kind == socket.SOCK_STREAM:
                # Connections that ended a moment ago do not count, as they do not for who listens.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
    except OSError as exc:
        return exc.errno == errno.EADDRINUSE
    return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
