"""Byte streams to peers that fill buffers of the caller's."""

import select
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from libernet.blocks.errors import PeerUnreachable
from libernet.net.address import PeerAddress


class ByteStream(Protocol):
    """Bytes both ways; trio's BrokenResourceError says that the connection broke."""

    async def send_all(self, data: bytes) -> None:
        """Send all of *data*."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the beginning of *buffer*, return how many bytes; 0 when the peer has ended."""
        ...


class PeerStream(ByteStream, Protocol):
    """A connection to a peer that may be kept."""

    def is_quiet(self) -> bool:
        """Say that there is nothing to receive: no bytes, no end, no error."""
        ...

    def close(self) -> None:
        """Close it; never waits."""
        ...


Dial = Callable[[PeerAddress], Awaitable[PeerStream]]
"""Connect to a peer, or raise PeerUnreachable."""


class TcpStream:
    """A TCP connection. Receiving fills the buffer in place, trio's own streams make new bytes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        """Send all of *data*."""
        await self._stream.send_all(data)

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the beginning of *buffer*, return how many bytes; 0 when the peer has ended."""
        try:
            return await self._socket.recv_into(buffer)
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc

    def is_quiet(self) -> bool:
        """Ask the kernel, without waiting."""
        poll = select.poll()  # unlike select, it takes descriptors of 1,024 and above
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the socket; what the kernel still has to send is sent."""
        self._socket.close()


async def dial_tcp(peer: PeerAddress) -> PeerStream:
    """Connect to *peer* by whichever of its addresses answers first."""
    try:
        return TcpStream(await trio.open_tcp_stream(peer.host, peer.port))
    except OSError as exc:
        raise PeerUnreachable(f"peer {peer} cannot be reached: {exc}") from exc
