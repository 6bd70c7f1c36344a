"""Protobuf's wire format, as much of it as small messages need: monitors cannot afford google.protobuf (20 ms, 10 MiB).

A message is a `Record` whose fields say in `_wire`, in the order of declaration, their number and type:

    class Mount(Message):
        type: str = ""
        options: tuple[str, ...] = ()
        _wire = (string(1), repeated(string(4)))

proto3 rules: a field that has its default value is not sent; the last of a repeated scalar wins; two pieces of one
sub-message merge; packed and unpacked numbers are both read; fields that are not known are skipped. Source:
https://protobuf.dev/programming-guides/encoding/. May import nothing outside the interpreter's core.
"""

from __future__ import annotations

from .. import errors
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = 0, 1, 2, 3, 4, 5
_MAX_GROUPS = 100
_MASK64 = (1 << 64) - 1


class Malformed(errors.InvalidArgument):
    """Bytes that are not a message of this type."""


def encode_varint(value: int) -> bytes:
    """A base-128 varint; a negative number takes ten bytes (two's complement of 64 bits)."""
    value &= _MASK64
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where the next byte is. Raises Malformed."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _MASK64, at
            shift += 7
            if shift > 63:
                raise Malformed("malformed message: a number of more than ten bytes")
    except IndexError:
        raise Malformed("malformed message: it ends inside a number") from None


class Field:
    """How one field travels: its number, wire type, and the two directions of its value.

    shape: "one", "many" (repeated), "map" (string → string) or "message" (one sub-message, merged when it comes in
    pieces).
    """

    __slots__ = ("decode", "encode", "number", "shape", "tag", "wire_type")

    def __init__(
        self,
        number: int,
        wire_type: int,
        encode: Callable[[Any], bytes],
        decode: Callable[[Any], Any],
        shape: str = "one",
    ) -> None:
        self.number = number
        self.wire_type = wire_type
        self.tag = encode_varint(number << 3 | wire_type)
        self.encode = encode
        self.decode = decode
        self.shape = shape


