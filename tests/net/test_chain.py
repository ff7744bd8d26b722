"""Several kinds of discovery as one."""

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.chain import ChainDiscovery
from libernet.net.static import StaticDiscovery
from tests.support.far import NETWORK_IS_DOWN, ScriptedDiscovery

ID = BlockId.of(b"a block")
ONE, TWO, THREE = (PeerAddress(f"peer{number}", 4848) for number in range(3))


@pytest.fixture
async def members() -> tuple[ScriptedDiscovery, ScriptedDiscovery]:
    first, second = ScriptedDiscovery(), ScriptedDiscovery()
    first.providers[ID] = [ONE, TWO]
    second.providers[ID] = [TWO, THREE]
    first.hints = [ONE, TWO]
    second.hints = [THREE, ONE]
    return first, second


@pytest.fixture
async def chain(members: tuple[ScriptedDiscovery, ScriptedDiscovery]) -> ChainDiscovery:
    return ChainDiscovery(*members)


Members = tuple[ScriptedDiscovery, ScriptedDiscovery]


async def found(chain: ChainDiscovery, *, want: int = 8) -> list[PeerAddress]:
    return [each.address for each in await chain.find(ID, want=want)]


async def test_what_any_member_finds_is_found_once(chain: ChainDiscovery) -> None:
    assert sorted(await found(chain), key=str) == [ONE, TWO, THREE]


async def test_members_are_asked_at_the_same_time(
    chain: ChainDiscovery, members: Members, autojump_clock: MockClock
) -> None:
    for member in members:
        member.delay_seconds = 3
    await found(chain)
    assert trio.current_time() == 3


async def test_a_late_member_is_not_waited_for_when_there_is_enough(
    chain: ChainDiscovery, members: Members, autojump_clock: MockClock
) -> None:
    members[1].delay_seconds = 60
    assert await found(chain, want=2) == [ONE, TWO]
    assert trio.current_time() == 0


async def test_what_one_finds_is_found_though_another_fails(
    chain: ChainDiscovery, members: Members
) -> None:
    members[0].error = NETWORK_IS_DOWN
    assert await found(chain) == [TWO, THREE]


async def test_finding_fails_when_all_fail(chain: ChainDiscovery, members: Members) -> None:
    members[0].error = members[1].error = NETWORK_IS_DOWN
    with pytest.raises(type(NETWORK_IS_DOWN)):
        await found(chain)


@pytest.mark.parametrize("call", ["announce", "withdraw"])
async def test_all_members_are_told(chain: ChainDiscovery, members: Members, call: str) -> None:
    await getattr(chain, call)(ID)
    for member in members:
        told = [block_id for _, block_id in member.announced] + member.withdrawn
        assert told == [ID]


@pytest.mark.parametrize("call", ["announce", "withdraw"])
async def test_that_one_could_not_be_told_is_an_error_but_the_others_are(
    chain: ChainDiscovery, members: Members, call: str
) -> None:
    members[0].error = NETWORK_IS_DOWN
    with pytest.raises(type(NETWORK_IS_DOWN)):
        await getattr(chain, call)(ID)
    assert [block_id for _, block_id in members[1].announced] + members[1].withdrawn == [ID]


async def test_a_fixed_list_does_not_make_an_announcement_succeed(members: Members) -> None:
    chain = ChainDiscovery(StaticDiscovery([ONE]), members[0])
    members[0].error = NETWORK_IS_DOWN
    with pytest.raises(type(NETWORK_IS_DOWN)):
        await chain.announce(ID)


async def test_many_who_may_have_anything_end_no_search_for_those_who_announced_it(
    members: Members,
) -> None:
    many = [PeerAddress("neighbour", 1 + number) for number in range(20)]
    chain = ChainDiscovery(StaticDiscovery(many), members[0])
    assert await found(chain) == [ONE, TWO]
    assert chain.peers_hint()[:20] == many


async def test_without_members_nobody_can_be_asked() -> None:
    chain = ChainDiscovery()
    for call in (chain.announce, chain.withdraw, chain.find):
        with pytest.raises(DhtError):
            await call(ID)


async def test_members_can_be_exchanged(chain: ChainDiscovery) -> None:
    chain.set_members(StaticDiscovery([THREE]))
    assert await found(chain) == []
    assert chain.peers_hint() == [THREE]


async def test_hints_keep_the_order_of_the_members(chain: ChainDiscovery) -> None:
    assert chain.peers_hint() == [ONE, TWO, THREE]


async def test_the_status_has_that_of_each_member(chain: ChainDiscovery) -> None:
    assert chain.status() == {"members": [{"kind": "scripted"}] * 2}


async def test_finding_can_be_cancelled(
    chain: ChainDiscovery, members: Members, autojump_clock: MockClock
) -> None:
    members[0].delay_seconds = members[1].delay_seconds = 60
    with trio.move_on_after(1) as scope:
        await found(chain)
    assert scope.cancelled_caught
