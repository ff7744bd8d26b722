"""Numbers of the read-only part: each stands for one thing, which it leads to at any later time."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libernet.fs import node_numbers
from libernet.fs.node_numbers import NodeNumbers
from libernet.fs.nodes import FolderNode, Node, Spot, folder_appearance

_ROOT = 1
_LOOK = folder_appearance(0, 0, 0)
_LISTS, _IN_LIST = 2, 3


class _Folder(FolderNode):
    """A folder at a path of an endless tree; only those directly in the root are kept."""

    __slots__ = ("path",)

    bytes_of_each = 0

    def __init__(self, path: tuple[int, ...]) -> None:
        super().__init__(_LOOK)
        self.path = path
        self.document_bytes = self.bytes_of_each
        if len(path) > 1:
            first, place = divmod(path[-1], _IN_LIST)
            self.spot = Spot(b"%d" % first, place, _IN_LIST)

    async def at(self, first: bytes, place: int) -> Node:
        return _Folder((*self.path, int(first) * _IN_LIST + place))


class _Use:
    """Somebody who goes through the tree. State: what it was given and how often, by path."""

    def __init__(self) -> None:
        self.numbers = NodeNumbers(_Folder(()), _ROOT)
        self.inos: dict[tuple[int, ...], int] = {(): _ROOT}
        self.given: Counter[tuple[int, ...]] = Counter()

    def look_up(self, parent: tuple[int, ...], name: int) -> None:
        path = (*parent, name)
        ino = self.numbers.number(self.inos[parent], b"%d" % name, _Folder(path))
        assert self.inos.setdefault(path, ino) == ino
        self.given[path] += 1
        assert len({*self.inos.values()}) == len(self.inos)

    def forget(self, path: tuple[int, ...], times: int) -> None:
        self.numbers.forget(self.inos[path], times)
        self.given[path] -= times
        if not self.given[path]:
            del self.given[path], self.inos[path]

    async def check(self) -> None:
        for path, ino in self.inos.items():
            node = await self.numbers.node(ino)
            assert isinstance(node, _Folder)
            assert node.path == path
            if path[:-1] in self.inos:
                assert self.numbers.parent(ino) == self.inos[path[:-1]]


_STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 5)), max_size=60)


@given(_STEPS)
async def test_a_number_always_leads_to_what_it_was_given_for(
    steps: list[tuple[bool, int, int]],
) -> None:
    use = _Use()
    for looks_up, which, name in steps:
        known = sorted(use.inos)
        path = known[which % len(known)]
        if looks_up:
            use.look_up(path, name)
        elif path:
            use.forget(path, 1 + name % use.given[path])
    await use.check()
    for path in sorted(use.given, key=lambda path: hash((path, len(steps)))):
        use.forget(path, use.given[path])
    assert use.numbers._known._pages == {}
    assert use.numbers._lists._rows == {}
    assert use.numbers._nodes.keys() == {_ROOT}


async def test_numbers_outlive_the_nodes_of_many_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_numbers, "_FEW_LISTS", 10)
    use = _Use()
    use.look_up((), 0)
    for number in range(5 * node_numbers._FOLDERS):
        use.look_up((0,), number)
        use.look_up((0, number), 4)
    await use.check()
    assert len(use.numbers._folders) == node_numbers._FOLDERS
    for number in range(4 * node_numbers._FOLDERS):
        use.forget((0, number), 1)
        use.forget((0, number, 4), 1)
    await use.check()
    assert len(use.numbers._lists._bases) < 3 * node_numbers._FOLDERS


async def test_folders_that_keep_large_documents_are_let_go_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Folder, "bytes_of_each", node_numbers._FOLDER_BYTES // 4)
    use = _Use()
    use.look_up((), 0)
    for number in range(10):
        use.look_up((0,), number)
    await use.check()
    assert len(use.numbers._folders) == 4
    monkeypatch.setattr(_Folder, "bytes_of_each", 2 * node_numbers._FOLDER_BYTES)
    await use.check()
    assert len(use.numbers._folders) == 1


async def test_a_number_that_was_forgotten_means_nothing() -> None:
    use = _Use()
    use.look_up((), 0)
    use.look_up((0,), 1)
    ino = use.inos[0, 1]
    use.forget((0, 1), 1)
    with pytest.raises(OSError, match="Stale"):
        await use.numbers.node(ino)
    with pytest.raises(OSError, match="Stale"):
        use.numbers.forget(ino, 1)
    use.look_up((0,), 1)
    assert use.inos[0, 1] != ino
