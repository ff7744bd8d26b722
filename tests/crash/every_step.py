"""Kill a node in miniature at each step that it does on the disk, and look at what is left.

As a program, with step_killer preloaded: `every_step.py OPERATION KILLS` kills the operation, or
`repair`, at about so many of its steps, at each if KILLS is 0; `every_step.py load FIRST END` plays
with a node at random once for each number and kills it at a random step. Each time a fork of this
process is killed, and what it leaves behind is checked: the tree is one that was since the last
fsync that returned, and the consistency check finds nothing. It prints as JSON how often it killed.
"""

import ctypes
import json
import logging
import os
import pickle
import random
import shutil
import signal
import sqlite3
import stat
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).parents[2]))  # a program finds only its own folder

from libernet.fs.check.repair import repair
from libernet.fs.tree import RENAME_EXCHANGE
from tests.support.caller import Seen
from tests.support.consistency import assert_consistent
from tests.support.miniature import quick_folder, small_sizes
from tests.support.play import FIRST_STEPS, Play, Step, run_through
from tests.support.sharing import SharingNode, sharing_node

Picture = dict[str, Seen]

_DAMAGE = """
DELETE FROM entry WHERE name = CAST('one-1' AS BLOB);
DELETE FROM inode WHERE ino = (SELECT ino FROM entry WHERE name = CAST('moved' AS BLOB));
UPDATE inode SET nlink = 7 WHERE mode & 61440 = 4096;
INSERT INTO entry VALUES (1000, CAST('nothing' AS BLOB), 999999);
"""

_LOAD_STEPS = 60
_MOST_STEPS_ON_DISK = 400
"""How many steps on the disk a random play takes, about; some are over before the kill."""


class Killer:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.crash_count.restype = ctypes.c_long

    def arm(self, folder: Path, step: int) -> None:
        """Kill this process at its *step*-th change of a file below *folder*, at none if 0."""
        self._library.crash_arm(os.fsencode(folder), ctypes.c_long(step))

    def tell_steps(self, folder: Path) -> None:
        """Write into the file `steps` in *folder* how many steps there were."""
        (folder / "steps").write_text(str(self._library.crash_count()))


def _now() -> int:
    """Return one and the same time, so that the same work gives the same tree."""
    return 1_800_000_000 * 10**9


async def _work(node: SharingNode, seed: int) -> None:
    """Change a little of everything, without making it durable."""
    caller, draw = node.caller, random.Random(seed)
    for name in ("one", "two"):
        await caller.mkdir(f"backups/b/{name}-{seed}")
        await caller.create(f"backups/b/{name}-{seed}/small", draw.randbytes(300))
        await caller.create(f"backups/b/{name}-{seed}/large", draw.randbytes(30_000))
    await caller.symlink(f"backups/b/link-{seed}", "somewhere")
    await caller.link(f"backups/b/one-{seed}/small", f"backups/b/hard-{seed}")
    await caller.make(f"backups/b/fifo-{seed}", stat.S_IFIFO | 0o600)
    if seed:
        await caller.write(f"backups/b/two-{seed - 1}/large", 7_000, draw.randbytes(9_000))
        await caller.truncate(f"backups/b/two-{seed - 1}/large", 11_111)
        await caller.unlink(f"backups/b/hard-{seed - 1}")
        await caller.rename(f"backups/b/two-{seed - 1}", f"backups/b/two-{seed}/moved")


async def _checkpoint(node: SharingNode) -> None:
    await node.command("sync")


async def _seal(node: SharingNode) -> None:
    await node.node.files.seal_all()
    await node.command("sync")


async def _publish(node: SharingNode) -> None:
    await node.command("snapshot", name="b")


async def _publish_to_all(node: SharingNode) -> None:
    await node.command("publish-flat", path="backups/b")


async def _share(node: SharingNode) -> None:
    await node.share("backups/b/one-2")


async def _publish_a_stream(node: SharingNode) -> None:
    await node.command("publish-stream", path=__file__)


async def _collect(node: SharingNode) -> None:
    await node.command("gc")


async def _nothing(node: SharingNode) -> None:
    """Leave it to the node's end to make all durable."""


