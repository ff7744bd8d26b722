"""Where contacts were, from one start to the next: those of both families in one file."""

import logging
import socket
from pathlib import Path

import trio

from libernet.blocks.errors import FormatError
from libernet.net.dht.contact import Address
from libernet.net.dht.state import MAX_REMEMBERED, load_state, save_state

_log = logging.getLogger(__name__)


class Remembered:
    """Addresses at which contacts were when there were some last; kept in *folder*, if any.

    They must pass an AddressPolicy.
    State: _addresses, by family; _saved, what the file has; _saving, so that the newest is last.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._addresses: dict[socket.AddressFamily, tuple[Address, ...]] = {}
        self._saved: list[Address] = []
        self._saving = trio.Lock()

    def load(self) -> None:
        """Read the file, and warn if it is of no use."""
        if self._folder is None:
            return
        try:
            self._saved = list(load_state(self._folder))
        except (FormatError, OSError) as exc:
            _log.warning("The DHT starts without its contacts: %s", exc)
        for family in (socket.AF_INET, socket.AF_INET6):
            of_family = (each for each in self._saved if _family(each) == family)
            self._addresses[family] = tuple(of_family)

    def of(self, family: socket.AddressFamily) -> tuple[Address, ...]:
        """Return the addresses of one family."""
        return self._addresses.get(family, ())

    async def keep(self, family: socket.AddressFamily, addresses: tuple[Address, ...]) -> None:
        """Remember *addresses*, the best first, instead of those of their family so far."""
        self._addresses[family] = addresses
        if self._folder is None:
            return
        async with self._saving:
            shares = [each[: MAX_REMEMBERED // 2] for each in self._addresses.values()]
            wanted = [address for share in shares for address in share]
            if wanted == self._saved:
                return
            try:
                await trio.to_thread.run_sync(
                    save_state, self._folder, wanted, abandon_on_cancel=True
                )
            except OSError as exc:
                _log.warning("The DHT's contacts cannot be saved in %s: %s", self._folder, exc)
            else:
                self._saved = wanted


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.ip else socket.AF_INET
