from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.blocks.ids import BlockId
from libernet.net.exchange.wire import (
    MAX_BATCH_IDS,
    MAX_BATCH_REQUEST_BYTES,
    batch_record,
    batch_records,
    batch_request,
    parse_batch_request,
)

_ids = st.binary(min_size=32, max_size=32).map(BlockId)


@settings(deadline=None)
@given(st.lists(_ids, min_size=1, max_size=20))
def test_the_ids_of_a_batch_are_read_back(block_ids: list[BlockId]) -> None:
    assert parse_batch_request(batch_request(block_ids)) == block_ids


@pytest.mark.parametrize("length", [0, 1, 31, 33, MAX_BATCH_REQUEST_BYTES + 32])
def test_a_request_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match=str(MAX_BATCH_IDS)):
        parse_batch_request(bytes(length))


@settings(deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40)))
def test_the_records_of_a_batch_are_read_back(blocks: Sequence[bytes | None]) -> None:
    answer = b"".join(map(batch_record, blocks))
    assert records_of(answer) == blocks


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_records_or_a_format_error(answer: bytes) -> None:
    try:
        records = records_of(answer)
    except FormatError:
        return
    assert b"".join(map(batch_record, records)) == answer


def records_of(answer: bytes) -> list[bytes | None]:
    return [
        None if record is None else bytes(record) for record in batch_records(memoryview(answer))
    ]