OPERATIONS: dict[str, Callable[[SharingNode], Awaitable[None]]] = {
    "checkpoint": _checkpoint,
    "seal": _seal,
    "publish": _publish,
    "publish-to-all": _publish_to_all,
    "publish-stream": _publish_a_stream,
    "share": _share,
    "collect": _collect,
    "start": _nothing,
    "end": _nothing,
}


async def _prepare(folder: Path, crashed: Path) -> None:
    """Make the state that operations begin with: killed amid work, with garbage to collect."""
    async with sharing_node(folder, clock=_now) as node:
        await node.caller.mkdir("backups/b")
        await _work(node, 0)
        await node.command("snapshot", name="b")
        await node.caller.create("backups/b/garbage", random.Random(1).randbytes(20_000))
        await _seal(node)
        await node.caller.unlink("backups/b/garbage")
        await _work(node, 1)
        unlinked = await node.caller.open("backups/b/one-0/large")
        await node.caller.unlink("backups/b/one-0/large")
        await node.command("sync")
        shutil.copytree(folder, crashed)
        node.node.namespace.close(unlinked)


async def _operate(folder: Path, operation: str, killer: Killer, step: int) -> None:
    """Do an operation behind some work, and be killed at one of its steps."""
    if operation == "start":
        killer.arm(folder, step)
    async with sharing_node(folder, clock=_now) as node:
        if operation != "start":
            await _work(node, 2)
            killer.arm(folder, step)
            await OPERATIONS[operation](node)
        if operation != "end":  # which is an operation of its own
            killer.tell_steps(folder.parent)
            os._exit(0)
    killer.tell_steps(folder.parent)


def _forked(body: Callable[[], None]) -> bool:
    """Run *body* in a fork; return whether it was killed. It must not fail."""
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException:  # noqa: BLE001 - whatever it was, the parent must hear of it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the operation failed, see above"
    return False


def kill_at_every_step(operation: str, kills: int, killer: Killer) -> int:
    """Kill *operation* at about so many steps, at each if *kills* is 0; return how often."""

    def operate(folder: Path, step: int) -> None:
        run_through(_operate, folder, operation, killer, step)

    with quick_folder() as work:
        run_through(_prepare, work / "node", work / "begun")
        before = _found(work / "begun", work)
        return _kill_at_steps(work, kills, operate, lambda folder: None, before)


def kill_at_every_step_of_a_repair(kills: int, killer: Killer) -> int:
    """Kill a repair like an operation; a second one always comes to the same end."""

    def mend(folder: Path, step: int) -> None:
        killer.arm(folder, step)
        assert repair(folder, clock=_now) != []
        killer.tell_steps(folder.parent)

    with quick_folder() as work:
        run_through(_prepare, work / "node", work / "begun")
        with sqlite3.connect(work / "begun" / "journal.sqlite") as journal:
            journal.executescript(_DAMAGE)
        journal.close()
        return _kill_at_steps(work, kills, mend, lambda folder: repair(folder, clock=_now), None)


