"""How layers and archives are compressed: found out, read and written as streams. Touches no file system.

gzip by isal where there is a build of it (2 to 4 times zlib's speed), else zlib; zstd by the standard library's module
or its backport. Inflating lets the GIL go for a quarter MiB or more at a time, so that it overlaps with what other
threads do. Memory: one piece in, one piece out, and zstd's window (at most 128 MiB, commonly 2–8).
Sources: RFC 1952, RFC 8878; gzip(1) for what may follow a gzip stream: zeros, and rubbish, which is passed over.
"""

from __future__ import annotations

from .. import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    Buffer = bytes | bytearray | memoryview

    class Source(Protocol):
        """A stream: returns 1 to n bytes, or nothing at the end."""

        def read(self, n: int, /) -> bytes: ...

    class Sink(Protocol):
        """Takes all the bytes it is given."""

        def write(self, data: bytes, /) -> object: ...

    class Codec(Protocol):
        """Decompresses one gzip member or one zstd frame."""

        eof: bool
        needs_input: bool
        unused_data: bytes

        def decompress(self, data: Buffer, max_length: int = -1) -> bytes: ...


NONE, GZIP, ZSTD = "none", "gzip", "zstd"
MAGIC_LENGTH = 6
"""As many first bytes as `detect` wants to see."""

PIECE_OUT = 1 << 19
_PIECE_IN_MIN, _PIECE_IN_MAX = 1 << 14, 1 << 18
_GZIP_HEADER_MAX = 1 << 20
_RATIO_GRACE = 1 << 30
"""No stream is called a bomb before it has given this many bytes."""

_ZSTD_LEVEL = 3
_ISAL_LEVEL = 2
_ZLIB_LEVEL = 6


def detect(magic: bytes) -> str:
    """The compression that a stream's first bytes show: "gzip", "zstd", "bzip2", "xz" or "none"."""
    if magic[:2] == b"\x1f\x8b":
        return GZIP
    if magic[:4] == b"\x28\xb5\x2f\xfd" or (magic[1:4] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50):
        return ZSTD
    if magic[:3] == b"BZh":
        return "bzip2"
    if magic[:6] == b"\xfd7zXZ\x00":
        return "xz"
    return NONE


def open_reader(raw: Source, kind: str, *, max_ratio: int = 0) -> Reader:
    """The uncompressed bytes of a stream, to be read to its end: all of `raw` is then read too.

    kind: "none", "gzip" or "zstd". max_ratio: ResourceExhausted when more than this many times the bytes read have
    come out (after the first GiB); 0 for no limit. InvalidArgument for another kind.
    """
    if kind == NONE:
        return Reader(raw, 0)
    if kind == GZIP:
        return _Members(raw, max_ratio, GZIP, _gzip_codec())
    if kind == ZSTD:
        return _Members(raw, max_ratio, ZSTD, _zstd_codec())
    raise errors.InvalidArgument(
        f"compression {kind!r} is not supported", advice="recompress it with gzip or zstd, or not at all"
    )


def open_writer(out: Sink, kind: str, *, level: int | None = None) -> Writer:
    """Compress into `out`. The same bytes give the same stream (with one build of the library): no time, no name.

    kind: "none", "gzip" or "zstd"; level: None for the default, which is quick rather than small.
    """
    if kind == NONE:
        return Writer(out, None)
    if kind == GZIP:
        return Writer(out, _gzip_compressor(level))
    if kind == ZSTD:
        return Writer(out, _zstd().ZstdCompressor(_ZSTD_LEVEL if level is None else level))
    raise errors.InvalidArgument(f"compression {kind!r} is not supported", advice="use none, gzip or zstd")


