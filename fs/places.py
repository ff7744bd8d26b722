"""Where one node keeps its files.

With a state folder (`--state DIR`, or LIBERNET_STATE) everything lies in it. Without one:

    data       ~/.local/share/libernet               secret, journal, store, lock, control.sock
    config     ~/.config/libernet/config.toml
    log        ~/.local/state/libernet/libernet.log

The XDG variables move these. The control socket stays with the data and not in XDG_RUNTIME_DIR:
a mount made by mount(8) at boot knows no session, and must be found from one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import appdirs

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import LibernetError, StoreVersion

STATE_VERSION = 1
"""Layout of the state folder. A program refuses a folder with a higher number."""

STATE_VARIABLE = "LIBERNET_STATE"

_BROUGHT_ALONG = frozenset({"config.toml", "libernet.log"})
"""What a state folder may hold before its first start."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and files of one node, all absolute."""

    data: Path
    """Folder of the secret, the journal, the store and the lock."""
    config_file: Path
    log_file: Path
    runtime: Path
    """Folder of control.sock."""

    @classmethod
    def of(cls, state: Path | None) -> Self:
        """Return the places for the state folder *state*, or those of this user for None.

        None means LIBERNET_STATE when that is set. Nothing is created or read.
        """
        _forget_relative_folders()
        chosen = state or os.environ.get(STATE_VARIABLE)
        if chosen:
            folder = Path(os.path.abspath(os.path.expanduser(chosen)))
            return cls(folder, folder / "config.toml", folder / "libernet.log", folder)
        data = Path(appdirs.user_data_dir("libernet"))
        config_file = Path(appdirs.user_config_dir("libernet"), "config.toml")
        log_file = Path(appdirs.user_state_dir("libernet"), "libernet.log")
        return cls(data, config_file, log_file, data)

    def check(self) -> None:
        """Refuse a data folder that this program must not write to; a missing one is fine.

        Raises StoreVersion for one of a newer program, LibernetError for a folder that holds
        other people's files, NotADirectoryError or PermissionError.
        """
        try:
            names = set(os.listdir(self.data))
        except FileNotFoundError:
            return
        if "version" not in names and names - _BROUGHT_ALONG:
            raise LibernetError(
                f"the folder {self.data} holds files that are not Libernet's: "
                "choose an empty or a new one as state folder"
            )
        if self._version() > STATE_VERSION:
            raise StoreVersion(
                f"state folder {self.data} was written by a newer version of Libernet "
                f"(format {self._version()}, this program knows {STATE_VERSION}): "
                "install the newest Libernet"
            )

    def make(self) -> None:
        """Check the data folder, and create what is missing, for this user alone (0700)."""
        self.check()
        for folder in (self.data, self.log_file.parent, self.runtime):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data.chmod(0o700)
        if not self._version():
            self._sign()

    def _sign(self) -> None:
        """Write the layout's number durably, before anything else is kept in the folder.

        Without it a power cut could leave a state folder that looks like somebody else's.
        """
        with (self.data / "version").open("w") as version_file:
            version_file.write(f"{STATE_VERSION}\n")
            version_file.flush()
            os.fsync(version_file.fileno())
        sync_folder(self.data)

    def _version(self) -> int:
        """Return the layout's number, 0 when it was not written yet.

        An empty file counts as not written: that is what a power cut in the first start leaves.
        """
        version_file = self.data / "version"
        try:
            text = version_file.read_bytes()[:20].strip()
        except FileNotFoundError:
            return 0
        if text and not text.isdigit():
            raise LibernetError(f"{version_file} does not hold a number: restore or delete it")
        return int(text or b"0")


def _forget_relative_folders() -> None:
    """Drop folders from the environment that are empty or relative.

    mount(8) runs its helpers with an empty HOME, which would lead to /.local; without HOME the
    home in passwd counts. The XDG specification asks to ignore relative folders.
    """
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        if not os.environ.get(name, "/").startswith("/"):
            del os.environ[name]
