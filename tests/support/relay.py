"""Join network namespaces by links that take their time: a router with a real round trip.

    python relay.py ROUND_TRIP_MS DEVICE NETNS=ADDRESS NETNS=ADDRESS guarded:NETNS=ADDRESS ...

Each namespace has the TUN device DEVICE with the IPv4 ADDRESS already; what one sends to another's
address arrives there half a round trip later. TCP, UDP and all else go through alike. Says "ready"
on stdout, and ends when stdin does. What is sent to a guarded one arrives only if it answers
something, as behind most routers. For machines whose kernel has no netem and no filters.
"""

import ctypes
import fcntl
import ipaddress
import os
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence, Set
from pathlib import Path

GUARDED = "guarded:"

# From linux/if_tun.h and linux/sched.h.
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_CLONE_NEWNET = 0x40000000

_HEADER_BYTES = 10  # struct virtio_net_hdr, in front of each packet
_DESTINATION = slice(_HEADER_BYTES + 16, _HEADER_BYTES + 20)  # RFC 791
_SOURCE = slice(_HEADER_BYTES + 12, _HEADER_BYTES + 16)
_PROTOCOL = _HEADER_BYTES + 9
_SOURCE_PORT = slice(_HEADER_BYTES + 20, _HEADER_BYTES + 22)  # no packet here has IP options
_DESTINATION_PORT = slice(_HEADER_BYTES + 22, _HEADER_BYTES + 24)
_PACKET_BYTES = _HEADER_BYTES + 65_535
_READS_IN_A_ROW = 32  # from one device, before what is due is delivered

_MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What is on its way at most, as in a router with that much memory: 10 Gbit/s at 50 ms. The rest is
dropped."""


class Relay:
    """The TUN devices of several namespaces, and the packets between them.

    State: _devices, by IPv4 address; _waiting, packets in the order in which they are due, since
    all take equally long, each with its time and its device; _waiting_bytes, their lengths
    together; _asked, what those at the addresses _guarded sent: both ends and the protocol.
    """

    def __init__(
        self, devices: dict[bytes, int], guarded: Set[bytes], delay_seconds: float
    ) -> None:
        self._devices = devices
        self._guarded = guarded
        self._asked: set[tuple[bytes, bytes, int]] = set()
        self._delay = delay_seconds
        self._waiting: deque[tuple[float, int, bytes]] = deque()
        self._waiting_bytes = 0

    def run(self, until_end_of: int) -> None:
        """Pass packets on until the file *until_end_of* is at its end."""
        watched = [until_end_of, *self._devices.values()]
        while True:
            readable, _, _ = select.select(watched, [], [], self._seconds_left())
            if until_end_of in readable:
                return
            for device in readable:
                self._take_from(device)
            self._deliver()

    def _seconds_left(self) -> float | None:
        if not self._waiting:
            return None
        return max(self._waiting[0][0] - time.monotonic(), 0)

    def _take_from(self, device: int) -> None:
        for _ in range(_READS_IN_A_ROW):
            try:
                packet = os.read(device, _PACKET_BYTES)
            except BlockingIOError:
                return
            target = self._devices.get(packet[_DESTINATION])
            if target is None or self._waiting_bytes > _MAX_WAITING_BYTES:
                continue
            if not self._lets_through(packet):
                continue
            self._waiting.append((time.monotonic() + self._delay, target, packet))
            self._waiting_bytes += len(packet)

    def _lets_through(self, packet: bytes) -> bool:
        here = packet[_SOURCE] + packet[_SOURCE_PORT]
        there = packet[_DESTINATION] + packet[_DESTINATION_PORT]
        if packet[_SOURCE] in self._guarded:
            self._asked.add((here, there, packet[_PROTOCOL]))
        is_answer = (there, here, packet[_PROTOCOL]) in self._asked
        return is_answer or packet[_DESTINATION] not in self._guarded

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, device, packet = self._waiting.popleft()
            self._waiting_bytes -= len(packet)
            try:
                os.write(device, packet)
            except OSError:
                continue  # the device is down: the packet is lost as on any broken link


def enter(netns: str) -> None:
    """Take the calling thread into a network namespace; its sockets are made there from now on."""
    with Path("/run/netns", netns).open() as namespace:
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns exists from Python 3.12 on
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {netns}")


def attach(device_name: str) -> int:
    """Return the file of a TUN device that exists in the namespace of the calling thread.

    Segments of up to 64 KiB come through whole (IFF_VNET_HDR): with packets of 1500 bytes each,
    Python would be the bottleneck.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", device_name.encode(), flags))
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


def main(arguments: Sequence[str]) -> None:
    """Run with the arguments that the module names."""
    round_trip_ms, device_name, *ends = arguments
    devices = {}
    guarded = set()
    for end in ends:
        netns, _, address = end.removeprefix(GUARDED).partition("=")
        packed = ipaddress.IPv4Address(address).packed
        enter(netns)
        devices[packed] = attach(device_name)
        if end.startswith(GUARDED):
            guarded.add(packed)
    print("ready", flush=True)
    Relay(devices, guarded, float(round_trip_ms) / 2000).run(sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1:])
