"""ttrpc's frames and envelopes. Source: containerd/ttrpc PROTOCOL.md and its request.proto.

A frame is a header of ten bytes (data length, stream id: 32 bits, big-endian; type and flags: one byte each) and at
most 4 MiB of data. A client's streams have odd ids, rising. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

from .. import errors
from ..record import Record
from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADER_BYTES = 10
MAX_DATA_BYTES = 4 << 20

REQUEST, RESPONSE, DATA = 1, 2, 3

REMOTE_CLOSED = 0x01
"""On a request or data frame: the sender sends no more on this stream."""
REMOTE_OPEN = 0x02
"""On a request: the sender will send more."""
NO_DATA = 0x04
"""On a data frame: it carries flags only, not an empty message."""

OK = 0
UNKNOWN = 2

_DETAIL_TYPE = "orlop.dev/error"
"""A status detail of ours: the error's class by name, and its advice, so that both survive the wire."""


class KeyValue(wire.Message):
    """One value of one metadata key."""

    key: str = ""
    value: str = ""
    _wire = (wire.string(1), wire.string(2))


class Request(wire.Message):
    """The envelope that starts a stream. timeout_nano: nanoseconds the caller will wait, 0 for no limit."""

    service: str = ""
    method: str = ""
    payload: bytes = b""
    timeout_nano: int = 0
    metadata: tuple[KeyValue, ...] = ()
    _wire = (
        wire.string(1),
        wire.string(2),
        wire.data(3),
        wire.int64(4),
        wire.repeated(wire.message(5, KeyValue)),
    )


class Status(wire.Message):
    """google.rpc.Status."""

    code: int = 0
    message: str = ""
    details: tuple[wire.AnyMessage, ...] = ()
    _wire = (wire.int32(1), wire.string(2), wire.repeated(wire.message(3, wire.AnyMessage)))


class Response(wire.Message):
    """The envelope that ends a stream."""

    status: Status | None = None
    payload: bytes = b""
    _wire = (wire.message(1, Status), wire.data(2))


class Frame(Record):
    """One frame. data is None for a frame that was too large and whose bytes were dropped."""

    stream: int
    type: int
    flags: int
    data: bytes | None


def encode_frame(stream: int, kind: int, flags: int, data: bytes) -> bytes:
    """A frame's bytes. Raises ResourceExhausted over 4 MiB of data."""
    if len(data) > MAX_DATA_BYTES:
        raise errors.ResourceExhausted(f"a ttrpc message of {len(data)} bytes is over the limit of {MAX_DATA_BYTES}")
    return len(data).to_bytes(4, "big") + stream.to_bytes(4, "big") + bytes((kind, flags)) + data


class Deframer:
    """Cuts a stream of bytes into frames; holds at most one frame's bytes."""

    __slots__ = ("_buffer", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    @property
    def partial(self) -> bool:
        """Whether the bytes so far end inside a frame."""
        return bool(self._buffer) or self._skip > 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes.

        A frame of more than 4 MiB is skipped without being held, and reported with data None. Raises InvalidArgument
        when the first byte is not 0 (16 MiB and more: that is no ttrpc peer).
        """
        frames: list[Frame] = []
        buffer = self._buffer
        buffer += chunk
        while True:
            if self._skip:
                cut = min(self._skip, len(buffer))
                del buffer[:cut]
                self._skip -= cut
            if len(buffer) < HEADER_BYTES:
                return frames
            if buffer[0]:
                raise errors.InvalidArgument("not a ttrpc frame: its length is over 16 MiB")
            length = int.from_bytes(buffer[:4], "big")
            stream = int.from_bytes(buffer[4:8], "big")
            if length > MAX_DATA_BYTES:
                frames.append(Frame(stream, buffer[8], buffer[9], None))
                del buffer[:HEADER_BYTES]
                self._skip = length
                continue
            end = HEADER_BYTES + length
            if len(buffer) < end:
                return frames
            frames.append(Frame(stream, buffer[8], buffer[9], bytes(buffer[HEADER_BYTES:end])))
            del buffer[:end]


def metadata_to_wire(metadata: Mapping[str, str | Iterable[str]] | None) -> tuple[KeyValue, ...]:
    """Metadata as it travels: keys in lower case, a key with several values several times."""
    if not metadata:
        return ()
    pairs = []
    for key, value in metadata.items():
        for one in (value,) if isinstance(value, str) else value:
            pairs.append(KeyValue(key.lower(), one))
    return tuple(pairs)


def metadata_from_wire(pairs: Iterable[KeyValue]) -> dict[str, list[str]]:
    """Key (in lower case) → its values, in order."""
    metadata: dict[str, list[str]] = {}
    for pair in pairs:
        metadata.setdefault(pair.key.lower(), []).append(pair.value)
    return metadata


def status_of(error: BaseException) -> Status:
    """The status that carries an error: code and message for everyone, class and advice for ourselves."""
    if isinstance(error, errors.OrlopError):
        from .. import jsonio

        detail = jsonio.dump_bytes({"kind": type(error).__name__, "advice": error.advice})
        return Status(error.grpc_code, error.message, (wire.AnyMessage(_DETAIL_TYPE, detail),))
    if isinstance(error, OSError):
        mapped = errors.from_os(error, "request failed")
        return Status(mapped.grpc_code, mapped.message)
    return Status(UNKNOWN, f"{type(error).__name__}: {error}")


def error_of(status: Status) -> errors.OrlopError:
    """The error that a status (not OK) stands for, of the very class it had when an Orlop sent it."""
    for detail in status.details:
        if detail.type_url == _DETAIL_TYPE:
            from .. import jsonio

            try:
                said = jsonio.loads(detail.value)
                kind = getattr(errors, str(said["kind"]), None)
                if isinstance(kind, type) and issubclass(kind, errors.OrlopError):
                    return kind(status.message, advice=str(said.get("advice", "")))
            except (ValueError, KeyError, TypeError, AttributeError):
                break  # not ours after all: the code says enough
    return errors.from_grpc(status.code, status.message)


def parse_address(address: str) -> str:
    """The socket's path in "unix:///path" or a plain path; an abstract one ("unix://@name") begins with a NUL.

    Raises InvalidArgument for another scheme.
    """
    if address.startswith("unix://"):
        path = address[len("unix://") :]
    elif "://" in address:
        raise errors.InvalidArgument(f"cannot connect to {address}: only unix sockets are known")
    else:
        path = address
    if path.startswith("@"):
        return "\0" + path[1:]
    if not path:
        raise errors.InvalidArgument("cannot connect: the address is empty")
    return path
