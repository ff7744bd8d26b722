"""Blocks that tests of the store put into it."""

import random

from libernet.blocks.ids import BlockId

Block = tuple[BlockId, bytes]


def block_of(size_bytes: int, seed: int = 0) -> Block:
    """Return a block of random bytes that follows from its size and *seed*."""
    block = random.Random(f"{size_bytes} {seed}").randbytes(size_bytes)
    return BlockId.of(block), block


def blocks_of(size_bytes: int, count: int) -> list[Block]:
    """Return *count* different blocks of that size."""
    return [block_of(size_bytes, seed) for seed in range(count)]
