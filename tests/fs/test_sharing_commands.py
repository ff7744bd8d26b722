"""share, open, close and peers, as a person types them, with a stand-in for the mount."""

import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from libernet.blocks.errors import LibernetError
from libernet.fs.commands import main
from libernet.fs.control import ControlServer
from libernet.fs.describe import describe
from libernet.fs.describe_network import describe_peers
from libernet.fs.lock import Phase, StateLock

ID, KEY = "1" * 64, "2" * 64
REFERENCE = f"/sha256/{ID}/aes256gcm/{KEY}"

PEERS: dict[str, Any] = {
    "listening": 4848,
    "node": "ab" * 32,
    "connections": 1,
    "fetched": {"blocks": 21, "bytes": 5_000_000, "bytes_per_second": 0},
    "served": {"blocks": 1, "bytes": 2048, "bytes_per_second": 1024},
    "peers": [
        {
            "address": "10.0.0.7:4848",
            "node_id": "5e" * 20,
            "delivered": 1,
            "bytes": 900,
            "bytes_per_second": 0,
            "round_trip_seconds": 0.0004,
            "failed": 0,
            "rests_seconds": 0.0,
            "last_error": "",
        },
        {
            "address": "10.0.0.8:4848",
            "node_id": None,
            "delivered": 20,
            "bytes": 4_999_100,
            "bytes_per_second": 2_000_000,
            "round_trip_seconds": 0.05,
            "failed": 1,
            "rests_seconds": 0.0,
            "last_error": "it was late",
        },
        {
            "address": "10.0.0.9:4848",
            "node_id": None,
            "delivered": 0,
            "bytes": 0,
            "bytes_per_second": 0,
            "round_trip_seconds": None,
            "failed": 3,
            "rests_seconds": 90.0,
            "last_error": "it sent wrong bytes",
        },
    ],
    "discovery": {
        "members": [
            {"kind": "static", "peers": ["10.0.0.7:4848"]},
            {"kind": "lan", "peers": ["10.0.0.8:4848"]},
            {
                "kind": "dht",
                "is_running": True,
                "is_reachable": True,
                "contacts": 3,
                "records": 1200,
                "announced": 1,
            },
        ]
    },
    "not_announced": [],
    "sweep": {
        "blocks": 1234,
        "share": 0.42,
        "started": 1.8e9,
        "changes": 1,
        "bytes_per_second": 16384,
        "failure": None,
    },
    "failures": [],
}

STATUS: dict[str, Any] = {
    "mountpoint": "/home/ada/Libernet",
    "pid": 4711,
    "version": "1.2",
    "not_durable": {"files": 0, "bytes": 0},
    "backups": [],
    "store": {"blocks": 0, "bytes": 0},
    "network": PEERS | {"not_announced": [ID, KEY]},
    "failures": [
        {"block": ID, "path": "/a/b", "since_seconds": 61.4, "asked": ["10.0.0.7:4848"]},
        {"block": KEY, "path": "", "since_seconds": 0.2, "asked": []},
    ],
}


