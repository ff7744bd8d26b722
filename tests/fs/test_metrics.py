"""The counters of a node, as Prometheus reads them."""

from pathlib import Path
from typing import Any

import pytest

from libernet.fs.counters import Family, Sample
from libernet.fs.outside import Outside
from libernet.fs.web.exposition import exposition
from tests.support.prometheus import Metric, parse
from tests.support.web import Web, web_running

_TRAFFIC = {"blocks": 3, "bytes": 5000, "bytes_per_second": 7}

STATUS: dict[str, Any] = {
    "listening": 4848,
    "node": "ab" * 32,
    "connections": 2,
    "fetched": _TRAFFIC,
    "served": {"blocks": 1, "bytes": 9, "bytes_per_second": 0},
    "put": {"kept": 4, "refused": 5},
    "failed": {"wrong_bytes": 1, "late": 0},
    "peers": [{"rests_seconds": 0.0}, {"rests_seconds": 4.5}, {"rests_seconds": 0.0}],
    "discovery": {
        "members": [
            {"kind": "static", "peers": ["10.0.0.7:4848"]},
            {"kind": "lan", "peers": ["10.0.0.8:4848", "10.0.0.9:4848"]},
            {
                "kind": "dht",
                "is_running": True,
                "contacts": 5,
                "records": 6,
                "announced": 7,
                "requests": {"sent": 8, "refused by the kernel": 9},
                "dropped": {"malformed": 1, "too many requests": 2},
            },
            {"kind": "dht", "is_running": False, "contacts": 0},
        ]
    },
    "not_announced": ["an id"],
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


async def _metrics(web: Web) -> dict[str, Metric]:
    reply = await web.ask("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    return parse(reply.body.decode())


async def test_what_the_node_did_is_counted(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        before = await _metrics(web)
        reference = web.put_public(b"a chunk")
        for _ in range(3):
            assert (await web.ask(str(reference))).body == b"a chunk"
        await web.caller.mkdir("backups/b")
        await web.node.publisher.publish_all()
        after = await _metrics(web)
    assert all(name.startswith("libernet_") for name in after)
    assert before["libernet_store_blocks"].value(**{"class": "own"}) == 0
    assert after["libernet_store_blocks"].value(**{"class": "own"}) == 2
    assert after["libernet_store_bytes"].value(**{"class": "own"}) > len(b"a chunk")
    reads = after["libernet_chunk_reads_total"]
    assert (reads.value(outcome="hit"), reads.value(outcome="miss")) == (2, 1)
    assert after["libernet_snapshots_total"].value() == 1
    assert after["libernet_checkpoints_total"].value(outcome="done") >= 1
    assert after["libernet_checkpoints_total"].value(outcome="failed") == 0
    assert after["libernet_not_durable_bytes"].value() == 0


async def test_what_the_network_did_is_counted_without_naming_anybody(tmp_path: Path) -> None:
    async with web_running(tmp_path, outside=Outside(status=lambda: STATUS)) as web:
        reply = await web.ask("/metrics")
        found = await _metrics(web)
    assert "10.0.0" not in reply.body.decode()
    assert "an id" not in reply.body.decode()
    values = {
        (name.removeprefix("libernet_"), *sorted(map("=".join, labels))): value
        for name, metric in found.items()
        for labels, value in metric.samples.items()
    }
    assert (
        values.items()
        >= {
            ("listening",): 1,
            ("connections",): 2,
            ("fetched_blocks_total",): 3,
            ("fetched_bytes_total",): 5000,
            ("served_blocks_total",): 1,
            ("served_bytes_total",): 9,
            ("put_blocks_total", "outcome=kept"): 4,
            ("put_blocks_total", "outcome=refused"): 5,
            ("peer_failures_total", "kind=wrong_bytes"): 1,
            ("peer_failures_total", "kind=late"): 0,
            ("peers", "state=ready"): 2,
            ("peers", "state=resting"): 1,
            ("neighbours",): 2,
            ("dht_contacts",): 5,
            ("dht_records",): 6,
            ("dht_announced",): 7,
            ("dht_requests_total", "outcome=sent"): 8,
            ("dht_requests_total", "outcome=refused_by_the_kernel"): 9,
            ("dht_dropped_datagrams_total",): 3,
            ("unannounced_roots",): 1,
            ("missing_blocks",): 0,
        }.items()
    )


async def test_a_node_without_a_network_counts_the_rest(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        found = await _metrics(web)
    assert "libernet_store_blocks" in found
    assert not any("dht" in name or "peer" in name for name in found)


async def test_other_machines_pages_learn_nothing(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        assert (await web.ask("/metrics", host="evil.example:8042")).status == 403
        assert (await web.ask("/metrics", origin="http://evil.example")).status == 403
        assert (await web.ask("/metrics", method="POST")).status == 405
        assert (await web.ask("/metrics/more")).status == 404


ODD = 'a "quoted" \\ text\nof two lines'


def test_whatever_stands_in_labels_and_help_is_read_as_it_was() -> None:
    family = Family("libernet_odd", "gauge", ODD, (Sample(1, {"what": ODD}), Sample(0.25)))
    metric = parse(exposition([family]))["libernet_odd"]
    assert (metric.help, metric.value(what=ODD), metric.value()) == (ODD, 1, 0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        "libernet_a 1\n",
        "# HELP libernet_a A.\nlibernet_a 1\n",
        "# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_a 1",
        "# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_b 1\n",
        "# HELP libernet_a A.\n# TYPE libernet_a counter\nlibernet_a 1\n",
        "# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_a 1\nlibernet_a 2\n",
        '# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_a{b="\\x"} 1\n',
        '# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_a{b="c} 1\n',
        "# HELP libernet_a A.\n# TYPE libernet_a gauge\nlibernet_a one\n",
    ],
)
def test_the_reader_of_these_tests_takes_nothing_else(wrong: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        parse(wrong)
