"""base/archive: what names and attributes say that something below is gone."""

from __future__ import annotations

import stat

import pytest

from orlop.base import errors
from orlop.base.archive import whiteout


def test_names_stand_for_whiteouts_opaque_marks_and_aufs_metadata() -> None:
    assert whiteout.kind_of(b"file") == ""
    assert whiteout.kind_of(b".whfile") == ""
    assert whiteout.kind_of(b".wh.file") == whiteout.WHITEOUT
    assert whiteout.kind_of(b".wh..hidden") == whiteout.WHITEOUT
    assert whiteout.kind_of(b".wh..wh..opq") == whiteout.OPAQUE
    assert whiteout.kind_of(b".wh..wh.plnk") == whiteout.META
    assert whiteout.hidden_name(b".wh.file") == b"file"
    assert whiteout.marker(b"file") == b".wh.file"


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh..."])
def test_names_that_would_remove_a_directory_itself_are_refused(name: bytes) -> None:
    with pytest.raises(errors.DataLoss, match="invalid whiteout"):
        whiteout.kind_of(name)


def test_a_file_with_a_markers_name_cannot_be_hidden_or_written() -> None:
    with pytest.raises(errors.InvalidArgument):
        whiteout.marker(b".wh.x")


def test_overlayfs_forms_are_known() -> None:
    assert whiteout.is_overlay_whiteout(stat.S_IFCHR, 0)
    assert not whiteout.is_overlay_whiteout(stat.S_IFCHR, 0x103)
    assert not whiteout.is_overlay_whiteout(stat.S_IFREG, 0)
    assert whiteout.is_overlay_note(b"trusted.overlay.opaque")
    assert whiteout.is_overlay_note(b"user.overlay.redirect")
    assert not whiteout.is_overlay_note(b"user.overlaid")
    assert whiteout.opaque_mark({b"user.overlay.opaque": b"y"}) == b"y"
    assert whiteout.opaque_mark({}) == b""
    assert whiteout.is_file_whiteout(stat.S_IFREG, 0, {b"trusted.overlay.whiteout": b""})
    assert not whiteout.is_file_whiteout(stat.S_IFREG, 1, {b"trusted.overlay.whiteout": b""})
