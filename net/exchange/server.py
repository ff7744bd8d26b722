"""The peer port: blocks for whoever asks, within limits."""

import ipaddress
import logging
from contextlib import suppress

import trio

from libernet.net.exchange.app import exchange_app
from libernet.net.exchange.connection import Client, Connection, ServerLimits, host_of
from libernet.net.exchange.line import Lines
from libernet.net.exchange.listening import listen, port_of
from libernet.net.exchange.offer import Offer
from libernet.net.exchange.places import Places
from libernet.net.exchange.protocol import http_config
from libernet.net.exchange.reception import Reception
from libernet.net.sparing_log import SparingLog

_ACCEPT_PAUSE_SECONDS = 0.1
_TURN_AWAY_SECONDS = 1  # the answer fits into any empty buffer: it leaves at once or never
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_log = logging.getLogger(__name__)


class ExchangeServer:
    """Serve the blocks of *offer* to peers, and keep what they put as *reception* decides.

    State: `_places`, the connections, never more than *limits* allow.

    Tasks: `run`, below it one per listening address and one per connection.
    """

    def __init__(
        self,
        offer: Offer,
        reception: Reception | None = None,
        *,
        limits: ServerLimits | None = None,
        lines: Lines | None = None,
        said: SparingLog | None = None,
    ) -> None:
        self._lines = lines or Lines()
        self._app = exchange_app(offer, reception, is_busy_for=self._is_busy_for)
        self._config = http_config()
        self._limits = limits or ServerLimits()
        self._said = said or SparingLog(_log)
        self._places = Places(self._limits.connections, self._limits.connections_per_host)

    @property
    def connections(self) -> int:
        """How many connections there are at the moment."""
        return len(self._places)

    async def run(
        self,
        host: str | None,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled; *task_status* gets the port.

        It is the first free one from *port* upwards, any for 0. *host* None stands for all
        addresses of this machine. Raises NetworkError when there is nowhere to listen.
        """
        listeners = await listen(host, port)
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(self._accept, listener, nursery)
            _log.info("listening for peers on port %d", port_of(listeners[0]))
            task_status.started(port_of(listeners[0]))

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    nursery.start_soon(self._welcome, await listener.accept())
                except OSError as exc:
                    # Out of file descriptors, or a network error of the new connection, which
                    # accept(2) hands out too: neither is a reason to stop listening.
                    text = f"a connection from a peer could not be accepted: {exc}"
                    self._said.say("not accepted", "somebody", text)
                    await trio.sleep(_ACCEPT_PAUSE_SECONDS)

    async def _welcome(self, stream: trio.SocketStream) -> None:
        try:
            address = _address_of(stream)
        except OSError:
            await trio.aclose_forcefully(stream)  # gone already
            return
        await self.serve(stream, address)

    async def serve(self, stream: trio.abc.HalfCloseableStream, address: str) -> None:
        """Serve the client at an IP *address* until it leaves, or turn it away if there are too
        many."""
        host = host_of(address)
        if full := self._places.refusal(address, host):
            self._said.say("turned away", host, f"{host} is turned away: {full}")
            await _turn_away(stream)
            return
        client = Client(address, host, self._lines)
        connection = Connection(self._app, self._config, stream, self._limits, client)
        self._places.add(connection, address, host)
        try:
            await connection.run()
        finally:
            self._places.remove(connection)
        if connection.bug is not None:
            text = f"a connection from {address} met with a mistake here"
            self._said.say("bug", host, text, level=logging.WARNING, error=connection.bug)
        elif connection.fault:
            text = f"a connection of {address} was ended: {connection.fault}"
            self._said.say("ended", host, text)

    def _is_busy_for(self, address: str) -> bool:
        return self._lines.up.is_busy_for(host_of(address))


async def _turn_away(stream: trio.abc.HalfCloseableStream) -> None:
    with trio.move_on_after(_TURN_AWAY_SECONDS):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(_BUSY)
    await trio.aclose_forcefully(stream)


def _address_of(stream: trio.SocketStream) -> str:
    address = ipaddress.ip_address(stream.socket.getpeername()[0].partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)
