import errno

import pytest

from libernet.blocks.errors import BlockNotFound, LibernetError, PeerTimeout, StoreFull
from libernet.fs.errnos import ERRNOS, errno_for


def _with_all_below(kind: type[LibernetError]) -> list[type[LibernetError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _with_all_below(below))]


@pytest.mark.parametrize("kind", _with_all_below(LibernetError))
def test_every_error_has_an_errno(kind: type[LibernetError]) -> None:
    assert kind in ERRNOS
    assert ERRNOS[kind] in errno.errorcode


@pytest.mark.parametrize("kind", _with_all_below(LibernetError))
def test_no_error_says_that_a_file_is_not_there(kind: type[LibernetError]) -> None:
    assert errno_for(kind("why")) not in {errno.ENOENT, errno.ENOTDIR, 0}


def test_errors_that_a_program_can_act_on_are_told_apart() -> None:
    assert errno_for(StoreFull("full")) == errno.ENOSPC
    assert errno_for(PeerTimeout("late")) == errno.ETIMEDOUT
    assert errno_for(BlockNotFound("nobody has it")) == errno.EIO
