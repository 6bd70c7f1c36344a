"""base/archive: the tar writer takes the shortest form, the same every time, and readers read it."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.archive.entry import BLOCK, CHAR, DIR, FIFO, FILE, LINK, SYMLINK, Entry
from orlop.base.archive.tar import TarReader
from orlop.base.archive.tarwrite import TarWriter, member_header


def written(*members: tuple[Entry, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    for entry, data in members:
        writer.add(entry)
        if data:
            writer.write(data)
    writer.close()
    return out.getvalue()


def test_a_plain_file_takes_one_header_block_and_the_archive_two_of_zeros() -> None:
    data = written((Entry(b"f", size=3), b"abc"))
    assert len(data) == 512 + 512 + 1024
    assert data[257:265] == b"ustar\x0000"


@pytest.mark.parametrize(
    ("entry", "blocks"),
    [
        (Entry(b"n" * 100), 1),
        (Entry(b"p" * 155 + b"/" + b"n" * 100), 1),
        (Entry(b"n" * 101), 3),
        (Entry(b"p" * 156 + b"/" + b"n" * 100), 3),
        (Entry(b"d" * 155 + b"/" + b"n" * 99, DIR), 1),
        (Entry("ä".encode()), 3),
        (Entry(b"s", SYMLINK, linkname=b"t" * 100), 1),
        (Entry(b"s", SYMLINK, linkname=b"t" * 101), 3),
        (Entry(b"f", uid=0o7777777, gid=0o7777777), 1),
        (Entry(b"f", uid=0o7777777 + 1), 3),
        (Entry(b"f", mtime_ns=(8**11 - 1) * 10**9), 1),
        (Entry(b"f", mtime_ns=8**11 * 10**9), 3),
        (Entry(b"f", mtime_ns=-1), 3),
        (Entry(b"f", mtime_ns=1), 3),
        (Entry(b"f", xattrs={b"user.a": b"b"}), 3),
        (Entry(b"f", CHAR, devmajor=5, devminor=1), 1),
    ],
)
def test_an_extended_header_is_written_only_when_ustar_cannot_say_it(entry: Entry, blocks: int) -> None:
    data = member_header(entry)
    assert len(data) == blocks * 512
    reader = TarReader(io.BytesIO(data + bytes(1024)))
    found = reader.next()
    assert found is not None
    name = entry.name + b"/" if entry.kind == DIR else entry.name
    assert (found.name, found.kind, found.linkname) == (name, entry.kind, entry.linkname)
    assert (found.uid, found.gid, found.mtime_ns, found.xattrs) == (entry.uid, entry.gid, entry.mtime_ns, entry.xattrs)


def test_a_file_of_more_than_eight_gigabytes_has_its_size_in_a_record() -> None:
    found = TarReader(io.BytesIO(member_header(Entry(b"f", size=1 << 40)))).next()
    assert found is not None
    assert found.size == 1 << 40


def test_too_little_and_too_much_data_are_refused() -> None:
    writer = TarWriter(io.BytesIO())
    writer.add(Entry(b"f", size=2))
    writer.write(b"a")
    with pytest.raises(errors.InvalidArgument, match="lacks 1 bytes"):
        writer.close()
    with pytest.raises(errors.InvalidArgument, match="more data"):
        writer.write(b"bc")


@pytest.mark.parametrize("entry", [Entry(b""), Entry(b"a\0b"), Entry(b"s", SYMLINK, linkname=b"\0")])
def test_names_that_tar_cannot_hold_are_refused(entry: Entry) -> None:
    with pytest.raises(errors.InvalidArgument):
        member_header(entry)


NAMES = st.binary(min_size=1, max_size=300).map(lambda b: b.replace(b"\0", b"n").strip(b"/") or b"x")
TIMES = st.integers(-(10**18), 10**19)


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from((FILE, DIR, SYMLINK, LINK, CHAR, BLOCK, FIFO)))
    data = draw(st.binary(max_size=1100)) if kind == FILE else b""
    entry = Entry(
        draw(NAMES),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        len(data),
        draw(TIMES),
        draw(NAMES) if kind in (LINK, SYMLINK) else b"",
    )
    if kind in (CHAR, BLOCK):
        entry.devmajor, entry.devminor = draw(st.integers(0, 2**31)), draw(st.integers(0, 2**31))
    names = st.binary(min_size=1, max_size=40).map(lambda b: b"user." + b.replace(b"\0", b"n").replace(b"\n", b"m"))
    entry.xattrs = draw(st.dictionaries(names, st.binary(max_size=60), max_size=3))
    return entry, data


@settings(max_examples=150, deadline=None)
@given(st.lists(entries(), max_size=5))
def test_what_is_written_is_read_back_the_same(members: list[tuple[Entry, bytes]]) -> None:
    data = written(*members)
    assert data == written(*members)
    reader = TarReader(io.BytesIO(data))
    for entry, content in members:
        found = reader.next()
        assert found is not None
        assert found.name == (entry.name + b"/" if entry.kind == DIR else entry.name)
        for field in ("kind", "mode", "uid", "gid", "size", "mtime_ns", "linkname", "devmajor", "devminor", "xattrs"):
            assert getattr(found, field) == getattr(entry, field), field
        assert reader.read_all() == content
    assert reader.next() is None
    assert reader.offset == len(data)


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(), max_size=4))
def test_pythons_tarfile_reads_what_is_written(members: list[tuple[Entry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(*members)), errors="surrogateescape") as archive:
        found = archive.getmembers()
        assert len(found) == len(members)
        for info, (entry, content) in zip(found, members):
            assert info.name.encode("utf-8", "surrogateescape") == entry.name
            assert info.linkname.encode("utf-8", "surrogateescape") == entry.linkname
            assert (info.mode, info.uid, info.gid) == (entry.mode, entry.uid, entry.gid)
            if info.isfile():
                file = archive.extractfile(info)
                assert file is not None
                assert file.read() == content
