"""Lines about what others do, who could fill the log with them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

LINE_SECONDS = 60.0
"""How often there is a line of one kind."""

MAX_NAMED = 8
"""So many of those who did it are named in one line."""

_LOOK_SECONDS = 15.0


@dataclass(slots=True)
class _Unsaid:
    """What happened since the last line of a kind: how often, by whom, and the newest text."""

    until: float
    count: int = 0
    names: list[str] = field(default_factory=list)
    others: bool = False
    text: str = ""

    def add(self, who: str, text: str) -> None:
        self.count += 1
        self.text = text
        if who not in self.names:
            if len(self.names) < MAX_NAMED:
                self.names.append(who)
            else:
                self.others = True


class SparingLog:
    """Say the first thing of each kind at once, and all that follows in one line a minute.

    State: _unsaid, by kind, for which there was a line less than LINE_SECONDS ago. Kinds are
    words of this program, and therefore few.
    Tasks: run() says what is due.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = trio.current_time) -> None:
        self._log = log
        self._clock = clock
        self._unsaid: dict[str, _Unsaid] = {}

    async def run(self) -> None:
        """Say what is due until cancelled, and all that is unsaid then."""
        try:
            while True:
                await trio.sleep(_LOOK_SECONDS)
                self._say_due()
        finally:
            for unsaid in self._unsaid.values():
                self._say(unsaid)
            self._unsaid.clear()

    def say(
        self,
        kind: str,
        who: str,
        text: str,
        *,
        level: int = logging.INFO,
        error: BaseException | None = None,
    ) -> None:
        """Say that *who* did something of this *kind*; *text* names both, and the reason.

        With an *error* its traceback is said too, if this is the line that is said at once.
        """
        self._say_due()
        if kind in self._unsaid:
            self._unsaid[kind].add(who, text)
        else:
            self._log.log(level, "%s", text, exc_info=error)
            self._unsaid[kind] = _Unsaid(self._clock() + LINE_SECONDS)

    def _say_due(self) -> None:
        now = self._clock()
        for kind, unsaid in list(self._unsaid.items()):
            if unsaid.until > now:
                continue
            if self._say(unsaid):
                self._unsaid[kind] = _Unsaid(now + LINE_SECONDS)
            else:
                del self._unsaid[kind]

    def _say(self, unsaid: _Unsaid) -> bool:
        """Say what came since the last line; False if that is nothing."""
        if unsaid.count:
            names = ", ".join(unsaid.names) + (" and others" if unsaid.others else "")
            times = "once" if unsaid.count == 1 else f"{unsaid.count} times"
            self._log.info("%s more of this kind (%s): %s", times, names, unsaid.text)
        return unsaid.count > 0
