"""One FUSE mount, from the mount call to its end."""

import errno
import logging
import os
from pathlib import Path

import pyfuse3
import trio

from libernet.blocks.errors import LibernetError
from libernet.fs.fuse import poll_shim
from libernet.fs.fuse.operations import FuseOperations
from libernet.fs.mount_table import mount_at
from libernet.fs.namespace import Namespace
from libernet.fs.notices import Notices
from libernet.fs.settings import Settings

_log = logging.getLogger(__name__)

_MAX_TASKS = 200  # requests handled at one time; beyond that the kernel waits

_READ_AHEAD_KIB = 1024
"""What the kernel reads ahead; its own 128 KiB is an eighth of a block. Only root may set it."""


class FuseSession:
    """A mount of a namespace.

    State: _is_mounted, from the mount call until close(); _is_stopped, from stop() on.
    """

    def __init__(self, namespace: Namespace, settings: Settings, notices: Notices) -> None:
        self._notices = notices
        # Without ACLs the mode of a file that has one lets its group do what the mask says.
        self._operations = FuseOperations(namespace, enforces_acls=settings.allow_other)
        self._settings = settings
        self._is_mounted = False
        self._is_stopped = False

    def mount(self) -> None:
        """Mount; requests wait until serve() runs. LibernetError when that cannot be."""
        if self._settings.poll_shim and not poll_shim.install():
            _log.info("this version of pyfuse3 is not known: its own loop is used")
        try:
            pyfuse3.init(self._operations, str(self._settings.mountpoint), self._options())
        except RuntimeError as exc:
            raise LibernetError(
                f"{self._settings.mountpoint} cannot be mounted ({exc}): is /dev/fuse there, and"
                " may you use it?"
            ) from exc
        self._is_mounted = True

    async def serve(self) -> None:
        """Answer requests until the mount is unmounted or stop() is called."""
        if self._is_stopped:
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_ahead_more)
                nursery.start_soon(self._notices.run, _forget)
                await pyfuse3.main(max_tasks=_MAX_TASKS)
                nursery.cancel_scope.cancel()
        except* OSError as group:
            # Somebody cut the connection (fusectl's abort): for us an unmount like any other.
            _, others = group.split(lambda exc: _errno(exc) in {errno.ENODEV, errno.ENOTCONN})
            if others is not None:
                raise others from None

    def stop(self) -> None:
        """Let serve() return, or not begin."""
        if self._is_mounted and not self._is_stopped:
            pyfuse3.terminate()
        self._is_stopped = True

    def close(self) -> None:
        """Unmount, if nobody did it yet."""
        if self._is_mounted:
            self._is_mounted = False
            pyfuse3.close(unmount=True)

    async def _read_ahead_more(self) -> None:
        """Raise the kernel's read-ahead, which it resets when it initializes the mount."""
        await self._operations.initialized.wait()
        await trio.to_thread.run_sync(_set_read_ahead, self._settings.mountpoint)

    def _options(self) -> set[str]:
        settings = self._settings
        source = settings.source.encode("ascii", "replace").decode()
        options = {"fsname=" + source.replace("\\", "\\\\").replace(",", "\\,"), "subtype=libernet"}
        if settings.allow_other:
            options.add("allow_other")
        if settings.allow_other or os.geteuid() != 0:
            # Root alone is refused nothing, so the checks would only cost requests.
            options.add("default_permissions")
        if settings.read_only:
            options.add("ro")
        if settings.noexec:
            options.add("noexec")
        return options


def _forget(ino: int, name: bytes | None) -> None:
    """Let the kernel forget a name in a folder, or (None) all it keeps of an inode."""
    try:
        if name is None:
            pyfuse3.invalidate_inode(pyfuse3.InodeT(ino))
        else:
            pyfuse3.invalidate_entry(pyfuse3.InodeT(ino), pyfuse3.FileNameT(name))
    except OSError as exc:
        if exc.errno not in {errno.ENOENT, errno.ENODEV, errno.ENOTCONN}:  # it keeps nothing
            _log.warning("the kernel cannot be told of a change: %s", exc)


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _set_read_ahead(mountpoint: Path) -> None:
    mount = mount_at(mountpoint)
    if mount is None:
        return
    try:
        Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").write_text(str(_READ_AHEAD_KIB))
    except OSError as exc:
        _log.debug("the kernel's read-ahead stays as it is: %s", exc)


async def stop_on_signals(
    session: FuseSession,
    signals: tuple[int, ...],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stop the session when one of *signals* comes; later ones are only noted."""
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        async for number in received:
            _log.info("signal %d: ending", number)
            session.stop()
