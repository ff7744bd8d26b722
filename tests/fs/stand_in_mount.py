"""Run mount.libernet with a stand-in for the file system behind it; STAND_IN says which.

mount    an empty FUSE mount; after its end it lingers until it can open the fifo LINGER
usage, failure, bug, silence, death    a start that fails in one of five ways
"""

import errno
import os
import signal
import stat
import sys
import types
from collections.abc import Callable

from libernet.blocks.errors import FormatError, LibernetError
from libernet.fs.lock import Phase, StateLock
from libernet.fs.mount_command import main
from libernet.fs.places import Places
from libernet.fs.settings import Settings


def serve(settings: Settings, places: Places, lock: StateLock, ready: Callable[[], None]) -> int:
    match os.environ["STAND_IN"]:
        case "mount":
            _mount(settings, ready)
            lock.mark(Phase.ENDING)
            if linger := os.environ.get("LINGER"):
                with open(linger):
                    pass
            print("the stand-in has ended", file=sys.stderr)
        case "usage":
            raise FormatError("peer address 'x' cannot be used")
        case "failure":
            error = LibernetError(f"the store in {places.data} is broken")
            raise ExceptionGroup("as a nursery raises it", [error])
        case "bug":
            raise ZeroDivisionError("nobody foresaw this")
        case "death":
            os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _mount(settings: Settings, ready: Callable[[], None]) -> None:
    import pyfuse3
    import trio

    class Nothing(pyfuse3.Operations):
        async def getattr(
            self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
        ) -> pyfuse3.EntryAttributes:
            attributes = pyfuse3.EntryAttributes()
            attributes.st_ino = inode
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755)
            return attributes

        async def lookup(
            self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
        ) -> pyfuse3.EntryAttributes:
            raise pyfuse3.FUSEError(errno.ENOENT)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_on_signal)
            ready()
            await pyfuse3.main()
            nursery.cancel_scope.cancel()

    async def end_on_signal() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                pyfuse3.terminate()

    options = {f"fsname={settings.source}", "subtype=libernet"}
    pyfuse3.init(Nothing(), str(settings.mountpoint), options)
    try:
        trio.run(run)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    module = types.ModuleType("libernet.fs.mount")
    module.serve = serve  # type: ignore[attr-defined]
    sys.modules["libernet.fs.mount"] = module
    sys.exit(main())
