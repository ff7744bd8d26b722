"""The convergence secret: made once, kept, and never taken from a doubtful file."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libernet.blocks.errors import StoreError
from libernet.blocks.secret import load_or_create_secret


def test_the_secret_is_made_once_and_found_again(tmp_path: Path) -> None:
    secret = load_or_create_secret(tmp_path / "secret")
    assert len(secret) == 32
    assert (tmp_path / "secret").read_bytes() == secret
    assert load_or_create_secret(tmp_path / "secret") == secret


def test_each_folder_gets_a_secret_of_its_own(tmp_path: Path) -> None:
    one, two = load_or_create_secret(tmp_path / "one"), load_or_create_secret(tmp_path / "two")
    assert one != two


def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        load_or_create_secret(tmp_path / "secret")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    load_or_create_secret(tmp_path / "secret")
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_all_who_make_it_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    makers = 8
    start = threading.Barrier(makers)

    def make(_: int) -> bytes:
        start.wait(timeout=30)
        return load_or_create_secret(tmp_path / "secret")

    with ThreadPoolExecutor(makers) as pool:
        secrets = set(pool.map(make, range(makers)))
    assert secrets == {(tmp_path / "secret").read_bytes()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_maker_that_died_halfway_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", power_cut)
        with pytest.raises(KeyboardInterrupt):
            load_or_create_secret(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()
    assert len(load_or_create_secret(tmp_path / "secret")) == 32


@pytest.mark.parametrize("size_bytes", [0, 31, 33])
def test_a_file_of_the_wrong_size_is_refused_and_left_alone(
    tmp_path: Path, size_bytes: int
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(bytes(size_bytes))
    path.chmod(0o600)
    with pytest.raises(StoreError, match=f"{path} has {size_bytes} bytes instead of 32.*move this"):
        load_or_create_secret(path)
    assert path.read_bytes() == bytes(size_bytes)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_is_open_to_others_is_refused_with_what_to_do(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "secret"
    load_or_create_secret(path)
    path.chmod(mode)
    with pytest.raises(StoreError, match=rf"open to others \(mode {mode:04o}\).*chmod 600 {path}"):
        load_or_create_secret(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        load_or_create_secret(tmp_path / "secret")


def test_a_pipe_in_its_place_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret", 0o600)
    with pytest.raises(StoreError, match="not a regular file"):
        load_or_create_secret(tmp_path / "secret")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "secret"
    with pytest.raises(StoreError, match=f"{path} cannot be read or made: No such file"):
        load_or_create_secret(path)


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(tmp_path / "unplugged")
    with pytest.raises(StoreError, match="cannot be read or made"):
        load_or_create_secret(tmp_path / "secret")
