"""base/archive: the tar reader on every format, on damage, and on whatever hypothesis makes up."""

from __future__ import annotations

import base64
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.archive import tar
from orlop.base.archive.entry import Entry
from orlop.base.archive.tar import TarReader
from tests.support import trees
from tests.support.trees import END, header, member, pax


class Trickle:
    """A stream that gives at most `most` bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, n: int) -> bytes:
        return self._file.read(min(n, self._most))


def read(data: bytes, most: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(Trickle(data, most))
    return [(entry, content(reader, entry)) for entry in reader]


def content(reader: TarReader, entry: Entry) -> bytes:
    if entry.size > 1 << 24:  # a header may claim any size
        return b"".join(bytes(piece[:0]) for _, piece in reader.pieces(entry))
    whole = bytearray(entry.size)
    for offset, piece in reader.pieces(entry):
        whole[offset : offset + len(piece)] = piece
    return bytes(whole)


def only(data: bytes) -> Entry:
    (found,) = read(data + END)
    return found[0]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_pythons_tarfile_writes_is_read_in_every_format(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, kind, size in (
            ("usr", tarfile.DIRTYPE, 0),
            ("usr/file", tarfile.REGTYPE, 1000),
            ("usr/link", tarfile.LNKTYPE, 0),
            ("usr/symlink", tarfile.SYMTYPE, 0),
            ("dev/null", tarfile.CHRTYPE, 0),
            ("dev/sda", tarfile.BLKTYPE, 0),
            ("fifo", tarfile.FIFOTYPE, 0),
            ("a" * 60 + "/" + "b" * 90, tarfile.REGTYPE, 3),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode, info.uid, info.gid, info.mtime = kind, size, 0o4751, 1000, 2000, 12345
            info.uname, info.gname, info.devmajor, info.devminor = "user", "group", 1, 3
            if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
                info.linkname = "usr/file"
            archive.addfile(info, io.BytesIO(b"x" * size))
    found = read(out.getvalue())
    assert [entry.kind for entry, _ in found] == ["dir", "file", "link", "symlink", "char", "block", "fifo", "file"]
    assert found[0][0].name.rstrip(b"/") == b"usr"
    assert found[7][0].name == b"a" * 60 + b"/" + b"b" * 90
    assert found[1][1] == b"x" * 1000
    assert found[2][0].linkname == found[3][0].linkname == b"usr/file"
    assert (found[4][0].devmajor, found[4][0].devminor) == (1, 3)
    for entry, _ in found:
        assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o4751, 1000, 2000, 12345 * 10**9)
        assert (entry.uname, entry.gname) == (b"user", b"group")


def test_v7_archives_write_directories_as_files_with_a_slash() -> None:
    assert only(header(b"old/", b"\0", magic=b"")).kind == "dir"
    assert only(member(b"old/file", b"data", b"\0", magic=b"")).kind == "file"


def test_long_names_of_gnu_tar_are_used_and_cut_at_their_nul() -> None:
    data = member(b"././@LongLink", b"n" * 300 + b"\0", b"L") + member(b"././@LongLink", b"l" * 300 + b"\0", b"K")
    entry = only(data + header(b"short", b"2", linkname=b"short"))
    assert (entry.name, entry.linkname) == (b"n" * 300, b"l" * 300)


def test_pax_records_replace_what_the_header_says() -> None:
    records = {
        b"path": "päth".encode(), b"linkpath": b"target", b"uid": b"3000000000", b"gid": b"4000000000",
        b"uname": "ü".encode(), b"gname": b"g", b"mtime": b"1700000000.123456789123", b"atime": b"-1.5", b"ctime": b"7",
    }  # fmt: skip
    entry = only(pax(records) + header(b"x", b"2"))
    assert (entry.name, entry.linkname) == ("päth".encode(), b"target")
    assert (entry.uid, entry.gid, entry.uname, entry.gname) == (3_000_000_000, 4_000_000_000, "ü".encode(), b"g")
    assert (entry.mtime_ns, entry.atime_ns, entry.ctime_ns) == (1_700_000_000_123_456_789, -1_500_000_000, 7 * 10**9)


def test_a_pax_size_counts_instead_of_the_headers() -> None:
    ((entry, data),) = read(pax({b"size": b"5"}) + member(b"f", b"hello", size=0) + END)
    assert (entry.size, data) == (5, b"hello")


def test_a_global_header_holds_until_a_record_or_an_empty_value_undoes_it() -> None:
    data = (
        pax({b"uid": b"77", b"uname": b"everyone"}, b"g")
        + header(b"one")
        + pax({b"uid": b"5"})
        + header(b"two")
        + pax({b"uid": b""})
        + header(b"three", uid=9)
        + header(b"four")
    )
    assert [(e.uid, e.uname) for e, _ in read(data + END)] == [
        (77, b"everyone"), (5, b"everyone"), (9, b"everyone"), (77, b"everyone"),
    ]  # fmt: skip


def test_extended_attributes_are_read_in_stars_and_libarchives_form() -> None:
    entry = only(
        pax(
            {
                b"SCHILY.xattr.user.plain": b"va=l\n\0ue",
                b"SCHILY.xattr.user.with%3Dequals%25": b"1",
                b"SCHILY.xattr.user.empty": b"",
                b"LIBARCHIVE.xattr.user.%c3%a4": base64.b64encode(b"\0\xff").rstrip(b"="),
                b"LIBARCHIVE.xattr.user.plain": base64.b64encode(b"not this one"),
                b"RHT.security.selinux": b"system_u:object_r:bin_t:s0",
            }
        )
        + header(b"f")
    )
    assert entry.xattrs == {
        b"user.plain": b"va=l\n\0ue",
        b"user.with=equals%": b"1",
        b"user.empty": b"",
        "user.ä".encode(): b"\0\xff",
        b"security.selinux": b"system_u:object_r:bin_t:s0",
    }


def test_numbers_in_base_256_are_read_also_negative_ones() -> None:
    block = bytearray(header(b"f"))
    block[108:116] = b"\x80" + (5_000_000_000).to_bytes(7, "big")
    block[136:148] = (-86_400 & ((1 << 96) - 1)).to_bytes(12, "big")
    entry = only(trees.sealed(block))
    assert (entry.uid, entry.mtime_ns) == (5_000_000_000, -86_400 * 10**9)


def test_fields_padded_with_spaces_or_filled_to_the_last_byte_are_read() -> None:
    block = bytearray(header(b"f", size=0))
    block[100:108] = b"   755 \0"
    block[124:136] = b"000000000000"
    block[136:148] = b"777777777777"
    entry = only(trees.sealed(block))
    assert (entry.mode, entry.mtime_ns) == (0o755, 0o777777777777 * 10**9)


def test_names_of_a_hundred_bytes_need_no_nul() -> None:
    assert only(header(b"n" * 100, b"2", linkname=b"l" * 100)).linkname == b"l" * 100
    assert only(header(b"n" * 100, prefix=b"p" * 155)).name == b"p" * 155 + b"/" + b"n" * 100


def test_a_gnu_header_may_hold_times_where_ustar_has_the_prefix() -> None:
    entry = only(header(b"f", magic=b"ustar  \0", prefix=b"00000000012\0" + b"00000000013\0"))
    assert (entry.name, entry.atime_ns, entry.ctime_ns) == (b"f", 10 * 10**9, 11 * 10**9)


def test_a_prefix_that_old_docker_put_into_gnu_headers_is_understood() -> None:
    assert only(header(b"f", magic=b"ustar  \0", prefix=b"some/directory")).name == b"some/directory/f"


def test_star_headers_have_a_shorter_prefix_and_times() -> None:
    block = bytearray(header(b"f", prefix=b"dir"))
    block[476:500] = b"00000000012\0" + b"00000000013\0"
    block[508:512] = b"tar\0"
    entry = only(trees.sealed(block))
    assert (entry.name, entry.atime_ns, entry.ctime_ns) == (b"dir/f", 10 * 10**9, 11 * 10**9)


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_a_size_where_there_can_be_no_data_is_believed_only_when_data_follow(flag: bytes) -> None:
    after = member(b"after", b"data")
    without = header(b"f", flag, size=1000, linkname=b"t") + after
    withit = member(b"f", b"\x01" * 1000, flag, linkname=b"t") + after
    for archive in (without, withit):
        found = read(archive + END)
        assert [(e.name, e.size, d) for e, d in found] == [(b"f", 0, b""), (b"after", 4, b"data")]
    assert [e.name for e, _ in read(header(b"f", flag, size=1000, linkname=b"t") + END)] == [b"f"]


def test_members_that_are_no_files_are_passed_over() -> None:
    data = header(b"label", b"V") + member(b"acl", b"x" * 600, b"A") + header(b"dumpdir/", b"D") + header(b"f", b"7")
    assert [(e.name, e.kind) for e, _ in read(data + END)] == [(b"dumpdir/", "dir"), (b"f", "file")]


def test_data_that_nobody_takes_are_passed_over() -> None:
    data = member(b"one", b"1" * 5000) + member(b"two", b"2" * 513) + END
    reader = TarReader(Trickle(data, 100))
    assert [entry.name for entry in reader] == [b"one", b"two"]
    reader = TarReader(io.BytesIO(data))
    assert reader.next() is not None
    assert bytes(reader.read_some()[:3]) == b"111"
    entry = reader.next()
    assert entry is not None
    assert reader.read_all() == b"2" * 513
    assert reader.next() is None
    assert reader.offset == len(data)


def test_read_all_has_a_limit() -> None:
    reader = TarReader(io.BytesIO(member(b"f", b"x" * 100) + END))
    reader.next()
    with pytest.raises(errors.ResourceExhausted, match="'f'"):
        reader.read_all(99)


def test_a_source_with_readinto_only_will_do() -> None:
    class Into:
        def __init__(self, data: bytes) -> None:
            self._file = io.BytesIO(data)

        def readinto(self, buffer: bytearray) -> int:
            return self._file.readinto(buffer)

    reader = TarReader(Into(member(b"f", b"x" * 2000) + END))  # type: ignore[arg-type]
    assert reader.next() is not None
    assert reader.read_all() == b"x" * 2000


# ---------------------------------------------------------------- sparse files

MAP = ((0, 3), (1024, 2), (5000, 0))
DATA = b"abcde"
WHOLE = b"abc" + bytes(1021) + b"de" + bytes(5000 - 1026)


def old_gnu_sparse() -> bytes:
    block = bytearray(header(b"s", b"S", size=5, magic=b"ustar  \0"))
    for index, (offset, length) in enumerate(MAP):
        block[386 + 24 * index : 410 + 24 * index] = b"%011o\0%011o\0" % (offset, length)
    block[483:495] = b"%011o\0" % 5000
    return trees.sealed(block) + DATA.ljust(512, b"\0")


def sparse_10() -> bytes:
    listed = b"".join(b"%d\n" % n for n in (len(MAP), *(n for part in MAP for n in part))).ljust(512, b"\0")
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"s",
               b"GNU.sparse.realsize": b"5000"}  # fmt: skip
    return pax(records) + member(b"GNUSparseFile.0/s", listed + DATA)


def sparse_01() -> bytes:
    listed = b",".join(b"%d,%d" % part for part in MAP)
    records = {b"GNU.sparse.map": listed, b"GNU.sparse.name": b"s", b"GNU.sparse.size": b"5000",
               b"GNU.sparse.numblocks": b"3"}  # fmt: skip
    return pax(records) + member(b"GNUSparseFile.0/s", DATA)


def sparse_00() -> bytes:
    body = b""
    pairs = [(b"GNU.sparse.size", b"5000"), (b"GNU.sparse.numblocks", b"3")]
    for offset, length in MAP:
        pairs += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    for key, value in pairs:
        rest = b" %b=%b\n" % (key, value)
        body += b"%d%b" % (len(rest) + 2, rest)
    return member(b"pax", body, b"x") + member(b"s", DATA)


@pytest.mark.parametrize("make", [old_gnu_sparse, sparse_00, sparse_01, sparse_10])
@pytest.mark.parametrize("most", [1, 700, 1 << 20])
def test_sparse_files_are_read_in_all_four_forms(make: object, most: int) -> None:
    found = read(make() + member(b"after", b"x") + END, most)  # type: ignore[operator]
    assert [entry.name for entry, _ in found] == [b"s", b"after"]
    assert found[0][1] == WHOLE
    assert found[0][0].sparse == MAP


def test_an_old_sparse_map_goes_on_in_extension_blocks() -> None:
    parts = [(1000 * n, 1) for n in range(30)]
    block = bytearray(header(b"s", b"S", size=30, magic=b"ustar  \0"))
    extensions = [bytearray(512), bytearray(512)]
    for index, (offset, length) in enumerate(parts):
        slot = b"%011o\0%011o\0" % (offset, length)
        if index < 4:
            block[386 + 24 * index : 410 + 24 * index] = slot
        else:
            number, place = divmod(index - 4, 21)
            extensions[number][24 * place : 24 * place + 24] = slot
    block[482] = 1
    extensions[0][504] = 1
    block[483:495] = b"%011o\0" % 30_000
    found = read(trees.sealed(block) + b"".join(extensions) + b"x" * 30 + bytes(482) + END)
    assert [i for i, byte in enumerate(found[0][1]) if byte] == [offset for offset, _ in parts]


@pytest.mark.parametrize(
    "records",
    [
        {b"GNU.sparse.map": b"0,3,2,2", b"GNU.sparse.size": b"5000"},  # overlap
        {b"GNU.sparse.map": b"0,3,10,9", b"GNU.sparse.size": b"5000"},  # more than is stored
        {b"GNU.sparse.map": b"0,3,4999,2", b"GNU.sparse.size": b"5000"},  # past the end
        {b"GNU.sparse.map": b"0,5,7", b"GNU.sparse.size": b"5000"},  # odd
        {b"GNU.sparse.map": b"-5,5", b"GNU.sparse.size": b"5000"},
        {b"GNU.sparse.map": b"0,5", b"GNU.sparse.size": b"-1"},
        {b"GNU.sparse.major": b"2", b"GNU.sparse.minor": b"0"},
    ],
)
def test_impossible_sparse_maps_are_refused(records: dict[bytes, bytes]) -> None:
    with pytest.raises(errors.DataLoss):
        read(pax(records) + member(b"s", DATA) + END)


# ---------------------------------------------------------------- damage


def test_a_bad_checksum_names_the_byte_and_the_entry_before_it() -> None:
    broken = bytearray(member(b"good", b"x") + header(b"bad") + END)
    broken[1030] ^= 1
    with pytest.raises(errors.DataLoss, match=r"bad header checksum, at byte 1024, in or after 'good'"):
        read(bytes(broken))


def test_something_else_is_told_not_to_be_a_tar_archive() -> None:
    with pytest.raises(errors.DataLoss, match="not a tar archive"):
        read(b"<!DOCTYPE html>".ljust(2048))


@pytest.mark.parametrize("length", [512 + 100, 512 + 1023, 1500, 1536 + 511])
def test_a_truncated_archive_is_data_loss_wherever_it_ends(length: int) -> None:
    whole = member(b"one", b"x" * 1000) + member(b"two", b"y" * 1000) + END
    with pytest.raises(errors.DataLoss, match=r"ends in the middle .*'one'"):
        read(whole[:length])


def test_an_archive_without_its_end_marks_is_whole() -> None:
    assert len(read(member(b"one", b"x"))) == 1
    assert read(b"") == []
    assert len(read(member(b"one", b"x") + bytes(512))) == 1


def test_zeros_after_the_end_are_fine_and_read_rubbish_is_not() -> None:
    data = member(b"one", b"x") + bytes(20 * 512 + 100)
    reader = TarReader(io.BytesIO(data))
    assert len(list(reader)) == 1
    assert reader.offset == len(data)
    with pytest.raises(errors.DataLoss, match=r"rubbish after the end of the archive, at byte 2055"):
        read(member(b"one", b"x") + END + b"\0\0\0\0\0\0\0rubbish")
    lenient = TarReader(io.BytesIO(data + b"rubbish"), strict_tail=False)
    assert len(list(lenient)) == 1
    assert lenient.offset == len(data) + 7


@pytest.mark.parametrize(
    "data",
    [
        member(b"pax", b"garbage\n", b"x") + header(b"f"),
        member(b"pax", b"20 path=short\n", b"x") + header(b"f"),
        member(b"pax", b"11 path=ab\nrest", b"x") + header(b"f"),
        pax({b"path": b"a\0b"}) + header(b"f"),
        pax({b"size": b"-1"}) + header(b"f"),
        pax({b"size": b"1e3"}) + header(b"f"),
        pax({b"mtime": b"yesterday"}) + header(b"f"),
        pax({b"LIBARCHIVE.xattr.user.a": b"!"}) + header(b"f"),
        pax({b"path": b"f"}),
        member(b"././@LongLink", b"name\0", b"L"),
        header(b"f", b"x", size=1 << 30),
        header(b"f", b"V", size=0o77777777777),
        header(b"f", b"M", size=5),
        header(b"f", b"%"),
    ],
)
def test_damaged_extensions_and_unknown_types_are_data_loss(data: bytes) -> None:
    with pytest.raises(errors.DataLoss, match="byte"):
        read(data + END)


def test_names_are_shown_escaped_and_short_in_messages() -> None:
    with pytest.raises(errors.DataLoss) as caught:
        read(pax({b"path": b"evil\x1b[2J\n" + b"x" * 3000}) + header(b"f", size=100))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def archive_of_everything() -> bytes:
    return (
        pax({b"comment": b"global"}, b"g")
        + member(b"dir/", b"", b"5")
        + member(b"dir/file", b"x" * 700)
        + member(b"././@LongLink", b"n" * 300 + b"\0", b"L")
        + member(b"short", b"y")
        + pax({b"path": b"long/" * 30, b"SCHILY.xattr.user.a": b"b", b"mtime": b"1.5"})
        + member(b"p", b"z" * 512)
        + header(b"hard", b"1", linkname=b"dir/file", size=700)
        + header(b"sym", b"2", linkname=b"dir")
        + old_gnu_sparse()
        + sparse_00()
        + sparse_01()
        + sparse_10()
        + END
    )


def told(data: bytes, most: int) -> list[tuple[object, ...]]:
    return [
        (*(getattr(entry, field) for field in Entry.__slots__ if field != "xattrs"), dict(entry.xattrs), content_)
        for entry, content_ in read(data, most)
    ]


def test_how_the_stream_is_cut_into_pieces_does_not_matter() -> None:
    data = archive_of_everything()
    expected = told(data, 1 << 20)
    for most in (1, 7, 511, 512, 513, 1000):
        assert told(data, most) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(archive_of_everything()) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(archive_of_everything())),
    st.booleans(),
)
def test_damage_anywhere_ends_in_data_loss_or_in_an_archive_never_in_another_error(
    changes: list[tuple[int, int]], length: int, resealed: bool
) -> None:
    data = bytearray(archive_of_everything())
    for position, value in changes:
        data[position] = value
        block = position // 512 * 512
        if resealed and data[block + 257 : block + 262] == b"ustar":
            data[block : block + 512] = trees.sealed(data[block : block + 512])
    try:
        for entry, whole in read(bytes(data[:length] if not resealed else data)):
            assert len(whole) == entry.size or entry.size > 1 << 24
    except errors.DataLoss:
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_are_never_more_than_data_loss(data: bytes) -> None:
    try:
        read(data)
    except errors.DataLoss:
        pass


def test_the_checksum_is_an_exact_sum_with_either_sign() -> None:
    block = bytearray(header(b"\xff" * 100, prefix=b"\xfe" * 155))
    assert only(bytes(block)).name == b"\xfe" * 155 + b"/" + b"\xff" * 100
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"\x80\0\0\0" + bytes(4) if signed < 0 else b"%06o\0 " % signed
    assert tar._signed_sum(bytes(block)) == signed
