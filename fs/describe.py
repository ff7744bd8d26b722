"""Answers of a mount as lines for a person."""

from typing import Any

from libernet.fs.amounts import count_text, seconds_text, size_text
from libernet.fs.describe_network import network_lines
from libernet.fs.printable import printable


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
    names = [printable(backup["name"]) for backup in backups]
    width = max(map(len, names), default=0)
    lines += [
        f"  {name:<{width}}  {_publication(backup)}"
        for name, backup in zip(names, backups, strict=True)
    ]
    if answer.get("web"):
        lines.append(f"by URL      {answer['web']}")
    lines += network_lines(answer.get("network", {}))
    lines += [_failure(failure) for failure in answer.get("failures", ())]
    return "\n".join(lines)


def freed_text(answer: dict[str, Any]) -> str:
    """Return the answer to `prune` as a line for a person."""
    verb = "would free" if answer["dry_run"] else "freed"
    return f"{verb} {count_text(answer['blocks'], 'block')}, {size_text(answer['bytes'])}"


def _failure(failure: dict[str, Any]) -> str:
    asked = ", ".join(failure["asked"]) or "nobody: no peer could be asked"
    return (
        f"missing     block {failure['block'][:12]}... of"
        f" {printable(failure['path']) or 'the bundle itself'}"
        f" since {seconds_text(failure['since_seconds'])}; asked: {asked}"
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
