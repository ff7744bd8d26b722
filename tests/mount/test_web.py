"""The view by URL of a real mount, asked by curl as a person would."""

import http.client
import json
import os
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.prometheus import parse

_ALONE = ("--bind", "127.0.0.1", "--port", "0")
_CONTENT = os.urandom(5_000_000)


def _address(node: Node) -> str:
    address = json.loads(node.libernet("status", "--json"))["web"]
    assert isinstance(address, str)
    return address


@pytest.fixture
def shared(node: Node) -> str:
    """The URL of a folder that a mounted node shares."""
    node.mount(*_ALONE)
    folder = node.backups / "b" / "folder"
    folder.mkdir(parents=True)
    (folder / "large.txt").write_bytes(_CONTENT)
    (folder / "small & <odd>.html").write_text("<p>small")
    (folder / "link").symlink_to("large.txt")
    reference = node.libernet("share", str(folder)).strip()
    return f"{_address(node)}{reference}"


def _curl(node: Node, *arguments: str | Path) -> str:
    return node.run("curl", "--silent", "--show-error", "--max-time", "60", *arguments)


def test_curl_gets_files_ranges_and_heads(node: Node, shared: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    _curl(node, "--fail", "--output", copy, f"{shared}/large.txt")
    assert copy.read_bytes() == _CONTENT
    _curl(node, "--fail", "--output", copy, "--range", "1000000-1999999", f"{shared}/link")
    assert copy.read_bytes() == _CONTENT[1_000_000:2_000_000]
    copy.write_bytes(_CONTENT[:123_456])
    _curl(node, "--fail", "--continue-at", "-", "--output", copy, f"{shared}/large.txt")
    assert copy.read_bytes() == _CONTENT
    head = _curl(node, "--head", f"{shared}/large.txt")
    assert f"content-length: {len(_CONTENT)}\r\n" in head
    assert "content-type: text/plain; charset=utf-8\r\n" in head
    etag = next(line for line in head.splitlines() if line.startswith("etag: "))[6:]
    code = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert _curl(node, *code, "--header", f"If-None-Match: {etag}", f"{shared}/large.txt") == "304"
    both = _curl(node, "--fail", f"{shared}/small%20%26%20%3Codd%3E.html", f"{shared}/")
    assert both.startswith("<p>small<!DOCTYPE html>")
    assert "small &amp; &lt;odd&gt;.html" in both


def test_curl_from_elsewhere_gets_nothing(node: Node, shared: str) -> None:
    code = ("--output", "/dev/null", "--write-out", "%{http_code}")
    for header in ("Host: evil.example", "Origin: http://evil.example"):
        assert _curl(node, *code, "--header", header, f"{shared}/") == "403"
    assert _curl(node, *code, "--request", "PUT", "--data", "x", f"{shared}/") == "405"
    assert _curl(node, *code, f"{shared}/gone") == "404"


def test_the_counters_of_a_mount_are_as_prometheus_wants_them(node: Node, shared: str) -> None:
    _curl(node, "--fail", "--output", "/dev/null", f"{shared}/large.txt")
    metrics = parse(_curl(node, "--fail", f"{_address(node)}/metrics"))
    assert metrics["libernet_store_bytes"].value(**{"class": "own"}) > len(_CONTENT)
    assert metrics["libernet_chunk_reads_total"].value(outcome="miss") >= 1
    assert metrics["libernet_listening"].value() == 1
    assert metrics["libernet_dht_contacts"].value() == 0
    assert metrics["libernet_peer_failures_total"].value(kind="unreachable") == 0


def test_only_this_machine_can_ask(node: Node) -> None:
    node.mount(*_ALONE)
    port = int(_address(node).rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    loopback = {"0100007F", "0" * 24 + "01000000"}
    assert {address.partition(":")[0] for address in listening} <= loopback
    assert listening


def test_a_mount_comes_up_where_the_port_is_taken_and_without_any(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node.mount(*_ALONE, "--web-port", str(port))
        assert f"by URL      {_address(node)}" in node.libernet("status")
        assert _address(node) != f"http://127.0.0.1:{port}"
    for option in (("--no-web",), ("--web-port", "0")):
        node.remount(*_ALONE, *option)
        assert json.loads(node.libernet("status", "--json"))["web"] is None
        assert "by URL" not in node.libernet("status")


def test_an_unmount_ends_all_connections_at_once(node: Node, shared: str) -> None:
    host = shared.removeprefix("http://").partition("/")[0]
    with (
        closing(http.client.HTTPConnection(host)) as idle,
        closing(http.client.HTTPConnection(host)) as reading,
    ):
        idle.connect()
        reading.request("GET", shared.partition(host)[2] + "/large.txt")
        assert reading.getresponse().read(1000) == _CONTENT[:1000]
        began = time.monotonic()
        node.libernet("unmount")
        assert time.monotonic() - began < 20  # longer than any unmount, shorter than any deadline
        assert idle.sock.recv(1) == b""


def test_a_thousand_connections_leave_the_mount_as_it_is(node: Node, shared: str) -> None:
    host = shared.removeprefix("http://").partition("/")[0]
    address, _, port = host.partition(":")
    clients = [socket.create_connection((address, int(port)), timeout=60) for _ in range(900)]
    try:
        for client in clients[100:]:
            assert client.recv(100).startswith(b"HTTP/1.1 503 ")
        assert (node.backups / "b" / "folder" / "large.txt").read_bytes() == _CONTENT
    finally:
        for client in clients:
            client.close()
    assert _curl(node, "--fail", "--retry", "5", f"{shared}/").startswith("<!DOCTYPE html>")
