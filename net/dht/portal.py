"""An asyncio loop in a thread of its own, called from trio.

trio-asyncio would share the thread: one malformed datagram ended the whole program there, and
each burst of work stalled it. Here both sides only ever exchange calls and outcomes.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

from libernet.blocks.errors import DhtError, LibernetError

STOP_SECONDS = 5.0
"""How long an orderly end may take before the thread is left behind."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class _Call(Generic[T]):
    """One call on its way: made in trio's thread, run in the loop's, finished in trio's.

    State: done, and then either error or value; _task, in the loop's thread only.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.done = trio.Event()
        self.value: T | None = None
        self.error: Exception | None = None
        self._function = function
        self._task: asyncio.Task[T] | None = None
        self._is_cancelled = False

    def finish(self, value: T | None, error: Exception | None) -> None:
        """Hand over the outcome, in trio's thread; only the first counts."""
        if not self.done.is_set():
            self.value, self.error = value, error
            self.done.set()

    def begin(self, deliver: Callable[..., None]) -> None:
        """Start the task, in the loop's thread."""
        if not self._is_cancelled:
            self._task = asyncio.get_running_loop().create_task(self._function())
            self._task.add_done_callback(functools.partial(self._end, deliver))

    def cancel(self) -> None:
        """Cancel the task, in the loop's thread."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _end(self, deliver: Callable[..., None], task: asyncio.Task[T]) -> None:
        if task.cancelled():
            deliver(self.finish, None, DhtError("the DHT stopped before it had an answer"))
        elif isinstance(error := task.exception(), LibernetError):
            deliver(self.finish, None, error)
        elif isinstance(error, Exception):
            _log.error("A call into the DHT met with a mistake here", exc_info=error)
            failure = DhtError(f"a call into the DHT failed: {error!r}")
            failure.__cause__ = error
            deliver(self.finish, None, failure)
        elif error is not None:
            deliver(self.finish, None, DhtError("the DHT's thread ended within this call"))
        else:
            deliver(self.finish, task.result(), None)


class Portal:
    """Runs *serve* in a loop in a thread, and lets trio tasks call coroutines there.

    An async context manager; *serve* gets a function to call when calls may come, and runs until
    it is cancelled. Should it end earlier, or the thread die, then *ended* is set, *failure* says
    why, and all calls raise DhtError, those under way and later ones.

    State: _calls, those under way; _is_stopping. The thread touches neither of its own accord
    but reads the latter; it sets _loop and _serving.
    Tasks: none of trio's; the thread, and in its loop one task for serve and one for each call.
    """

    def __init__(
        self, serve: Callable[[Callable[[], None]], Coroutine[Any, Any, None]], *, name: str
    ) -> None:
        self.ended = trio.Event()
        self.failure: BaseException | None = None
        self._ready = trio.Event()
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._calls: set[_Call[Any]] = set()
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None
        self._trio: trio.lowlevel.TrioToken | None = None

    async def __aenter__(self) -> Self:
        self._trio = trio.lowlevel.current_trio_token()
        self._thread.start()
        try:
            await self._ready.wait()
        except trio.Cancelled:
            await self._stop()
            raise
        if self.ended.is_set():
            raise DhtError(f"the DHT could not start: {self.failure!r}") from self.failure
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Return what the coroutine *function(*arguments)* returns in the loop.

        When the caller is cancelled this ends at once, and so does the coroutine, as soon as
        the loop gets to it. Raises the coroutine's own LibernetError, and DhtError for anything
        else that goes wrong.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(functools.partial(function, *arguments))
        self._calls.add(call)
        try:
            if not self._tell_loop(call.begin, self._tell_trio):
                raise DhtError("the DHT is not running")
            await call.done.wait()
        finally:
            self._calls.discard(call)
            if not call.done.is_set():
                self._tell_loop(call.cancel)
        if call.error is not None:
            raise call.error
        return call.value  # type: ignore[return-value] # None only where T is

    def _tell_loop(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Have *function* called in the loop; False when there is none any more."""
        if self.ended.is_set() or self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # closed, and the news is still on its way
            return False
        return True

    def _tell_trio(self, function: Callable[..., object], *arguments: Any) -> None:
        assert self._trio is not None
        try:
            self._trio.run_sync_soon(functools.partial(function, *arguments))
        except trio.RunFinishedError:
            _log.debug("The program ended before the DHT's thread")

    async def _stop(self) -> None:
        self._is_stopping = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
            self._tell_loop(self._cancel_serving)
            await self.ended.wait()
            self._thread.join()
            return
        _log.error("The DHT's thread did not end within %g s and is left behind", STOP_SECONDS)

    def _cancel_serving(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def _run(self) -> None:
        """Be the thread."""
        failure: BaseException | None = None
        try:
            asyncio.run(self._main())
        except BaseException as exc:  # noqa: BLE001 # the top of the thread: whoever waits is told
            failure = exc
        self._tell_trio(self._end, failure)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_unhandled)
        self._serving = asyncio.create_task(self._serve(self._announce_ready))
        self._loop = loop
        if self._is_stopping:  # too early for _stop() to have seen the loop
            self._serving.cancel()
        try:
            await self._serving
        except asyncio.CancelledError:
            _log.debug("The DHT's loop ends")

    def _announce_ready(self) -> None:
        self._tell_trio(self._ready.set)

    def _end(self, failure: BaseException | None) -> None:
        self.failure = failure
        self.ended.set()
        self._ready.set()
        for call in self._calls:
            call.finish(None, DhtError("the DHT's thread ended before it had an answer"))


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _log.error("In the DHT's loop: %s", context["message"], exc_info=context.get("exception"))
