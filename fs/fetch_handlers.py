"""What the running mount does for `libernet fetch`."""

from dataclasses import asdict
from functools import partial
from typing import Any

from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.reference import Reference
from libernet.fs.beside import telling
from libernet.fs.control import Tell
from libernet.fs.fetching import Fetched, Fetching
from libernet.fs.shelf import Shelf

Answer = dict[str, Any]


class FetchHandlers:
    """Answer the command that brings a bundle here."""

    def __init__(self, fetching: Fetching, shelf: Shelf) -> None:
        self._fetching = fetching
        self._shelf = shelf

    async def fetch(self, arguments: Answer, tell: Tell) -> Answer:
        """Bring a bundle here, with a note each half second, or let go of its pins."""
        reference = self._reference(arguments)
        fetched = Fetched()
        if arguments.get("unpin") is True:
            await self._fetching.unpin(reference)
        else:
            is_pinned = arguments.get("pin") is True
            async with telling(tell, partial(_note, fetched)):
                await self._fetching.fetch(reference, fetched, pin=is_pinned)
        return asdict(fetched)

    def _reference(self, arguments: Answer) -> Reference:
        text, name = arguments.get("reference"), arguments.get("name")
        if isinstance(name, str):
            opened = self._shelf.references().get(name.encode("utf-8", "surrogateescape"))
            if opened is None:
                raise LibernetError(f"no bundle named {name!r} is open")
            return opened
        if not isinstance(text, str):
            raise FormatError("this needs a reference, or the name of an opened bundle")
        reference = Reference.parse(text)
        if reference.path or reference.index:
            raise FormatError("fetch the reference without the path behind its key")
        return reference


def _note(fetched: Fetched) -> Answer:
    """Return how far it is."""
    return {
        "done": fetched.done,
        "bytes": fetched.fetched_bytes,
        "of": fetched.needed if fetched.is_known else None,
        "current": "",
    }
