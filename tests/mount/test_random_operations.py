"""Random things done to a backup and to a folder of the machine's own: both stay alike."""

import errno
import functools
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.linux import RENAME_EXCHANGE, RENAME_NOREPLACE, rename2
from tests.support.node import Node
from tests.support.tree import Picture, assert_same, picture

_NAMES = st.sampled_from(["a", "b", "\udcff\udcfe", "ü" * 100])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_SIZES = st.sampled_from([0, 1, 100, 4095, 4096, 70_000, 1_048_544, 2_500_000])
_SEEDS = st.integers(0, 5)
_PICK = st.integers(0, 10)


class _Both(RuleBasedStateMachine):
    """Each rule is one operation, done to both; its outcome is the same, an errno included.

    State: handles, open files of both as (in the mount, outside); history, snapshots with what they
    must show.
    """

    node: Node
    outside: Path
    count = 0

    @initialize()
    def begin(self) -> None:
        type(self).count += 1
        self.began_ns = time.time_ns() - 10**9  # some clocks are behind
        self.name = f"example {self.count}"
        self.places = (self.node.backups / self.name, self.outside / self.name)
        for place in self.places:
            place.mkdir()
        self.handles: list[tuple[int, int]] = []
        self.history: list[tuple[str, Picture]] = []

    def teardown(self) -> None:
        self._close_all()
        for reference, expected in self.history:
            assert_same(expected, self._timeless(self.node.at(reference), links=False))
        self.node.run("rm", "-rf", self.places[0])
        shutil.rmtree(self.places[1])

    @invariant()
    def names_agree(self) -> None:
        inside, outside = (sorted(os.listdir(place)) for place in self.places)
        assert inside == outside

    @rule()
    def look_at_everything(self) -> None:
        inside, outside = (self._timeless(place) for place in self.places)
        assert_same(outside, inside)
        for path in map(os.fsdecode, outside):
            inside, outside = (_attributes(place / path) for place in self.places)
            assert inside == outside

    @rule(path=_PATHS)
    def mkdir(self, path: str) -> None:
        self._do(lambda place: (place / path).mkdir())

    @rule(path=_PATHS, size=_SIZES, seed=_SEEDS)
    def write_anew(self, path: str, size: int, seed: int) -> None:
        content = _bits(seed, size)
        self._do(lambda place: (place / path).write_bytes(content))

    @rule(path=_PATHS, size=_SIZES, seed=_SEEDS)
    def append(self, path: str, size: int, seed: int) -> None:
        def act(place: Path) -> None:
            with (place / path).open("ab") as file:
                file.write(_bits(seed, size))

        self._do(act)

    @rule(path=_PATHS, offset=_SIZES, size=_SIZES, seed=_SEEDS)
    def overwrite(self, path: str, offset: int, size: int, seed: int) -> None:
        def act(place: Path) -> None:
            with (place / path).open("r+b", buffering=0) as file:
                file.seek(offset)
                file.write(_bits(seed, size))

        self._do(act)

    @rule(path=_PATHS, size=_SIZES)
    def truncate(self, path: str, size: int) -> None:
        self._do(lambda place: os.truncate(place / path, size))

    @rule(path=_PATHS)
    def unlink(self, path: str) -> None:
        self._do(lambda place: (place / path).unlink())

    @rule(path=_PATHS)
    def rmdir(self, path: str) -> None:
        self._do(lambda place: (place / path).rmdir())

    @rule(path=_PATHS)
    def remove_tree(self, path: str) -> None:
        self._do(lambda place: shutil.rmtree(place / path))

    @rule(path=_PATHS, new=_PATHS)
    def link(self, path: str, new: str) -> None:
        self._do(lambda place: os.link(place / path, place / new, follow_symlinks=False))

    @rule(path=_PATHS, text=_PATHS)
    def symlink(self, path: str, text: str) -> None:
        self._do(lambda place: (place / path).symlink_to(text))

    @rule(old=_PATHS, new=_PATHS, flags=st.sampled_from([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]))
    def rename(self, old: str, new: str, flags: int) -> None:
        self._do(lambda place: rename2(str(place / old), str(place / new), flags))

    @rule(path=_PATHS, mode=st.integers(0, 0o1777).map(lambda mode: mode | 0o700))
    def chmod(self, path: str, mode: int) -> None:
        self._do(lambda place: (place / path).chmod(mode))

    @rule(path=_PATHS, mtime_ns=st.integers(0, 10**18))
    def set_time(self, path: str, mtime_ns: int) -> None:
        self._do(lambda place: os.utime(place / path, ns=(0, mtime_ns), follow_symlinks=False))

    @rule(path=_PATHS, size=st.sampled_from([0, 10, 3000]))
    def set_attribute(self, path: str, size: int) -> None:
        self._do(lambda place: os.setxattr(place / path, "user.x", b"x" * size))

    @rule(path=_PATHS)
    def remove_attribute(self, path: str) -> None:
        self._do(lambda place: os.removexattr(place / path, "user.x"))

    @rule(old=_PATHS, new=_PATHS)
    def copy_tree(self, old: str, new: str) -> None:
        assume(not f"{new}/".startswith(f"{old}/"))  # it would go on for ever
        self._do(lambda place: shutil.copytree(place / old, place / new, symlinks=True))

    @rule(path=_PATHS, flags=st.sampled_from([os.O_CREAT, os.O_TRUNC, os.O_APPEND]))
    def open(self, path: str, flags: int) -> None:
        inside, outside = self._do(lambda place: os.open(place / path, os.O_RDWR | flags, 0o644))
        if isinstance(inside, int) and isinstance(outside, int):
            self.handles.append((inside, outside))

    @rule(pick=_PICK, offset=_SIZES, size=_SIZES, seed=_SEEDS)
    def use(self, pick: int, offset: int, size: int, seed: int) -> None:
        """Write to an open file, that may have no name any more, and read all of it."""
        if self.handles:
            for file in (handles := self.handles[pick % len(self.handles)]):
                os.pwrite(file, _bits(seed, size), offset)
            inside, outside = (os.pread(file, 20_000_000, 0) for file in handles)
            assert inside == outside
            assert os.fstat(handles[0]).st_nlink == os.fstat(handles[1]).st_nlink

    @rule(pick=_PICK)
    def close(self, pick: int) -> None:
        if self.handles:
            for file in self.handles.pop(pick % len(self.handles)):
                os.close(file)

    @rule(pick=_PICK)
    def fsync(self, pick: int) -> None:
        if self.handles:
            os.fsync(self.handles[pick % len(self.handles)][0])

    @rule()
    def snapshot(self) -> None:
        expected = self._timeless(self.places[1], links=False)
        self.history.append((self.node.snapshot(self.name), expected))

    @rule(how=st.sampled_from(["unmount", "kill"]))
    def remount(self, how: str) -> None:
        self._close_all()
        if how == "kill":
            self.node.libernet("sync")
            self.node.kill()
            self.node.mount()
        else:
            self.node.remount()
        self.look_at_everything()

    def _do(self, act: Callable[[Path], object]) -> tuple[object, object]:
        """Do it in both places and return what came out; it fails in both or in neither."""
        results: list[object] = []
        failures: list[str] = []
        for place in self.places:
            try:
                results.append(act(place))
                failures.append("")
            except OSError as exc:  # shutil collects several, without a number
                failures.append(errno.errorcode.get(exc.errno or 0, "some"))
        assert failures[0] == failures[1]
        return (results[0], results[1]) if results else (None, None)

    def _close_all(self) -> None:
        for file in (file for pair in self.handles for file in pair):
            os.close(file)
        self.handles = []

    def _timeless(self, root: Path, *, links: bool = True) -> Picture:
        """Return the picture with the times that somebody set, and the others as one."""
        found = picture(root, links=links, top=False)
        return {
            path: replace(look, mtime_ns=min(look.mtime_ns, self.began_ns))
            for path, look in found.items()
        }


def _attributes(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


@functools.cache
def _bits(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize(
    "examples", [6, pytest.param(100, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_a_backup_and_a_folder_stay_alike(node: Node, tmp_path: Path, examples: int) -> None:
    node.mount()
    (tmp_path / "outside").mkdir()

    def machine() -> _Both:
        both = _Both()
        both.node, both.outside = node, tmp_path / "outside"
        return both

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=70,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    node.libernet("check", "--read")  # which must find nothing
