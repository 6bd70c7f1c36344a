"""Content digests: `algorithm:encoded`, as in the OCI image specification (descriptor.md, "Digests").

sha256 and sha512 are the registered algorithms. Pure data; may import `hashlib` only when a hash is made.
"""

from __future__ import annotations

from .. import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """A digest that has been checked; it is its own text."""

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 hex digits, as Docker prints IDs."""
        return self.encoded[:12]

    def hasher(self) -> Any:
        """A new hash object of this digest's algorithm."""
        return hasher(self.algorithm)


def parse(text: str) -> Digest:
    """A checked digest. Raises InvalidArgument for an unknown algorithm or a malformed encoding."""
    if isinstance(text, Digest):
        return text
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        raise errors.InvalidArgument(f"invalid digest {text!r}: it has no algorithm")
    length = HEX_LENGTH.get(algorithm)
    if length is None:
        raise errors.InvalidArgument(f"invalid digest {text!r}: algorithm {algorithm!r} is not sha256 or sha512")
    if len(encoded) != length or not _HEX.issuperset(encoded):
        raise errors.InvalidArgument(f"invalid digest {text!r}: {algorithm} takes {length} lower-case hex digits")
    return Digest(text)


def hasher(algorithm: str = "sha256") -> Any:
    """A new hash object (OpenSSL's, which lets the GIL go)."""
    import hashlib

    return hashlib.sha512() if algorithm == "sha512" else hashlib.sha256()


def of_bytes(data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
    """The digest of data."""
    h = hasher(algorithm)
    h.update(data)
    return from_hasher(h)


def from_hasher(h: Any) -> Digest:
    """The digest a hash object has reached."""
    return Digest(f"{h.name}:{h.hexdigest()}")
