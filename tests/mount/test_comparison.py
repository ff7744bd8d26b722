"""The comparison that the mount tests rest on: it sees each difference, and says which."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tree import differences, picture


def _fill(root: Path) -> Path:
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("content")
    (root / "folder" / "twin").hardlink_to(root / "folder" / "file")
    (root / "link").symlink_to("folder")
    for path in (root / "folder" / "file", root / "link", root / "folder", root):
        os.utime(path, ns=(0, 10**18), follow_symlinks=False)
    return root


def _write(text: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / "folder" / "file").write_text(text)
        os.utime(root / "folder" / "file", ns=(0, 10**18))

    return change


def _copy_twin(root: Path) -> None:
    (root / "folder" / "twin").unlink()
    (root / "folder" / "twin").write_text("content")
    for path in (root / "folder" / "twin", root / "folder"):
        os.utime(path, ns=(0, 10**18))


def _lead_elsewhere(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("f_lder")
    for path in (root / "link", root):
        os.utime(path, ns=(0, 10**18), follow_symlinks=False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_write("Content"), ["b'folder/file': content is ", "b'folder/twin': content is "]),
        (_write("more content"), ["b'folder/file': size is 12, expected 7"]),
        (_copy_twin, ["b'folder/file': links is (), expected (b'folder/file', b'folder/twin')"]),
        (_lead_elsewhere, ["b'link': content is b'f_lder', expected b'folder'"]),
        (lambda root: (root / "folder").chmod(0o700), ["b'folder': mode is '0o700', expected "]),
        (lambda root: os.utime(root, ns=(0, 1)), ["b'.': mtime_ns is 1, expected 10000000"]),
        (lambda root: (root / "new").touch(), ["b'new' was not expected", "b'.': mtime_ns is "]),
        (lambda root: (root / "link").unlink(), ["b'link' is missing"]),
    ],
)
def test_each_difference_is_told(
    tmp_path: Path, change: Callable[[Path], object], told: list[str]
) -> None:
    expected, changed = picture(_fill(tmp_path / "one")), _fill(tmp_path / "two")
    assert differences(expected, picture(changed)) == []
    change(changed)
    lines = differences(expected, picture(changed))
    for beginning in told:
        assert any(line.startswith(beginning) for line in lines), lines
