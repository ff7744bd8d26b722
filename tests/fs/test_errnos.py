import errno
from typing import cast

import pytest
from pyfuse3 import FUSEError, RequestContext

from libernet.blocks.errors import BlockNotFound, LibernetError, PeerTimeout, StoreFull
from libernet.fs.errnos import ERRNOS, errno_for
from libernet.fs.fuse.operations import FuseOperations
from libernet.fs.namespace import Namespace, OpenFile


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


def test_a_read_that_ends_by_time_is_an_error_of_reading_and_a_look_says_that_it_was_late() -> None:
    assert errno_for(PeerTimeout("late"), is_read=True) == errno.EIO
    assert errno_for(StoreFull("full"), is_read=True) == errno.ENOSPC


@pytest.mark.announces("(read|lookup) failed: nobody came")
async def test_the_mount_says_so() -> None:
    class Late:
        async def read(self, *arguments: object) -> bytes:
            raise PeerTimeout("nobody came")

        lookup = read

    operations = FuseOperations(cast(Namespace, Late()), enforces_acls=False)
    operations._files[7] = 1, cast(OpenFile, None)
    with pytest.raises(FUSEError) as read:
        await operations.read(7, 0, 4096)
    with pytest.raises(FUSEError) as look:
        await operations.lookup(1, b"name", cast(RequestContext, None))
    assert (read.value.errno, look.value.errno) == (errno.EIO, errno.ETIMEDOUT)