def _kill_at_steps(
    work: Path,
    kills: int,
    act: Callable[[Path, int], None],
    recover: Callable[[Path], object],
    before: Picture | None,
) -> int:
    """Kill *act* at steps of it, each time on a copy of what begun/ in *work* holds.

    What *recover* makes of that is either as after the whole of it, or as *before*.
    """
    begun, whole, state = work / "begun", work / "whole", work / "state"
    shutil.copytree(begun, whole)
    assert not _forked(partial(act, whole, 0))
    after = _found(whole, work)
    steps = int((work / "steps").read_text())
    killed = 0
    for step in range(1, steps + 1, max(1, steps // kills) if kills else 1):
        shutil.copytree(begun, state)
        was_killed = _forked(partial(act, state, step))
        recover(state)
        found = _found(state, work)
        # All of it is one transaction: either it is there or not.
        assert found == after or (was_killed and found == before), f"at step {step}"
        shutil.rmtree(state)
        killed += was_killed
    return killed


def _found(folder: Path, work: Path) -> Picture:
    """Return the tree that the next start finds, after the check; its node then gets through."""
    assert_consistent(folder)
    copy = work / "copy"
    shutil.copytree(folder, copy)
    found: list[Picture] = []

    async def look() -> None:
        async with sharing_node(copy, clock=_now) as node:
            found.append(await node.caller.picture("backups"))

    run_through(look)
    shutil.rmtree(copy)
    return found[0]


class _Told(Play):
    """A play that tells each state of the model to a file, and which one is durable."""

    def __init__(self, folder: Path, file: BinaryIO) -> None:
        self._file = file
        super().__init__(folder)
        self._tell(("state", {}))

    def _tell(self, what: tuple[str, object]) -> None:
        pickle.dump(what, self._file)
        self._file.flush()

    def _changed(self) -> None:
        super()._changed()
        self._tell(("state", self.history[-1]))

    async def _fsync(self) -> None:
        await super()._fsync()
        self._tell(("durable", self.durable_at))

    async def do_collect(self) -> None:
        await self.node.collector.collect()


async def _play(folder: Path, told: Path, seed: int, killer: Killer) -> None:
    draw = random.Random(seed)
    with told.open("wb") as file:
        play = _Told(folder, file)
        async with play.session():
            killer.arm(folder, draw.randrange(1, _MOST_STEPS_ON_DISK))
            for call, *arguments in [*FIRST_STEPS, *_steps(seed)]:
                await play.step(call, arguments)
        play._tell(("durable", len(play.history) - 1))


def _steps(seed: int) -> list[Step]:
    """Return random steps, the same for each seed."""
    draw = random.Random(seed)
    pick = lambda: draw.randrange(30)  # noqa: E731 - a name for what each step takes
    name = lambda: draw.choice(["a", "b", "c", "\udcff"])  # noqa: E731
    size = lambda: draw.choice([1, 100, 4096, 4097, 13_000, 30_000])  # noqa: E731
    kinds: list[Callable[[], Step]] = [
        lambda: ("mkdir", pick(), name()),
        lambda: ("create", pick(), name(), size(), seed),
        lambda: ("symlink", pick(), name(), "somewhere"),
        lambda: ("write", pick(), draw.choice([-1, 0, 10, 5000]), size(), seed + 1),
        lambda: ("write_more", pick(), size(), draw.randint(1, 6), seed),
        lambda: ("truncate", pick(), size()),
        lambda: ("unlink", pick()),
        lambda: ("rmdir", pick()),
        lambda: ("link", pick(), pick(), name()),
        lambda: ("rename", pick(), pick(), name(), 0),
        lambda: ("rename", pick(), pick(), name(), RENAME_EXCHANGE),
        lambda: ("change", pick(), 0o640, 1, 10**18),
        lambda: ("open", pick()),
        lambda: ("close", pick()),
        lambda: ("write_open", pick(), -1, size(), seed + 2),
        lambda: ("fsync",),
        lambda: ("fsync_aside",),
        lambda: ("seal", True),
        lambda: ("give_way",),
        lambda: ("publish",),
        lambda: ("collect",),
    ]
    return [draw.choice(kinds)() for _ in range(_LOAD_STEPS)]


def kill_under_load(seeds: range, killer: Killer) -> int:
    """Play at random and kill, once for each of *seeds*; return how often the kill came in time."""
    killed = 0
    for seed in seeds:
        with quick_folder() as work:
            state, told = work / "state", work / "told"
            killed += _forked(partial(run_through, _play, state, told, seed, killer))
            history: list[Picture] = []
            durable_at = 0
            with told.open("rb") as file:
                while record := _next(file):
                    if record[0] == "state":
                        history.append(record[1])
                    else:
                        durable_at = max(durable_at, record[1])
            found = _found(state, work)
            assert found in history[durable_at:], f"seed {seed}"
    return killed


def _next(file: BinaryIO) -> tuple[str, object] | None:
    """Return the next record; None at the end, where a kill may have cut one off.

    What it was to tell cannot be durable: a commit has what there was when the loop ran last.
    """
    try:
        record: tuple[str, object] = pickle.load(file)
    except (EOFError, pickle.UnpicklingError):
        return None
    return record


def main(words: list[str]) -> None:
    logging.disable(logging.CRITICAL)
    killer = Killer()
    with small_sizes():
        match words:
            case "load", first, last:
                killed = kill_under_load(range(int(first), int(last)), killer)
            case "repair", kills:
                killed = kill_at_every_step_of_a_repair(int(kills), killer)
            case operation, kills:
                killed = kill_at_every_step(operation, int(kills), killer)
    print(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main(sys.argv[1:])
