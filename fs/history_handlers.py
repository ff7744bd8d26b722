"""What the mount does for the commands about snapshots."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from libernet.blocks.errors import FormatError, LibernetError
from libernet.fs.arguments import texts
from libernet.fs.journal_reader import Snapshot
from libernet.fs.node import LocalNode
from libernet.fs.retention import UNLIMITED, Policy, Span, Taken, reasons_to_keep
from libernet.fs.snapshot_choice import SHORT_ID_DIGITS, Shown, chosen, shown
from libernet.fs.store_handlers import as_answer
from libernet.fs.tags import checked_note, checked_tags, tag_lists

Answer = dict[str, Any]

_MAX_KEPT = 10**9


class HistoryCommands:
    """Answer what the commands about snapshots ask of a running mount."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        self._snapshots = node.snapshots
        self._history = node.history

    def handlers(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        """Return the handler of each command."""
        return {
            "snapshots": self._list,
            "tag": self._tag,
            "note": self._note,
            "forget": self._forget,
        }

    async def _list(self, arguments: Answer) -> Answer:
        found = shown(
            self._snapshots, texts(arguments, "names"), tag_lists(texts(arguments, "tags"))
        )
        return {"snapshots": [_row(each) for each in found]}

    async def _tag(self, arguments: Answer) -> Answer:
        """Add and remove tags, or set them all."""
        add, remove = texts(arguments, "add"), texts(arguments, "remove")
        is_set = arguments.get("set") is not None
        new = checked_tags(texts(arguments, "set")) if is_set else checked_tags(add)
        labelled = []
        for each in self._chosen(arguments):
            tags = new if is_set else checked_tags({*each.snapshot.tags, *new} - set(remove))
            snapshot = await self._history.label(each.snapshot.number, tags=tags)
            labelled.append(_row(each._replace(snapshot=snapshot)))
        return {"snapshots": labelled}

    async def _note(self, arguments: Answer) -> Answer:
        note = arguments.get("note")
        if not isinstance(note, str):
            raise FormatError("a note is a text")
        [each, *_] = self._chosen(arguments)
        snapshot = await self._history.label(each.snapshot.number, note=checked_note(note))
        return {"snapshots": [_row(each._replace(snapshot=snapshot))]}

    def _chosen(self, arguments: Answer) -> list[Shown]:
        found = [chosen(self._snapshots, text) for text in texts(arguments, "snapshots")]
        if not found:
            raise FormatError("this needs a snapshot")
        return found

    async def _forget(self, arguments: Answer) -> Answer:
        """Forget snapshots by name or by a policy; with `prune`, collect then too."""
        dry_run, prune = arguments.get("dry_run") is True, arguments.get("prune") is True
        groups = self._groups(arguments)
        gone = [each.snapshot for group in groups for each in group.removed]
        numbers = {snapshot.number for snapshot in gone}
        if not dry_run and gone:
            await self._history.forget(numbers)
            self._withdraw(gone)
        answer: Answer = {"groups": [group.answer() for group in groups], "dry_run": dry_run}
        if prune:
            without = numbers if dry_run else frozenset[int]()
            collected = await self._node.collector.collect(dry_run=dry_run, without=without)
            answer["prune"] = as_answer(collected, dry_run=dry_run)
        return answer

    def _groups(self, arguments: Answer) -> "list[_Group]":
        """Return what goes and what stays, by backup."""
        named = {backup for backup, *_ in shown(self._snapshots)}
        what = texts(arguments, "what")
        names = [text for text in what if text in named]
        single = [chosen(self._snapshots, text) for text in what if text not in named]
        policy = _policy(arguments.get("keep") or {})
        tags = tag_lists(texts(arguments, "tags"))
        may_remove_all = arguments.get("may_remove_all") is True
        if single:
            if names or tags or not policy.is_empty:
                raise FormatError(
                    "name snapshots to forget, or backups with a policy, but not both at once"
                )
            return self._without(single)
        if policy.is_empty and not (may_remove_all and (names or tags)):
            raise FormatError(
                "no policy says which snapshots to keep: give some --keep-... options, or name"
                " the snapshots to forget. To forget all of a backup, name it with"
                " --unsafe-allow-remove-all"
            )
        groups = []
        considered = shown(self._snapshots, names, tags)
        for backup in dict.fromkeys(each.backup for each in considered):
            group = _by_policy(policy, [each for each in considered if each.backup == backup])
            if not group.kept and not may_remove_all:
                raise LibernetError(
                    f"this policy keeps none of the snapshots of {backup!r}: nothing was"
                    " forgotten. If that is meant, add --unsafe-allow-remove-all"
                )
            groups.append(group)
        return groups

    def _without(self, single: list[Shown]) -> "list[_Group]":
        gone = {each.snapshot.number for each in single}
        groups = []
        for backup in dict.fromkeys(each.backup for each in single):
            of_backup = shown(self._snapshots, [backup])
            removed = [each for each in of_backup if each.snapshot.number in gone]
            kept = [(each, list[str]()) for each in of_backup if each not in removed]
            groups.append(_Group(backup, kept, removed))
        return groups

    def _withdraw(self, forgotten: list[Snapshot]) -> None:
        """Tell the network no more of what nothing else leads to."""
        opened = self._node.shelf.references().values()
        wanted = {*self._node.published(), *(reference.id for reference in opened)}
        for block_id in {snapshot.reference.id for snapshot in forgotten} - wanted:
            self._node.outside.withdraw(block_id)


class _Group:
    """The snapshots of one backup: those that stay, with the reasons, and those that go."""

    def __init__(
        self, backup: str, kept: Sequence[tuple[Shown, list[str]]], removed: Sequence[Shown]
    ) -> None:
        self.backup = backup
        self.kept = kept
        self.removed = removed

    def answer(self) -> Answer:
        """Return it as JSON."""
        return {
            "backup": self.backup,
            "keep": [{**_row(each), "reasons": reasons} for each, reasons in self.kept],
            "remove": [_row(each) for each in self.removed],
        }


def _by_policy(policy: Policy, of_backup: list[Shown]) -> _Group:
    newest_first = of_backup[::-1]
    taken = [
        Taken(_moment(each.snapshot).astimezone(), each.snapshot.tags) for each in newest_first
    ]
    # An empty policy gets here only where all are to go.
    reasons = reasons_to_keep(policy, taken, now=datetime.now(UTC))
    pairs = list(zip(newest_first, reasons, strict=True))[::-1]
    kept = [(each, found) for each, found in pairs if found]
    return _Group(of_backup[0].backup, kept, [each for each, found in pairs if not found])


def _policy(keep: object) -> Policy:
    """Return the policy that the options of a person say, by name; FormatError for a bad one."""
    if not isinstance(keep, dict):
        raise FormatError("a policy has options by name")
    kinds = {each.name: each for each in fields(Policy)}
    values: dict[str, Any] = {}
    for name, value in keep.items():
        if name == "tags" and isinstance(value, list):
            values[name] = tuple(tag_lists(texts(keep, "tags")))
        elif name in kinds and name.startswith("within") and isinstance(value, str):
            values[name] = Span.parse(value)
        elif name in kinds and isinstance(value, int) and UNLIMITED <= value <= _MAX_KEPT:
            values[name] = value
        else:
            raise FormatError(f"{value!r} cannot be what to keep as {name!r}")
    return Policy(**values)


def _row(each: Shown) -> Answer:
    snapshot = each.snapshot
    return {
        "backup": each.backup,
        "name": each.name,
        "time": _moment(snapshot).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "id": str(snapshot.reference.id),
        "short_id": str(snapshot.reference.id)[:SHORT_ID_DIGITS],
        "reference": str(snapshot.reference),
        "tags": list(snapshot.tags),
        "note": snapshot.note,
        "files": snapshot.files,
        "bytes": snapshot.bytes,
    }


def _moment(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.published_ns / 10**9, UTC)
