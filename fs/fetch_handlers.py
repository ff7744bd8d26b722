"""What the running mount does for `libernet fetch`."""

import os
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from libernet.blocks.addresses import Address, parse_opening
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.beside import telling
from libernet.fs.control import Tell
from libernet.fs.fetching import Fetched, Fetching
from libernet.fs.mount_paths import parts_of
from libernet.fs.shelf import Shelf

Answer = dict[str, Any]


class FetchHandlers:
    """Answer the command that brings a bundle here."""

    def __init__(self, fetching: Fetching, shelf: Shelf) -> None:
        self._fetching = fetching
        self._shelf = shelf

    async def fetch(self, arguments: Answer, tell: Tell) -> Answer:
        """Bring a bundle here, with a note each half second, or let go of its pins."""
        address = self._address(arguments)
        fetched = Fetched()
        if arguments.get("unpin") is True:
            await self._fetching.unpin(address)
        else:
            is_pinned = arguments.get("pin") is True
            async with telling(tell, partial(_note, fetched)):
                await self._fetching.fetch(address, fetched, pin=is_pinned)
        return asdict(fetched)

    def _address(self, arguments: Answer) -> Address:
        text, name = arguments.get("reference"), arguments.get("name")
        if isinstance(name, str):
            return self._opened(name)
        if not isinstance(text, str):
            raise FormatError("this needs a reference, or the name of an opened bundle")
        return parse_opening(text)

    def _opened(self, path: str) -> Address:
        """Return what a path below `bundles/` names."""
        name, *below = (os.fsencode(part) for part in parts_of(path))
        opened = self._shelf.opened().get(name)
        if opened is None:
            raise LibernetError(f"no bundle named {os.fsdecode(name)!r} is open")
        if not below:
            return opened
        if isinstance(opened, Reference):
            return replace(opened, path=(*opened.path, *below), index=False)
        return replace(opened, file_name=b"/".join(below))


def _note(fetched: Fetched) -> Answer:
    """Return how far it is."""
    return {
        "done": fetched.done,
        "bytes": fetched.fetched_bytes,
        "of": fetched.needed if fetched.is_known else None,
        "current": fetched.current,
    }
