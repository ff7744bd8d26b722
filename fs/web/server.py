"""The listener for the view by URL, on loopback only."""

import errno
import logging
import socket
from contextlib import suppress

import trio

from libernet.fs.web.connection import Connection, WebLimits
from libernet.fs.web.site import Site

PORTS_TRIED = 64
"""From the wanted port upwards: as many nodes as one machine may have."""

_MAX_PORT = 65535
_BACKLOG = 128
_ACCEPT_PAUSE_SECONDS = 0.1
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_log = logging.getLogger(__name__)


class WebServer:
    """Serve a site to this machine.

    State: `_port`, where it listens, 0 while it does not; `_connections`, how many there are, never
    more than *limits* allow.

    Tasks: `run`, below it one per listening address and one per connection.
    """

    def __init__(self, site: Site, *, limits: WebLimits | None = None) -> None:
        self._site = site
        self._limits = limits or WebLimits()
        self._port = 0
        self._connections = 0

    @property
    def address(self) -> str | None:
        """Where to ask, None while nobody listens."""
        return f"http://127.0.0.1:{self._port}" if self._port else None

    @property
    def connections(self) -> int:
        """How many connections there are at the moment."""
        return self._connections

    async def run(
        self, port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on the first free port from *port* on until cancelled; started when it does.

        Where it cannot listen it says so in the log and does nothing: a mount is worth having
        without this.
        """
        try:
            listeners = _listen(port)
        except OSError as error:
            _log.warning("nothing is shown by URL: cannot listen on port %d: %s", port, error)
            task_status.started()
            return
        self._port = listeners[0].socket.getsockname()[1]
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._accept, listener, nursery)
                _log.info("bundles are shown by URL at %s", self.address)
                task_status.started()
        finally:
            self._port = 0

    async def serve(self, stream: trio.abc.HalfCloseableStream, port: int) -> None:
        """Serve the client that came to *port*, or turn it away if there are too many."""
        if self._connections >= self._limits.connections:
            with trio.move_on_after(self._limits.linger_seconds):
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(_BUSY)
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            await Connection(self._site, port, stream, self._limits).run()
        finally:
            self._connections -= 1

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    # Out of file descriptors, or an error of the new connection, which accept(2)
                    # hands out too: neither is a reason to stop listening.
                    _log.info("a connection by URL could not be accepted: %s", error)
                    await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                else:
                    nursery.start_soon(self.serve, stream, self._port)


def _listen(port: int) -> list[trio.SocketListener]:
    """Return listeners on one port of 127.0.0.1 and, where there is IPv6, ::1; or raise OSError."""
    last = min(port + PORTS_TRIED - 1, _MAX_PORT)
    for candidate in range(port, last + 1):
        try:
            return _listen_on(candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"the ports from {port} to {last} are all taken")


def _listen_on(port: int) -> list[trio.SocketListener]:
    sockets = [_bound(socket.AF_INET, "127.0.0.1", port)]
    try:
        sockets.append(_bound(socket.AF_INET6, "::1", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sockets[0].close()
            raise
        _log.debug("nothing is shown by URL over IPv6: %s", error)
    return [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
