"""A disk that is really full: the stores say so, and go on when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.oci.digest import of_bytes
from orlop.stores.containers.api import Container
from tests.support.stores import Root, put, target

CHUNK = os.urandom(64 << 10)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """On a file system of 4 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=True, timeout=30)
    root = Root(str(tmp_path / "root"))
    try:
        yield root
    finally:
        root.db.close()
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=30)


def fill(root: Root) -> str:
    """Take all the room there is; returns the file that has it."""
    path = f"{root.path}/../filler"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while os.write(fd, bytes(size)):
                    pass
            except OSError:
                continue
    finally:
        os.close(fd)
    return path


def test_a_full_disk_stops_an_ingest_which_goes_on_when_there_is_room(root: Root) -> None:
    keep = put(root.content(), b"kept")
    root.images().put("kept", target(keep))
    filler = fill(root)
    os.truncate(filler, os.stat(filler).st_size - (300 << 10))
    written = b""
    with root.content().writer("ref") as writer:
        full = None
        while full is None:
            try:
                writer.write(CHUNK)
                written += CHUNK
            except errors.ResourceExhausted as error:
                full = error
        assert "orlop gc" in full.advice
        assert writer.status().offset == len(written) > 0
        assert writer.digest() == of_bytes(written)
        os.unlink(filler)
        writer.write(CHUNK)
        written += CHUNK
        assert writer.commit(len(written), of_bytes(written)).size == len(written)
    assert root.content().read(of_bytes(written)) == written
    root.check()


def test_a_new_ingest_on_a_full_disk_is_refused_and_leaves_nothing_behind(root: Root) -> None:
    put(root.content(), b"kept")
    filler = fill(root)
    with pytest.raises(errors.ResourceExhausted):
        with root.content().writer("ref", 1000, of_bytes(CHUNK)) as writer:
            writer.write(CHUNK)
    os.unlink(filler)
    put(root.content(), CHUNK)
    assert root.content().read(of_bytes(b"kept")) == b"kept"
    root.check()


def test_records_on_a_full_disk_are_refused_whole_and_the_database_stays_sound(root: Root) -> None:
    root.containers().create(Container("first"))
    filler = fill(root)
    made, full = 0, None
    while full is None:
        try:
            root.containers().create(Container(f"c{made}", spec=CHUNK))
            made += 1
        except errors.ResourceExhausted as error:
            full = error
    assert "orlop gc" in full.advice
    assert len(root.containers().list()) == made + 1
    root.db.check()
    os.unlink(filler)
    root.containers().create(Container("last"))
    root.containers().delete("first")
    assert len(root.containers().list()) == made + 1
    root.db.check()
