"""What a node says of the network, as lines for a person."""

from typing import Any

from libernet.fs.amounts import count_text, seconds_text, size_text
from libernet.fs.printable import printable

_NOTHING = "-"
_SHOWN_ID = 12  # characters, enough to tell nodes apart


def describe_peers(answer: dict[str, Any]) -> str:
    """Return the answer to `peers`: the network as a whole, then whoever was asked."""
    lines = [f"node        {answer['node']}", *network_lines(answer)]
    peers = sorted(answer["peers"], key=lambda peer: -peer["bytes"])
    if not peers:
        return "\n".join([*lines, "no peer was asked yet"])
    rows = [("peer", "DHT id", "gave", "now", "round trip", "failed", "")]
    return "\n".join([*lines, "", *_table([*rows, *map(_row, peers)])])


def network_lines(network: dict[str, Any]) -> list[str]:
    """Return how this node takes part: where, how much went, whom it knows, what it told."""
    if not network:
        return []
    port, connections = network["listening"], network["connections"]
    listening = f"port {port}, {count_text(connections, 'connection')} from peers"
    lines = [f"listening   {listening if port else 'nowhere: the network is down'}"]
    lines += [f"{way:<12}{_traffic(network[way])}" for way in ("fetched", "served")]
    for member in network["discovery"]["members"]:
        lines += _member(member)
    roots = len(network["not_announced"])
    if roots:
        lines.append(
            f"announced   all but {count_text(roots, 'root')}: others do not know of them yet"
        )
    if network["sweep"]:
        lines.append(f"blocks      {_sweep(network['sweep'])}")
    return lines


def _sweep(sweep: dict[str, Any]) -> str:
    """Return how far telling others of all blocks has come."""
    told = f"{sweep['blocks']:,} announced"
    if sweep["share"] < 1:
        told += f", {sweep['share']:.0%} of a round"
    if sweep["changes"]:
        told += f", {count_text(sweep['changes'], 'change')} to come"
    return told + (f"; not now: {sweep['failure']}" if sweep["failure"] else "")


def _traffic(traffic: dict[str, Any]) -> str:
    if not traffic["blocks"]:
        return "nothing yet"
    blocks, size = count_text(traffic["blocks"], "block"), size_text(traffic["bytes"])
    rate = traffic["bytes_per_second"]
    return f"{blocks}, {size}" + (f"; now {_rate(rate)}" if rate else "")


def _member(member: dict[str, Any]) -> list[str]:
    """Return what is to be said of one way to find others."""
    match member:
        case {"kind": "lan", "peers": peers}:
            return [f"neighbours  {', '.join(peers) or 'none on this network'}"]
        case {"kind": "dht", "is_running": True}:
            known = f"{count_text(member['contacts'], 'node')} known"
            kept = f"{count_text(member['records'], 'record')} kept for others"
            lines = [f"DHT         {known}, {kept}, {member['announced']:,} announced"]
            if member["is_reachable"] is False:
                lines.append("reached     not from outside: others cannot fetch what is here")
            return lines
        case {"kind": "dht"}:
            return ["DHT         down"]
    return []


def _row(peer: dict[str, Any]) -> tuple[str, ...]:
    gave = f"{count_text(peer['delivered'], 'block')}, {size_text(peer['bytes'])}"
    round_trip = peer["round_trip_seconds"]
    return (
        peer["address"],
        (peer["node_id"] or _NOTHING)[:_SHOWN_ID],
        gave if peer["delivered"] else _NOTHING,
        _rate(peer["bytes_per_second"]) if peer["bytes_per_second"] else _NOTHING,
        _NOTHING if round_trip is None else seconds_text(round_trip),
        f"{peer['failed']:,}" if peer["failed"] else _NOTHING,
        _trouble(peer),
    )


def _trouble(peer: dict[str, Any]) -> str:
    """Return why a peer is not asked now, or what went wrong last."""
    if not peer["last_error"]:
        return ""
    rests = peer["rests_seconds"]
    since = f"rests for {seconds_text(rests)}" if rests else "last"
    return f"{since}: {printable(peer['last_error'])}"


def _rate(bytes_per_second: int) -> str:
    return f"{size_text(bytes_per_second)}/s"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