class Reader:
    """A stream of uncompressed bytes; this one of a stream that is not compressed.

    consumed, produced: bytes read from the source and given out so far.
    """

    def __init__(self, raw: Source, max_ratio: int) -> None:
        self._raw = raw
        self._max_ratio = max_ratio
        self.consumed = 0
        self.produced = 0

    def read(self, n: int = PIECE_OUT) -> bytes:
        """1 to n bytes, or b"" at the end. DataLoss when the stream is damaged or ends too early."""
        data = self._raw.read(n)
        self.consumed += len(data)
        self.produced += len(data)
        return data

    def readinto(self, buffer: Buffer) -> int:
        """Fill the beginning of `buffer`; returns how many bytes, 0 at the end."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class _Members(Reader):
    """gzip members or zstd frames, one after the other."""

    def __init__(self, raw: Source, max_ratio: int, kind: str, new_codec: Callable[[], Codec]) -> None:
        super().__init__(raw, max_ratio)
        self._kind = kind
        self._new_codec = new_codec
        self._codec: Codec | None = None
        self._pending: bytes = b""
        # Long pieces are quicker, but what a member leaves of one is copied: short members (a layer made for lazy
        # pulling has one for each file) get short pieces.
        self._piece_in = _PIECE_IN_MIN
        self._first = True
        self._ended = False

    def read(self, n: int = PIECE_OUT) -> bytes:
        while not self._ended:
            codec = self._codec
            if codec is None:
                if not self._next_member():
                    break
                codec = self._codec = self._new_codec()
                data, self._pending = self._pending, b""
            elif codec.needs_input:
                self._piece_in = min(2 * self._piece_in, _PIECE_IN_MAX)
                data = self._more()
                if not data:
                    raise errors.DataLoss(f"{self._kind} data end too early, after {self.consumed} bytes")
            else:
                data = b""
            try:
                out = codec.decompress(data, n)
            except Exception as error:  # three libraries, three classes that share nothing else
                if isinstance(error, MemoryError):
                    raise
                raise errors.DataLoss(f"{self._kind} data are damaged, before byte {self.consumed}: {error}") from error
            if codec.eof:
                self._pending = codec.unused_data
                self._codec = None
                self._piece_in = _PIECE_IN_MIN
            if out:
                self.produced += len(out)
                if self._max_ratio and self.produced > max(_RATIO_GRACE, self._max_ratio * self.consumed):
                    raise errors.ResourceExhausted(
                        f"{self._kind} data expand more than {self._max_ratio} times ({self.consumed} to "
                        f"{self.produced} bytes): it looks like a decompression bomb"
                    )
                return out
        return b""

    def _more(self) -> bytes:
        data = self._raw.read(self._piece_in)
        self.consumed += len(data)
        return data

    def _next_member(self) -> bool:
        """Begin the next member, if there is one; `_pending` then holds its header, whole."""
        magic = 2 if self._kind == GZIP else 4
        while len(self._pending) < magic:
            more = self._more()
            if not more:
                break
            self._pending = bytes(self._pending) + more
        if self._kind == GZIP:
            more_follows = self._gzip_follows()
        else:
            more_follows = bool(self._pending)  # the decoder says what is not a frame
        if not more_follows:
            if self._first:
                raise errors.DataLoss(
                    f"not {self._kind} data" if self._pending else f"no {self._kind} data: it is empty"
                )
            self._pending = b""
            self._ended = True
            while self._more():
                pass
            return False
        self._first = False
        return True

    def _gzip_follows(self) -> bool:
        if self._pending[:2] != b"\x1f\x8b":
            return False
        # isal misreads a header's optional fields when they come in two pieces: it gets the header whole.
        while not _is_whole_header(self._pending):
            more = self._more()
            if not more or len(self._pending) > _GZIP_HEADER_MAX:
                raise errors.DataLoss(f"gzip header is cut short or too long, before byte {self.consumed}")
            self._pending = bytes(self._pending) + more
        return True


def _is_whole_header(data: bytes) -> bool:
    """Whether data holds all of the gzip member header it begins with (RFC 1952, 2.3)."""
    if len(data) < 10:
        return False
    flags, end = data[3], 10
    if flags & 4:  # FEXTRA
        if len(data) < 12:
            return False
        end = 12 + int.from_bytes(data[10:12], "little")
    for flag in (8, 16):  # FNAME, FCOMMENT: zero-terminated
        if flags & flag:
            end = data.find(b"\0", end) + 1
            if not end:
                return False
    if flags & 2:  # FHCRC
        end += 2
    return len(data) >= end


class Writer:
    """Compresses what is written. Call `close` at the end: it does not close `out`."""

    def __init__(self, out: Sink, compressor: Any) -> None:
        self._out = out
        self._compressor = compressor

    def write(self, data: bytes) -> None:
        if self._compressor is not None:
            data = self._compressor.compress(data)
        if data:
            self._out.write(data)

    def close(self) -> None:
        if self._compressor is not None:
            self._out.write(self._compressor.flush())
            self._compressor = None


class _ZlibCodec:
    """zlib's decompressor with the interface that the others have."""

    def __init__(self, zlib: Any) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._tail: Buffer = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data  # type: ignore[no-any-return]

    @property
    def needs_input(self) -> bool:
        return not self._tail

    def decompress(self, data: Buffer, max_length: int = -1) -> bytes:
        out = self._inner.decompress(self._tail or data, max_length)
        self._tail = self._inner.unconsumed_tail
        return out  # type: ignore[no-any-return]


def _gzip_codec() -> Callable[[], Codec]:
    try:
        from isal import igzip_lib
    except ImportError:
        import zlib

        return lambda: _ZlibCodec(zlib)  # type: ignore[return-value]
    return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _gzip_compressor(level: int | None) -> Any:
    import zlib

    # isal knows the levels 0 to 3 only. Measured on a Debian tree, 210 MB: isal 2 in 0.55 s to 107 MB, zlib 6 in 6.8 s
    # to 101 MB, zlib 1 in 3.0 s to 107 MB.
    if level is None or level <= 3:
        try:
            from isal import isal_zlib

            return isal_zlib.compressobj(_ISAL_LEVEL if level is None else level, isal_zlib.DEFLATED, 31)
        except ImportError:
            pass
    return zlib.compressobj(_ZLIB_LEVEL if level is None else level, zlib.DEFLATED, 31)


def _zstd_codec() -> Callable[[], Codec]:
    return _zstd().ZstdDecompressor  # type: ignore[no-any-return]


def _zstd() -> Any:
    """compression.zstd of Python 3.14, or its backport. Unimplemented when neither is there."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]

        return zstd
    except ImportError:
        pass
    try:
        from backports import zstd as backport

        return backport
    except ImportError:
        raise errors.Unimplemented(
            "zstd is not available to this Python", advice="pip install backports.zstd"
        ) from None