def _sized(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _text(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"malformed message: a text that is not UTF-8 ({error.reason})") from None


def _int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def string(number: int) -> Field:
    """A `string` field (str)."""
    return Field(number, _BYTES, lambda text: _sized(text.encode("utf-8", "surrogateescape")), _text)


def data(number: int) -> Field:
    """A `bytes` field."""
    return Field(number, _BYTES, lambda value: _sized(bytes(value)), bytes)


def uint32(number: int) -> Field:
    """A `uint32` field; a larger number is cut to 32 bits, as the format says."""
    return Field(number, _VARINT, encode_varint, lambda value: value & 0xFFFFFFFF)


def uint64(number: int) -> Field:
    """A `uint64` field."""
    return Field(number, _VARINT, encode_varint, int)


def int32(number: int) -> Field:
    """An `int32` or enum field."""
    return Field(number, _VARINT, encode_varint, _int32)


def int64(number: int) -> Field:
    """An `int64` field."""
    return Field(number, _VARINT, encode_varint, _int64)


def boolean(number: int) -> Field:
    """A `bool` field."""
    return Field(number, _VARINT, lambda value: b"\x01" if value else b"\x00", bool)


def message(number: int, kind: type[Message]) -> Field:
    """A sub-message, or None when it is absent."""
    return Field(number, _BYTES, lambda value: _sized(value.encode()), kind.decode, "message")


def repeated(field: Field) -> Field:
    """Many of `field`, as a tuple. Numbers are sent packed."""
    return Field(field.number, field.wire_type, field.encode, field.decode, "many")


def string_map(number: int) -> Field:
    """A `map<string, string>` field (dict)."""
    return Field(number, _BYTES, _encode_entry, _decode_entry, "map")


class Message(Record):
    """Base of messages; see the module's docstring."""

    if TYPE_CHECKING:
        _wire: ClassVar[tuple[Field, ...]]
    _wire = ()

    def encode(self) -> bytes:
        """The message as bytes."""
        out = bytearray()
        for name, field in zip(self._fields, self._wire):
            value = getattr(self, name)
            if not value:
                continue  # 0, "", False, nothing: what is not there means the same
            if field.shape == "map":
                value = value.items()
            elif field.shape != "many":
                value = (value,)
            elif field.wire_type == _VARINT:
                out += encode_varint(field.number << 3 | _BYTES)
                out += _sized(b"".join([field.encode(item) for item in value]))
                continue
            for item in value:
                out += field.tag
                out += field.encode(item)
        return bytes(out)

    @classmethod
    def decode(cls, raw: bytes | bytearray | memoryview) -> Self:
        """The message that `raw` holds. Raises Malformed, naming the message's type."""
        try:
            return cls(**_decode_fields(cls, bytes(raw)))
        except Malformed as error:
            if cls.__name__ in error.message:
                raise
            raise Malformed(f"{cls.__name__}: {error.message}") from None


def _decode_fields(kind: type[Message], raw: bytes) -> dict[str, Any]:
    known = {field.number: (name, field) for name, field in zip(kind._fields, kind._wire)}
    values: dict[str, Any] = {}
    pieces: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        tag, at = decode_varint(raw, at)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("malformed message: field number 0")
        value, at = _read_value(raw, at, wire_type)
        name, field = known.get(number, ("", None))
        if field is None:
            continue
        if wire_type != field.wire_type:
            if field.shape == "many" and field.wire_type == _VARINT and wire_type == _BYTES:
                values[name] = values.get(name, ()) + _unpack(field, value)
            continue  # the type of a field that changed: unknown, as protobuf's own parsers have it
        if field.shape == "message":
            pieces[name] = pieces.get(name, b"") + value
        elif field.shape == "many":
            values[name] = (*values.get(name, ()), field.decode(value))
        elif field.shape == "map":
            key, item = field.decode(value)
            values.setdefault(name, {})[key] = item
        else:
            values[name] = field.decode(value)
    for name, piece in pieces.items():
        values[name] = next(f for n, f in known.values() if n == name).decode(piece)
    return values


def _unpack(field: Field, packed: bytes) -> tuple[Any, ...]:
    items = []
    at = 0
    while at < len(packed):
        value, at = decode_varint(packed, at)
        items.append(field.decode(value))
    return tuple(items)


def _read_value(raw: bytes, at: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == _VARINT:
        return decode_varint(raw, at)
    if wire_type == _BYTES:
        length, at = decode_varint(raw, at)
        end = at + length
    elif wire_type == _FIXED64:
        end = at + 8
    elif wire_type == _FIXED32:
        end = at + 4
    elif wire_type == _GROUP:
        return b"", _skip_group(raw, at)
    else:
        raise Malformed(f"malformed message: wire type {wire_type}")
    if end > len(raw):
        raise Malformed("malformed message: it ends inside a field")
    return raw[at:end], end


def _skip_group(raw: bytes, at: int) -> int:
    """Where the group that began before `at` ends. (Groups are obsolete; a stranger may still send one.)"""
    depth = 1
    while depth:
        tag, at = decode_varint(raw, at)
        kind = tag & 7
        if kind == _GROUP:
            depth += 1
            if depth > _MAX_GROUPS:
                raise Malformed("malformed message: groups nested too deeply")
        elif kind == _END_GROUP:
            depth -= 1
        else:
            _, at = _read_value(raw, at, kind)
    return at


class _Entry(Message):
    key: str = ""
    value: str = ""
    _wire = (string(1), string(2))


def _encode_entry(item: tuple[str, str]) -> bytes:
    return _sized(_Entry(*item).encode())


def _decode_entry(raw: bytes) -> tuple[str, str]:
    entry = _Entry.decode(raw)
    return entry.key, entry.value


class Empty(Message):
    """google.protobuf.Empty."""


class AnyMessage(Message):
    """google.protobuf.Any: bytes and the name of their type."""

    type_url: str = ""
    value: bytes = b""
    _wire = (string(1), data(2))


class Timestamp(Message):
    """google.protobuf.Timestamp: seconds and nanoseconds since the epoch."""

    seconds: int = 0
    nanos: int = 0
    _wire = (int64(1), int32(2))

    @classmethod
    def from_ns(cls, ns: int) -> Timestamp | None:
        """ns: nanoseconds since the epoch; 0 (not known) is no timestamp."""
        return cls(ns // 1_000_000_000, ns % 1_000_000_000) if ns else None

    @property
    def ns(self) -> int:
        return self.seconds * 1_000_000_000 + self.nanos
