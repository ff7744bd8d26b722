"""Answers of a mount as lines for a person."""

from typing import Any


def describe_peers(answer: dict[str, Any]) -> str:
    """Return the answer to `peers` as lines for a person."""
    port = answer["listening"]
    lines = [f"listening   port {port}" if port else "listening   nowhere: the network is down"]
    known = sum(member.get("contacts", 0) for member in answer["discovery"]["members"])
    lines.append(f"reached     {count_text(known, 'node')} of the network")
    asked = [
        f"{peer['address']}  gave {count_text(peer['delivered'], 'block')},"
        f" failed {count_text(peer['failed'], 'time')}"
        + (f"; last: {peer['last_error']}" if peer["last_error"] else "")
        for peer in answer["peers"]
    ]
    return "\n".join(lines + (asked or ["no peer was asked yet"]))


def describe(answer: dict[str, Any]) -> str:
    """Return the answer to `status` as lines for a person."""
    waiting, store = answer["not_durable"], answer["store"]
    lines = [
        f"mounted     {answer['mountpoint']} (pid {answer['pid']}, version {answer['version']})",
        f"durable     {_durability(waiting['files'], waiting['bytes'])}",
        f"store       {count_text(store['blocks'], 'block')}, {size_text(store['bytes'])}",
    ]
    backups = answer["backups"]
    lines.append(f"backups     {len(backups) or 'none yet'}")
    width = max((len(backup["name"]) for backup in backups), default=0)
    lines += [f"  {backup['name']:<{width}}  {_publication(backup)}" for backup in backups]
    if answer.get("web"):
        lines.append(f"by URL      {answer['web']}")
    unannounced = len(answer.get("not_announced", ()))
    if unannounced:
        lines.append(
            f"announced   all but {count_text(unannounced, 'root')}: nobody was reached yet"
        )
    lines += [_failure(failure) for failure in answer.get("failures", ())]
    return "\n".join(lines)


def freed_text(answer: dict[str, Any]) -> str:
    """Return the answer to `prune` as a line for a person."""
    verb = "would free" if answer["dry_run"] else "freed"
    return f"{verb} {count_text(answer['blocks'], 'block')}, {size_text(answer['bytes'])}"


def size_text(size_bytes: int) -> str:
    """Return *size_bytes* in the largest binary unit that leaves a number of at least 1."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _failure(failure: dict[str, Any]) -> str:
    asked = ", ".join(failure["asked"]) or "nobody: no peer could be asked"
    return (
        f"missing     block {failure['block'][:12]}... of {failure['path'] or 'the bundle itself'}"
        f" since {failure['since_seconds']:.0f} s; asked: {asked}"
    )


def _durability(files: int, size_bytes: int) -> str:
    if not files and not size_bytes:
        return "everything"
    return f"all but {count_text(files, 'file')}, {size_text(size_bytes)}"


def _publication(backup: dict[str, Any]) -> str:
    if backup["published"] is None:
        return "not yet published"
    changed = ", changed since" if backup["unpublished"] else ""
    return f"published {backup['published']}{changed}"


def count_text(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
