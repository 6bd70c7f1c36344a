r"""Extended headers of POSIX.1-2001 ("pax interchange format"): records in, records out. Pure.

A record is "LENGTH KEY=VALUE\n", LENGTH in decimal counting itself. Extended attributes stand in star's
`SCHILY.xattr.NAME` (NAME with "%" and "=" as %25 and %3D, as GNU tar writes it) or libarchive's `LIBARCHIVE.xattr.NAME`
(NAME percent-encoded, value in base64).
"""

from __future__ import annotations

from .entry import SECOND_NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHILY_XATTR = b"SCHILY.xattr."
LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
RHT_SELINUX = b"RHT.security.selinux"

_TEXT = frozenset((b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"))


class Malformed(ValueError):
    """A record that cannot be read; the reader adds where."""


def parse(data: bytes) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    """(records, the repeated GNU.sparse.offset and GNU.sparse.numbytes records in order). Raises Malformed."""
    records: dict[bytes, bytes] = {}
    pairs: list[tuple[bytes, bytes]] = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 20)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise Malformed("record without a length")
        stop = position + int(digits)
        equals = data.find(b"=", space, stop)
        if stop > end or equals <= space + 1 or data[stop - 1 : stop] != b"\n":
            raise Malformed("malformed record")
        key, value = data[space + 1 : equals], data[equals + 1 : stop - 1]
        if key in _TEXT and b"\0" in value:
            raise Malformed(f"NUL in {key.decode()}")
        if key == b"GNU.sparse.offset" or key == b"GNU.sparse.numbytes":
            pairs.append((key, value))
        else:
            records[key] = value
        position = stop
    return records, pairs


def number(value: bytes) -> int:
    """A decimal integer. Raises Malformed."""
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 30:
        raise Malformed(f"bad number {value[:40]!r}")
    return int(value)


def time_ns(value: bytes) -> int:
    """Nanoseconds since the epoch of a decimal time with any number of fraction digits. Raises Malformed."""
    whole, _, fraction = value.partition(b".")
    if fraction and not fraction.isdigit():
        raise Malformed(f"bad time {value[:40]!r}")
    ns = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    seconds = number(whole)
    return seconds * SECOND_NS + (-ns if whole[:1] == b"-" else ns)


def xattrs(records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The extended attributes among records. Raises Malformed."""
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(SCHILY_XATTR):
            name = key[len(SCHILY_XATTR) :]
            if b"%" in name:
                name = name.replace(b"%3D", b"=").replace(b"%25", b"%")
            found[name] = value
        elif key.startswith(LIBARCHIVE_XATTR):
            name = _percent_decoded(key[len(LIBARCHIVE_XATTR) :])
            found.setdefault(name, _base64(value))
        elif key == RHT_SELINUX:
            found.setdefault(b"security.selinux", value)
    for name in found:
        if not name or b"\0" in name:
            raise Malformed("bad extended attribute name")
    return found


def _percent_decoded(name: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(name) if b"%" in name else name


def _base64(value: bytes) -> bytes:
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)  # libarchive leaves the padding out
    except Error as error:
        raise Malformed(f"bad base64 in an extended attribute: {error}") from None


def records_of(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The body of an extended header, records sorted by key.

    Values that are not UTF-8 make it begin with hdrcharset=BINARY, as POSIX.1-2024 (and libarchive) has it.
    """
    items = sorted(pairs)
    if any(not _is_utf8(value) for key, value in items if key in _TEXT):
        items.insert(0, (b"hdrcharset", b"BINARY"))
    return b"".join(record(key, value) for key, value in items)


def record(key: bytes, value: bytes) -> bytes:
    """One record with its length."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    total = length + len(str(length))
    if length + len(str(total)) != total:
        total = length + len(str(total))
    return str(total).encode() + rest


def xattr_key(name: bytes) -> bytes:
    """The key an extended attribute is written under."""
    return SCHILY_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def time_text(ns: int) -> bytes:
    """A time as a record holds it: as few digits as it takes."""
    sign, ns = (b"-", -ns) if ns < 0 else (b"", ns)
    seconds, fraction = divmod(ns, SECOND_NS)
    text = b"%b%d" % (sign, seconds)
    return text + b"." + (b"%09d" % fraction).rstrip(b"0") if fraction else text


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
