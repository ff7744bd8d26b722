"""Thirty nodes that join at one moment.

They are whole but for the mount, in one process, each at an address of its own on loopback: thirty
mounts would be more than two cores bear.
"""

from pathlib import Path

import trio

from libernet.net.fetcher import FETCH_SECONDS
from tests.support.dht import until
from tests.support.networks import ROOT, ROOT_ID, RunningNode, swarm_in

NODES = 30
_SECONDS = 120.0  # longer than all of it takes on a busy machine
_CONTACTS = 16


def _host(number: int) -> str:
    return f"127.0.1.{number}"


def _contacts(node: RunningNode) -> int:
    members = node.network.status()["discovery"]["members"]
    return sum(member["contacts"] for member in members if member["kind"] == "dht")


async def test_thirty_nodes_that_join_at_once_find_what_one_has_and_each_other(
    quick_folder: Path,
) -> None:
    with trio.fail_after(_SECONDS):
        async with swarm_in(quick_folder) as swarm, trio.open_nursery() as nursery:
            bootstrap = await swarm.node("bootstrap", host=_host(1))
            maker = await swarm.node("maker", bootstrap.address, host=_host(2))
            maker.put(ROOT)
            maker.network.announcer.add(ROOT_ID)
            await until(lambda: not maker.network.announcer.pending(), seconds=20)
            joined: list[RunningNode] = []
            seconds: list[float] = []

            async def join(number: int) -> None:
                node = await swarm.node(f"{number}", bootstrap.address, host=_host(number))
                began = trio.current_time()
                assert await node.get(ROOT_ID) == ROOT
                seconds.append(trio.current_time() - began)
                joined.append(node)

            for number in range(10, 10 + NODES):
                nursery.start_soon(join, number)
            await until(lambda: len(joined) == NODES, seconds=_SECONDS)
            assert max(seconds) < FETCH_SECONDS
            await until(lambda: min(map(_contacts, joined)) >= _CONTACTS, seconds=_SECONDS)

            for gone in (bootstrap, maker):
                gone.scope.cancel()
            late = await swarm.node("late", joined[0].address, host=_host(3))
            assert await late.get(ROOT_ID) == ROOT