class StandIn:
    """A mount at `mountpoint` with the state folder `state`; `asked` is what it was told to do."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.mountpoint = folder / "Libernet"
        self.asked: list[dict[str, Any]] = []

    async def run(self, *arguments: str) -> int:
        return await trio.to_thread.run_sync(main, ["--state", str(self.state), *arguments])

    async def share(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(arguments)
        return {"reference": REFERENCE}

    async def open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(arguments)
        name = arguments["name"] or ID[:12]
        return {"name": name, "path": f"{self.mountpoint}/bundles/{name}"}

    async def close(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments != {"name": "gift"}:
            raise LibernetError(f"no bundle named {arguments['name']!r} is open")
        return {}

    async def peers(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return PEERS


@pytest.fixture
async def mounted(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[StandIn]:
    stand_in = StandIn(tmp_path)
    stand_in.state.mkdir()
    (stand_in.mountpoint / "backups" / "b" / "backups" / "x").mkdir(parents=True)
    handlers = {name: getattr(stand_in, name) for name in ("share", "open", "close", "peers")}
    await nursery.start(ControlServer(stand_in.state, handlers).run)
    with StateLock.acquire(stand_in.state, stand_in.mountpoint) as lock:
        lock.mark(Phase.MOUNTED)
        yield stand_in


@pytest.mark.parametrize(
    ("where", "typed", "shared"),
    [
        ("/", "{mountpoint}/backups/b/file", "backups/b/file"),
        ("/", "{mountpoint}/backups/b/file/", "backups/b/file"),
        ("/", "{mountpoint}/backups/b/d/../file", "backups/b/file"),
        ("/", "backups/b/file", "backups/b/file"),
        ("/", "./backups//b/d/../file", "backups/b/file"),
        ("/", "snapshots/b/latest", "snapshots/b/latest"),
        ("/", "bundles/gift", "bundles/gift"),
        ("/", "{mountpoint}", "."),
        ("{mountpoint}", "backups/b/file", "backups/b/file"),
        ("{mountpoint}/backups/b", "file", "backups/b/file"),
        ("{mountpoint}/backups/b", ".", "backups/b"),
        ("{mountpoint}/backups/b", "backups/x", "backups/b/backups/x"),
        ("{mountpoint}/..", "Libernet/backups/caf\udce9", "backups/caf\udce9"),
        ("/", "{link}/backups/b", "backups/b"),
        ("/", "{link}/backups/b/missing/too", "backups/b/missing/too"),
        ("{link}/backups/b", "file", "backups/b/file"),
        ("/", "{link}", "."),
        ("/", "{link}-to-x", "backups/b/backups/x"),
    ],
)
async def test_a_path_is_shared_wherever_the_person_is(
    mounted: StandIn, monkeypatch: pytest.MonkeyPatch, where: str, typed: str, shared: str
) -> None:
    link = mounted.mountpoint.with_name("link")
    link.symlink_to(mounted.mountpoint)
    link.with_name("link-to-x").symlink_to("Libernet/backups/b/backups/x")
    monkeypatch.chdir(where.format(mountpoint=mounted.mountpoint, link=link))
    path = typed.format(mountpoint=mounted.mountpoint, link=link)
    assert await mounted.run("share", "--", path) == 0
    assert mounted.asked == [{"path": shared}]


async def test_share_prints_the_reference_and_nothing_else(
    mounted: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await mounted.run("share", "backups/b") == 0
    assert capsys.readouterr() == (f"{REFERENCE}\n", "")


@pytest.mark.parametrize("path", ["{}-other/backups/b", "/etc/passwd", "back", "backups/../x", "~"])
async def test_a_path_outside_the_mount_is_refused(
    mounted: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    path: str,
) -> None:
    monkeypatch.chdir("/")
    path = path.format(mounted.mountpoint)
    assert await mounted.run("share", path) == 1
    assert capsys.readouterr().err == (
        f"libernet: {path} is not below {mounted.mountpoint}, where this Libernet is mounted\n"
    )
    assert mounted.asked == []


async def test_open_prints_where_the_bundle_is(
    mounted: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await mounted.run("open", REFERENCE, "gift") == 0
    assert await mounted.run("open", f"{REFERENCE}/") == 0
    bundles = mounted.mountpoint / "bundles"
    assert capsys.readouterr() == (f"{bundles}/gift\n{bundles}/{ID[:12]}\n", "")
    assert [asked["name"] for asked in mounted.asked] == ["gift", None]


@pytest.mark.parametrize(
    "arguments",
    [
        ["open", ""],
        ["open", "gift"],
        ["open", REFERENCE[1:]],
        ["open", REFERENCE[:-1]],
        ["open", REFERENCE + "0"],
        ["open", f"/sha256/{ID}/aes256gcm"],
        ["open", REFERENCE.replace(KEY, "G" * 64)],
        ["open", REFERENCE.replace("gcm", "xyz")],
        ["open", f"{REFERENCE}/below"],
        ["open", f"{REFERENCE}\udcff"],
        ["open", REFERENCE, "one", "two"],
        ["open"],
        ["share"],
        ["share", ""],
        ["close"],
        ["peers", "all"],
    ],
)
async def test_what_cannot_be_meant_is_a_usage_error_in_one_sentence(
    mounted: StandIn, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert await mounted.run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("libernet: ")
    assert said.err.endswith(f" See: libernet {arguments[0]} --help\n")
    assert said.err.count("\n") == 1
    assert KEY not in said.err
    assert mounted.asked == []


async def test_close_says_nothing_when_all_is_well_and_which_name_is_not_open(
    mounted: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await mounted.run("close", "gift") == 0
    assert capsys.readouterr() == ("", "")
    assert await mounted.run("close", "none") == 1
    assert capsys.readouterr() == ("", "libernet: no bundle named 'none' is open\n")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["share", "backups/b"], {"reference": REFERENCE}),
        (["close", "gift"], {}),
        (["peers"], PEERS),
    ],
)
async def test_each_answers_in_json_too(
    mounted: StandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], answer: Any
) -> None:
    assert await mounted.run(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize(
    "command", [["share", "backups/b"], ["open", REFERENCE], ["close", "gift"], ["peers"]]
)
def test_without_a_mount_each_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(["--state", str(tmp_path), *command]) == 1
    assert f"Mount it with: mount.libernet --state {tmp_path} MOUNT" in capsys.readouterr().err


async def test_a_name_that_is_no_text_is_printed_as_the_bytes_it_is(
    mounted: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    terminal = io.TextIOWrapper(printed, encoding="utf-8", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert await mounted.run("open", REFERENCE, "caf\udce9") == 0
    assert printed.getvalue() == os.fsencode(f"{mounted.mountpoint}/bundles/caf\udce9\n")


def test_the_peers_are_told_with_what_they_did_who_gave_most_first() -> None:
    assert describe_peers(PEERS).splitlines() == [
        f"node        {'ab' * 32}",
        "listening   port 4848, 1 connection from peers",
        "fetched     21 blocks, 4.8 MiB",
        "served      1 block, 2.0 KiB; now 1.0 KiB/s",
        "neighbours  10.0.0.8:4848",
        "DHT         3 nodes known, 1,200 records kept for others, 1 announced",
        "blocks      1,234 announced, 42% of a round, 1 change to come",
        "",
        "peer           DHT id        gave                now        round trip  failed",
        "10.0.0.8:4848  -             20 blocks, 4.8 MiB  1.9 MiB/s  50 ms       1"
        "       last: it was late",
        "10.0.0.7:4848  5e5e5e5e5e5e  1 block, 900 bytes  -          0.4 ms      -",
        "10.0.0.9:4848  -             -                   -          -           3"
        "       rests for 2 min: it sent wrong bytes",
    ]


def test_a_node_that_asked_nobody_says_so() -> None:
    down = {"kind": "dht", "is_running": False, "contacts": 0}
    discovery = {"members": [{"kind": "static", "peers": []}, {"kind": "lan", "peers": []}, down]}
    nothing = {"blocks": 0, "bytes": 0, "bytes_per_second": 0}
    alone = PEERS | {"served": nothing, "listening": None, "peers": [], "discovery": discovery}
    alone["sweep"] = None
    assert describe_peers(alone).splitlines() == [
        f"node        {'ab' * 32}",
        "listening   nowhere: the network is down",
        "fetched     21 blocks, 4.8 MiB",
        "served      nothing yet",
        "neighbours  none on this network",
        "DHT         down",
        "no peer was asked yet",
    ]


def test_a_node_that_cannot_be_reached_from_outside_says_so() -> None:
    [dht] = [each for each in PEERS["discovery"]["members"] if each["kind"] == "dht"]
    unreached = PEERS | {"discovery": {"members": [dht | {"is_reachable": False}]}}
    assert describe_peers(unreached).splitlines()[4:6] == [
        "DHT         3 nodes known, 1,200 records kept for others, 1 announced",
        "reached     not from outside: others cannot fetch what is here",
    ]


def test_status_tells_what_others_do_not_know_of_and_what_cannot_be_had() -> None:
    assert describe(STATUS).splitlines()[-5:] == [
        "DHT         3 nodes known, 1,200 records kept for others, 1 announced",
        "announced   all but 2 roots: others do not know of them yet",
        "blocks      1,234 announced, 42% of a round, 1 change to come",
        "missing     block 111111111111... of /a/b since 1 min; asked: 10.0.0.7:4848",
        "missing     block 222222222222... of the bundle itself since 200 ms;"
        " asked: nobody: no peer could be asked",
    ]


async def test_what_is_shared_can_be_printed_as_a_link_that_opens_again(
    mounted: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await mounted.run("share", "--link", "backups/b") == 0
    link = capsys.readouterr().out.strip()
    assert link == f"libernet:{REFERENCE}"
    assert await mounted.run("open", link) == 0
    assert mounted.asked[-1]["reference"] == REFERENCE
