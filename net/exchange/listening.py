"""Listen on the first free port."""

import errno

import trio

from libernet.blocks.errors import NetworkError

PORTS_TRIED = 64
"""From the wanted port upwards: as many nodes as one machine may have."""

MAX_PORT = 65535

BACKLOG = 128


async def listen(host: str | None, port: int) -> list[trio.SocketListener]:
    """Return listeners for every address of *host* on one port: the first free from *port* on.

    *host* None stands for all addresses of this machine, *port* 0 for any port. Raises
    NetworkError when there is nowhere to listen.
    """
    last = min(port + PORTS_TRIED - 1, MAX_PORT) if port else 0
    for candidate in range(port, last + 1):
        try:
            return await _listen_on_one(host, candidate)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                where = host or "all addresses"
                raise NetworkError(f"cannot listen on {where}, port {candidate}: {exc}") from exc
    raise NetworkError(
        f"cannot listen: the ports from {port} to {last} are all taken; name another one"
    )


async def _listen_on_one(host: str | None, port: int) -> list[trio.SocketListener]:
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    if len({port_of(listener) for listener in listeners}) == 1:
        return listeners
    # Asked for any port, IPv4 and IPv6 were given different ones: the first's for all.
    chosen = port_of(listeners[0])
    for listener in listeners:
        listener.socket.close()
    return await trio.open_tcp_listeners(chosen, host=host, backlog=BACKLOG)


def port_of(listener: trio.SocketListener) -> int:
    """Return the port that *listener* listens on."""
    port: int = listener.socket.getsockname()[1]
    return port
