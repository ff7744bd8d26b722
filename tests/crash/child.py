"""The child process that makes the calls of a workload, one by one, and tells of each.

As a program: `child.py run STEPS FOLDER PAUSE [--sync]` makes the calls that the JSON file STEPS
lists, PAUSE seconds apart, and with --sync syncs the folder all the time beside them. It writes to
its standard output

    started NUMBER NANOSECONDS    before each call
    fsynced NUMBER                after an fsync that returned: the last call that it covers
    failed NUMBER ERRNO           after a call that failed, which is the last
    finished                      after all

`child.py observe FOLDER` prints as JSON what is in a folder. Neither loads libernet.
"""

import dataclasses
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # a program finds only its own folder

from tests.crash.model import Content, Step, observe

_OPEN_FILES = 4


def save(steps: list[Step], file: Path) -> None:
    """Write *steps* for the child."""
    file.write_text(json.dumps([dataclasses.astuple(step) for step in steps]))


def _load(file: Path) -> list[Step]:
    loaded = []
    for call, path, value, other, content in json.loads(file.read_text()):
        loaded.append(Step(call, path, value, other, Content(*content) if content else None))
    return loaded


class Caller:
    """Make the calls.

    State: _open, files that stay open by path, least used first; _unlinked, open ones without a
    name.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()
        self._unlinked: list[int] = []

    def make(self, step: Step) -> None:
        """Make one call; those to open and close files may come with it."""
        getattr(self, f"_{step.call}")(self._at(step.path), step)

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}" if path else self._folder

    def _mkdir(self, path: str, step: Step) -> None:
        os.mkdir(path, step.value)

    def _create(self, path: str, step: Step) -> None:
        self._keep(step.path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, step.value))

    def _symlink(self, path: str, step: Step) -> None:
        os.symlink(step.other, path)

    def _link(self, path: str, step: Step) -> None:
        os.link(path, self._at(step.other))

    def _unlink(self, path: str, step: Step) -> None:
        os.unlink(path)
        self._lose(step.path)

    def _rmdir(self, path: str, step: Step) -> None:
        os.rmdir(path)

    def _rename(self, path: str, step: Step) -> None:
        os.rename(path, self._at(step.other))
        self._lose(step.other)
        for name in list(self._open):
            if name == step.path or name.startswith(f"{step.path}/"):
                os.close(self._open.pop(name))

    def _write(self, path: str, step: Step) -> None:
        assert step.content is not None
        content = step.content.read()
        assert os.pwrite(self._file(step.path), content, step.value) == len(content)

    def _write_unlinked(self, path: str, step: Step) -> None:
        assert step.content is not None
        for file in self._unlinked:
            if os.fstat(file).st_nlink == 0:  # else another name, or the same one, is left
                os.write(file, step.content.read())

    def _truncate(self, path: str, step: Step) -> None:
        if step.path in self._open:
            os.ftruncate(self._open[step.path], step.value)
        else:
            os.truncate(path, step.value)

    def _chmod(self, path: str, step: Step) -> None:
        os.chmod(path, step.value)

    def _setxattr(self, path: str, step: Step) -> None:
        assert step.content is not None
        os.setxattr(path, step.other, step.content.read())

    def _removexattr(self, path: str, step: Step) -> None:
        os.removexattr(path, step.other)

    def _utimens(self, path: str, step: Step) -> None:
        os.utime(path, ns=(step.value, step.value), follow_symlinks=False)

    def _fsync(self, path: str, step: Step) -> None:
        os.fsync(self._file(step.path))

    def _fsync_folder(self, path: str, step: Step) -> None:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _file(self, path: str) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        return self._keep(path, os.open(self._at(path), os.O_RDWR))

    def _keep(self, path: str, file: int) -> int:
        self._open[path] = file
        if len(self._open) > _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return file

    def _lose(self, path: str) -> None:
        """Keep a file open whose name has gone, for a while."""
        if path in self._open:
            self._unlinked.append(self._open.pop(path))
        if len(self._unlinked) > _OPEN_FILES:
            os.close(self._unlinked.pop(0))


class Syncer(threading.Thread):
    """Sync the folder again and again while the calls are made: checkpoints at any moment.

    State: done, how many calls have returned.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(daemon=True)
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.done = 0

    def run(self) -> None:
        while True:
            done = self.done
            try:
                os.fsync(self._folder)
            except OSError:
                return
            os.write(1, b"fsynced %d\n" % (done - 1))


def run(steps_file: Path, folder: str, *, pause_seconds: float, syncs: bool) -> None:
    """Make all calls in *folder* and report."""
    os.umask(0)
    caller = Caller(folder)
    syncer = Syncer(folder)
    if syncs:
        syncer.start()
    for number, step in enumerate(_load(steps_file)):
        time.sleep(pause_seconds)
        os.write(1, b"started %d %d\n" % (number, time.monotonic_ns()))
        try:
            caller.make(step)
        except OSError as exc:
            os.write(1, b"failed %d %d\n" % (number, exc.errno or 0))
            return
        if step.call.startswith("fsync"):
            os.write(1, b"fsynced %d\n" % number)
        syncer.done = number + 1
    os.write(1, b"finished\n")


def main(arguments: list[str]) -> None:
    match arguments:
        case "observe", folder:
            print(json.dumps(observe(Path(folder))), flush=True)
        case "run", steps_file, folder, pause, *options:
            syncs = "--sync" in options
            run(Path(steps_file), folder, pause_seconds=float(pause), syncs=syncs)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # closing files at the end would only ask a dead mount once more
