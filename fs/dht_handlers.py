"""What the running mount does for `libernet dht`."""

from collections.abc import Awaitable, Callable
from typing import Any

from libernet.blocks.errors import FormatError
from libernet.fs.outside import Outside

MAX_IDENTIFIER_BYTES = 4096

Answer = dict[str, Any]


class DhtHandlers:
    """Answer the commands that let other programs use the DHT."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {"dht-announce": self._announce, "dht-find": self._find}

    async def _announce(self, arguments: Answer) -> Answer:
        identifier = _identifier(arguments)
        port = _number(arguments, "port", 65535)
        return {"nodes": await self._outside.announce_identifier(identifier, port)}

    async def _find(self, arguments: Answer) -> Answer:
        identifier = _identifier(arguments)
        found = await self._outside.find_identifier(identifier, _number(arguments, "want", 100))
        return {"addresses": found}


def _identifier(arguments: Answer) -> bytes:
    text = arguments.get("identifier")
    if not isinstance(text, str) or not 0 < len(text.encode()) <= MAX_IDENTIFIER_BYTES:
        raise FormatError(f"an identifier has 1 to {MAX_IDENTIFIER_BYTES} bytes of text")
    return text.encode()


def _number(arguments: Answer, key: str, most: int) -> int:
    number = arguments.get(key)
    if type(number) is not int or not 1 <= number <= most:
        raise FormatError(f"{key} is a number from 1 to {most}")
    return number
