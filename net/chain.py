"""Several kinds of discovery as one."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from libernet.blocks.errors import DhtError, NetworkError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import WANTED_PROVIDERS, Discovery, Provider


class ChainDiscovery:
    """Ask and tell all members at the same time; behaves as Discovery says.

    State: _members. What one finds is found, whether or not others fail. But each must be told:
    one that nobody asks, as a fixed list, takes any announcement.
    """

    def __init__(self, *members: Discovery) -> None:
        self._members = list(members)

    def set_members(self, *members: Discovery) -> None:
        """Let these take part from now on, and no others."""
        self._members = list(members)

    async def announce(self, block_id: BlockId) -> None:
        """Announce it through all members; raise what one of them raised, but tell the others."""
        self._raise_any(await self._all(lambda member: member.announce(block_id)))

    async def withdraw(self, block_id: BlockId) -> None:
        """Withdraw it from all members; raise what one of them raised, but tell the others."""
        self._raise_any(await self._all(lambda member: member.withdraw(block_id)))

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return what members found until there was enough, each address once."""
        found: dict[PeerAddress, Provider] = {}

        with trio.CancelScope() as scope:

            async def find_in(member: Discovery) -> None:
                for provider in await member.find(block_id, want=want):
                    found.setdefault(provider.address, provider)
                if len(found) >= want:
                    scope.cancel()

            errors = await self._all(find_in)
            if len(errors) == len(self._members):
                self._raise_any(errors)
        return list(found.values())

    def peers_hint(self) -> list[PeerAddress]:
        """Return the members' hints, in the order of the members."""
        hints = [address for member in self._members for address in member.peers_hint()]
        return list(dict.fromkeys(hints))

    def status(self) -> dict[str, Any]:
        """Return what each member says."""
        return {"members": [member.status() for member in self._members]}

    async def _all(self, act: Callable[[Discovery], Awaitable[None]]) -> list[NetworkError]:
        """Let *act* run on all members; return what went wrong."""
        if not self._members:
            raise DhtError("there is no way to find other nodes")
        errors: list[NetworkError] = []

        async def try_one(member: Discovery) -> None:
            try:
                await act(member)
            except NetworkError as exc:
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(try_one, member)
        return errors

    @staticmethod
    def _raise_any(errors: list[NetworkError]) -> None:
        if errors:
            raise errors[0]
