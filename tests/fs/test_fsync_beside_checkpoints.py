"""Fsyncs that come while a checkpoint is under way."""

from pathlib import Path

import trio
import trio.testing

from tests.support.caller import Caller, opened_node

_SECONDS = 30  # longer than anything here takes on a busy machine


async def test_an_fsync_with_nothing_new_returns_with_the_checkpoint_under_way(
    tmp_path: Path,
) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (_, node):
        async with node.running(), trio.open_nursery() as nursery:
            await Caller(node.namespace).mkdir("backups/b")
            async with node.checkpointer.writing:  # the checkpoint waits for it, all frozen
                nursery.start_soon(node.namespace.durable)
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.start_soon(node.namespace.durable)
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert not node.checkpointer.is_dirty
