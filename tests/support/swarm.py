"""Several nodes, each a real mount on a host of its own."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts import Host, hosts
from tests.support.node import Node, running, until

PORT = 4848

NOBODY_HAS_IT = r"(lookup|opendir|readdir|read) failed: (nobody|the document|.* readers wait)"
"""What the log says when something is read that is not to be had right now."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node and the host that it is on."""

    host: Host
    node: Node

    @property
    def address(self) -> str:
        """Where it serves its peers."""
        return f"{self.host.address}:{PORT}"

    def join(self, *, through: "Member | None" = None) -> None:
        """Mount; others are found through one member, if any."""
        peers = ["--peer", through.address] if through else []
        self.node.mount("--private-network", *peers)

    def vanish(self) -> None:
        """End at once, as a machine does when it loses power: nobody is told."""
        self.host.unplug()
        self.node.kill()
        self.node.run("umount", "-i", "-l", self.node.mountpoint)

    def until_announced(self) -> None:
        """Wait until others can know of all that this node published."""
        until(lambda: not self.node.status()["not_announced"])


@contextmanager
def swarm(
    folder: Path,
    nodes: list[Node],
    names: Sequence[str],
    *,
    round_trip_ms: float = 0.0,
    guarded: str = "",
) -> Iterator[dict[str, Member]]:
    """Make members in the new *folder*, by name; the test mounts them. At the end all is gone.

    *round_trip_ms* and *guarded* are as for hosts().
    """
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(hosts(names, round_trip_ms=round_trip_ms, guarded=guarded))
        members = {}
        for name, host in made.items():
            node = stack.enter_context(running(folder / name, nodes))
            node.launcher = host.entering()
            members[name] = Member(host, node)
        yield members
