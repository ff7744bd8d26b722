import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.fs.keys import KEYS
from libernet.fs.mount_options import read_mount_options
from libernet.fs.settings import Settings, read_config, read_environment


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_each_configurable_key_is_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}
    assert {key.name for key in KEYS.values() if key.configurable} <= names


def test_without_a_file_nothing_is_set(config: Path) -> None:
    assert read_config(config) == {}
    assert Settings.of(Path("/mnt"), "libernet") == Settings(Path("/mnt"))


def test_a_file_sets_every_key(config: Path) -> None:
    config.write_text(
        """
        port = 0
        bind = "::1"
        peers = ["a.example:4848", "[::1]:1"]
        lan = false
        allow_other = true
        uid = "root"
        gid = 7
        read_only = true
        accept_from = ["anybody"]
        accept_unsigned_from = ["192.168.1.0/24", "::1"]
        held_bytes = 1
        guest_bytes = 2
        upload_bytes_per_second = 3
        download_bytes_per_second = 4
        max_connections = 5
        announce_bytes_per_second = 0
        publish_after_seconds = 60
        checkpoint_seconds = 0.5
        poll_shim = false
        log_level = "debug"
        """
    )
    assert Settings.of(Path("/mnt"), "src", read_config(config)) == Settings(
        Path("/mnt"),
        "src",
        port=0,
        bind="::1",
        peers=("a.example:4848", "[::1]:1"),
        lan=False,
        allow_other=True,
        uid=0,
        gid=7,
        read_only=True,
        accept_from=("anybody",),
        accept_unsigned_from=("192.168.1.0/24", "::1"),
        held_bytes=1,
        guest_bytes=2,
        upload_bytes_per_second=3,
        download_bytes_per_second=4,
        max_connections=5,
        announce_bytes_per_second=0,
        publish_after_seconds=60.0,
        checkpoint_seconds=0.5,
        poll_shim=False,
        log_level="debug",
    )


def test_options_win_over_the_environment_and_that_over_the_file(config: Path) -> None:
    config.write_text("port = 1\nbind = '127.0.0.1'\nlan = false")
    environment = {"LIBERNET_PORT": "2", "LIBERNET_BIND": "127.0.0.2", "LIBERNET_UID": ""}
    found = Settings.of(
        Path("/mnt"),
        "libernet",
        read_config(config),
        read_environment(environment),
        read_mount_options(["port=3"]),
    )
    assert (found.port, found.bind, found.lan, found.uid) == (3, "127.0.0.2", False, None)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("\n\nprot = 1", 3, "no key 'prot'"),
        ("port = 1\n[network]\nport = 2", 2, "no key 'network'"),
        ("foreground = true", 1, "no key 'foreground'"),
        ("lan = true\nport = '4848'", 2, "port must be a whole number"),
        ("port = true", 1, "port must be a whole number"),
        ("port = 65536", 1, "port must be a whole number from 0 to 65535, not 65536"),
        ("lan = 1", 1, "lan must be true or false"),
        ("peers = 'a:1'", 1, "peers must be a list"),
        ("peers = [1]", 1, "peers must be a list"),
        ("bind = 'localhost'", 1, "bind must be an IPv4 or IPv6 address"),
        ("bind = 1", 1, "bind must be an IPv4 or IPv6 address"),
        ("checkpoint_seconds = 6", 1, "checkpoint_seconds must be a number of seconds"),
        ("checkpoint_seconds = nan", 1, "checkpoint_seconds must be a number of seconds"),
        ("log_level = 'loud'", 1, "log_level must be one of"),
        ("uid = -1", 1, "uid must be the number or the name of a user"),
        ("uid = 4294967295", 1, "uid must be the number or the name of a user"),
        ("uid = 'nobody by this name'", 1, "uid must be the number or the name of a user"),
        ("gid = 1.5", 1, "gid must be the number or the name of a group"),
        ("port = 1\nport = 2\n", 2, "not TOML"),
        ("port 1", 1, "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_shown_with_its_line(
    config: Path, text: str, line: int, complaint: str
) -> None:
    config.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_config(config)
    assert complaint in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert str(config) in str(caught.value)


def test_a_file_that_is_no_text_or_endless_is_refused(config: Path) -> None:
    config.write_bytes(b"\xff")
    with pytest.raises(FormatError, match="not TOML"):
        read_config(config)
    with pytest.raises(FormatError, match="larger than"):
        read_config(Path("/dev/zero"))


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(FormatError, match="LIBERNET_LAN: lan must be true or false, not 'maybe'"):
        read_environment({"LIBERNET_LAN": "maybe"})


def test_the_environment_leaves_other_variables_alone() -> None:
    assert read_environment({"LIBERNET_STATE": "/x", "LIBERNET_COLOUR": "red"}) == {}


def test_mount_options_have_the_names_of_the_keys_with_hyphens_or_underscores() -> None:
    found = read_mount_options(["allow-other,no_lan,port=1", "uid=root,state=/a b,no-poll-shim"])
    assert found == {
        "allow_other": True,
        "lan": False,
        "port": 1,
        "uid": 0,
        "state": "/a b",
        "poll_shim": False,
    }


def test_peer_may_be_repeated_and_keep_its_order() -> None:
    assert read_mount_options(["peer=b:1,peer=a:2", "peer=c:3"]) == {
        "peers": ("b:1", "a:2", "c:3"),
    }


def test_a_value_in_quotes_may_hold_a_comma() -> None:
    assert read_mount_options(['state="/a,b",ro']) == {"state": "/a,b", "read_only": True}


def test_generic_options_of_mount_8_are_taken() -> None:
    generic = (
        "rw,noatime,relatime,nodiratime,atime,strictatime,_netdev,nofail,user,users,owner,group,"
        "auto,noauto,defaults,exec,suid,nosuid,dev,nodev,sync,async,dirsync,"
        "x-systemd.automount,x-gvfs-name=a,comment=b,user=alice,,"
    )
    assert read_mount_options([generic]) == {"read_only": False, "noexec": False}
    assert read_mount_options(["noexec,ro,rw"]) == {"read_only": False, "noexec": True}


@pytest.mark.parametrize(
    "option",
    [
        "remount",
        "colour=red",
        "no_port",
        "no-lan=yes",
        "peers=a:1",
        "port",
        "port=",
        "port=1e3",
        "lan=2",
        'state="/a',
        "no_",
        "=",
        "uid=",
    ],
)
def test_unknown_or_odd_mount_options_are_refused(option: str) -> None:
    with pytest.raises(FormatError):
        read_mount_options([option])


def test_sloppy_passes_over_unknown_options_but_not_over_odd_values() -> None:
    assert read_mount_options(["colour=red,port=1"], sloppy=True) == {"port": 1}
    with pytest.raises(FormatError):
        read_mount_options(["port=one"], sloppy=True)


@settings(deadline=None)
@given(st.text())
def test_any_mount_options_are_values_or_a_format_error(text: str) -> None:
    try:
        found = read_mount_options([text])
    except FormatError:
        return
    assert found.keys() <= KEYS.keys() | {"noexec"}


def test_this_users_number_is_accepted_as_it_is() -> None:
    assert read_mount_options([f"uid={os.getuid()}"]) == {"uid": os.getuid()}
