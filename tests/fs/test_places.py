import os
import pwd
from pathlib import Path

import pytest

from libernet.blocks.errors import LibernetError, StoreVersion
from libernet.fs.places import Places


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("XDG_", "LIBERNET_")):
            monkeypatch.delenv(name)


def test_a_state_folder_holds_everything(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "state")
    assert places.data == places.runtime == tmp_path / "state"
    assert places.config_file == tmp_path / "state" / "config.toml"
    assert places.log_file == tmp_path / "state" / "libernet.log"


def test_without_a_state_folder_the_xdg_folders_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    places = Places.of(None)
    assert places.data == Path("/home/somebody/.local/share/libernet")
    assert places.config_file == tmp_path / "libernet" / "config.toml"
    assert places.log_file == Path("/home/somebody/.local/state/libernet/libernet.log")


@pytest.mark.parametrize("home", ["", None])
def test_without_home_as_under_mount_8_the_home_in_passwd_counts(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert Places.of(None).data == own / ".local/share/libernet"


def test_the_environment_names_the_state_folder_unless_an_option_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBERNET_STATE", str(tmp_path / "one"))
    assert Places.of(None).data == tmp_path / "one"
    assert Places.of(tmp_path / "two").data == tmp_path / "two"


def test_a_relative_state_folder_becomes_absolute_because_the_daemon_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Places.of(Path("state")).data == tmp_path / "state"


def test_folders_are_made_for_the_user_alone(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "a" / "state")
    places.make()
    assert places.data.stat().st_mode & 0o777 == 0o700
    assert (places.data / "version").read_text() == "1\n"
    places.make()


def test_a_folder_with_only_a_configuration_can_become_a_state_folder(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    Places.of(tmp_path).make()
    assert (tmp_path / "version").exists()


def test_a_start_cut_off_while_the_version_was_written_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "version").touch()
    (tmp_path / "lock").touch()
    Places.of(tmp_path).make()
    assert (tmp_path / "version").read_text() == "1\n"


def test_other_peoples_folders_are_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(LibernetError, match="not Libernet's"):
        Places.of(tmp_path).make()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_a_state_folder_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("2\n")
    with pytest.raises(StoreVersion, match=r"newer version .* install the newest"):
        Places.of(tmp_path).make()


def test_a_damaged_version_is_reported(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("one")
    with pytest.raises(LibernetError, match="does not hold a number"):
        Places.of(tmp_path).check()
