"""Maps of sparse files in tar archives: old GNU headers and GNU's pax forms 0.0, 0.1 and 1.0. Pure.

Sources: GNU tar manual, "Storing Sparse Files"; its tar.h. A map is a tuple of (offset, length) of the parts with data.
"""

from __future__ import annotations

from . import pax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Map = tuple[tuple[int, int], ...]

PARTS_MAX = 1 << 18
"""More parts than any real file has in an archive; bounds the memory a map may take."""

BLOCK = 512
_OLD_MAP, _OLD_EXTENDED, _OLD_REALSIZE = 386, 482, 483
_EXTENSION_EXTENDED = 504
_SLOT = 24


def old_gnu(header: bytes, read_block: Callable[[], bytes], number: Callable[[bytes], int]) -> tuple[Map, int]:
    """(map, real size) of an old GNU sparse header ("S") and the extension blocks that follow it.

    read_block: the next 512 bytes of the archive; number: reads a header's numeric field. Raises pax.Malformed.
    """
    parts: list[tuple[int, int]] = []
    area, more = header[_OLD_MAP:_OLD_EXTENDED], header[_OLD_EXTENDED]
    while True:
        for at in range(0, len(area), _SLOT):
            slot = area[at : at + _SLOT]
            if not slot[0]:
                break
            parts.append((number(slot[:12]), number(slot[12:])))
        if not more:
            break
        if len(parts) > PARTS_MAX:
            raise pax.Malformed("sparse map with too many parts")
        block = read_block()
        area, more = block[:_EXTENSION_EXTENDED], block[_EXTENSION_EXTENDED]
    return tuple(parts), number(header[_OLD_REALSIZE : _OLD_REALSIZE + 12])


def version(records: Mapping[bytes, bytes], pairs: Iterable[object]) -> str:
    """The form of sparse file that pax records announce: "0.0", "0.1", "1.0" or "" (none). Raises pax.Malformed."""
    major, minor = records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")
    if major is not None or minor is not None:
        found = f"{pax.number(major or b'0')}.{pax.number(minor or b'0')}"
        if found in ("0.0", "0.1", "1.0"):
            return found
        raise pax.Malformed(f"unknown sparse format {found}")
    if b"GNU.sparse.map" in records:
        return "0.1"
    return "0.0" if b"GNU.sparse.numblocks" in records or any(True for _ in pairs) else ""


def real_size(records: Mapping[bytes, bytes], stored: int) -> int:
    """The file's size once unpacked. Raises pax.Malformed."""
    for key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if key in records:
            return pax.number(records[key])
    return stored


def from_records(records: Mapping[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> Map:
    """The map of forms 0.0 (repeated records) and 0.1 (one list). Raises pax.Malformed."""
    listed = records.get(b"GNU.sparse.map")
    if listed is not None:
        numbers = [pax.number(text) for text in listed.split(b",")] if listed else []
    else:
        keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        if any(key != keys[index % 2] for index, (key, _) in enumerate(pairs)):
            raise pax.Malformed("sparse map out of order")
        numbers = [pax.number(value) for _, value in pairs]
    if len(numbers) % 2 or len(numbers) > 2 * PARTS_MAX:
        raise pax.Malformed("malformed sparse map")
    return tuple(zip(numbers[::2], numbers[1::2]))


def from_data(read_block: Callable[[], bytes]) -> tuple[Map, int]:
    """(map, bytes of the data it took) of form 1.0, whose map stands before the data. Raises pax.Malformed."""
    text, taken = b"", 0
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        while b"\n" not in text:
            if len(text) > BLOCK:
                raise pax.Malformed("malformed sparse map")
            text += read_block()
            taken += BLOCK
        *lines, text = text.split(b"\n")
        for line in lines:
            if len(numbers) == wanted:
                break
            numbers.append(pax.number(line))
            if len(numbers) == 1:
                if not 0 <= numbers[0] <= PARTS_MAX:
                    raise pax.Malformed("sparse map with too many parts")
                wanted = 1 + 2 * numbers[0]
    return tuple(zip(numbers[1::2], numbers[2::2])), taken


def check(parts: Map, size: int, stored: int) -> None:
    """Raise pax.Malformed unless the parts ascend, lie within size, and add up to the bytes stored."""
    position = total = 0
    for offset, length in parts:
        if offset < position or length < 0 or offset + length > size:
            raise pax.Malformed("sparse map that does not fit the file")
        position = offset + length
        total += length
    if total != stored:
        raise pax.Malformed(f"sparse map of {total} bytes for {stored} bytes of data")
