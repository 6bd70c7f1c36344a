"""Downloading a blob as a stream that mends itself: dropped connections, stalls and expired tokens are gone on from.

The stream gives bytes and counts them; whether they are the right ones the content store finds out by their digest.
"""

from __future__ import annotations

from ....base import errors
from .. import protocol
from . import failures
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from ....base.cancel import Cancel
    from ....base.oci.descriptor import Descriptor
    from ....base.oci.reference import Reference
    from .connection import Response
    from .hosts import Endpoint
    from .session import Session

    Source = Callable[[list[tuple[str, str]], int | None], Response]

PROGRESS = 32 << 10
"""So many bytes since the last failure count as progress: the failures before are forgotten."""
_SCRAP = 256 << 10


class BlobStream:
    """A blob's bytes from `offset` on. Close it, or use it as a context manager.

    offset: where the stream starts. It is the one that was asked for, or 0 when the server ignored the range: the
    caller then drops what it has.
    """

    def __init__(
        self,
        session: Session,
        endpoints: Sequence[Endpoint],
        reference: Reference,
        descriptor: Descriptor,
        offset: int,
        scopes: tuple[str, ...],
        cancel: Cancel,
        after_no: Callable[[Response, str], errors.OrlopError],
    ) -> None:
        if not 0 <= offset <= descriptor.size:
            raise errors.InvalidArgument(f"offset {offset} is not within the {descriptor.size} bytes of the blob")
        self._session = session
        self._reference = reference
        self._descriptor = descriptor
        self._scopes = scopes
        self._cancel = cancel
        self._error_for = after_no
        self._what = f"blob {reference.name}@{descriptor.digest}"
        self._sources: list[Source] = [self._registry(endpoint) for endpoint in endpoints]
        # Addresses that the descriptor names (image-spec descriptor.md, "urls"): no credentials go there.
        self._sources += [self._foreign(endpoints[-1], address) for address in descriptor.urls]
        self._response: Response | None = None
        self._at = offset
        self._skip = 0
        self._failed = 0
        self._since_failure = 0
        self._closed = False
        self.offset = offset
        if offset < descriptor.size:
            self._open(first=True)

    # ------------------------------------------------------------------ reading

    def readinto(self, view: memoryview) -> int:
        """Read into view, at least one byte; 0 at the end of the blob.

        Raises DataLoss when the body is shorter or longer than the descriptor says, Unavailable when the registry
        drops or stalls too often without progress, Cancelled, DeadlineExceeded.
        """
        if self._closed:
            raise errors.FailedPrecondition(f"{self._what}: the stream is closed")
        if not view:
            return 0
        while self._at < self._descriptor.size:
            self._cancel.check()
            response = self._response or self._open(first=False)
            try:
                if self._skip:
                    self._throw_away(response)
                    continue
                count = response.readinto(view[: self._descriptor.size - self._at], self._cancel)
            except failures.Dropped as error:
                self._lost(error)
                continue
            if count == 0:
                self._too_short(response)
            self._at += count
            self._since_failure += count
            if self._since_failure >= PROGRESS:
                self._failed = 0
            return count
        self._check_end()
        return 0

    def _throw_away(self, response: Response) -> None:
        """Read over what the caller has, from a server that began again at the first byte."""
        scrap = memoryview(bytearray(min(self._skip, _SCRAP)))
        while self._skip:
            count = response.readinto(scrap[: min(self._skip, _SCRAP)], self._cancel)
            if count == 0:
                self._too_short(response)
            self._skip -= count

    def _too_short(self, response: Response) -> None:
        at = self._at - self._skip
        response.discard()
        self._response = None
        raise errors.DataLoss(f"{self._what}: the body ends after {at} of {self._descriptor.size} bytes")

    def _check_end(self) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if response.length is None:  # an answer that does not tell its length could go on
            try:
                more = response.readinto(memoryview(bytearray(1)), self._cancel)
            except failures.Dropped:
                more = 0
            if more:
                response.discard()
                raise errors.DataLoss(f"{self._what}: the body is longer than its {self._descriptor.size} bytes")
        response.close()

    def _lost(self, error: failures.Dropped) -> None:
        """After a failure: wait and let the loop open again, or give up."""
        if self._response is not None:
            self._response.discard()
            self._response = None
        self._skip = 0
        self._since_failure = 0
        delay = self._session.policy.after_failure(error, self._failed)
        if delay is None:
            if len(self._sources) > 1:
                self._session.transport.trace(f"{self._what}: {error.message}; going on elsewhere")
                del self._sources[0]
                self._failed = 0
                return
            if isinstance(error, failures.ShortBody):
                raise errors.DataLoss(
                    f"{self._what}: the body ends short, again and again: {error.message}", advice=error.advice
                ) from error
            raise errors.Unavailable(
                f"{self._what}: gave up at byte {self._at} of {self._descriptor.size} after {self._failed + 1} tries: "
                f"{error.message}",
                advice="try again; what has arrived is kept",
            ) from error
        self._session.transport.trace(f"{self._what}: {error.message}; going on at byte {self._at} in {delay:.1f} s")
        self._failed += 1
        self._session.policy.wait(delay, self._cancel)

    # ------------------------------------------------------------------ opening

    def _open(self, *, first: bool) -> Response:
        """Ask the first source that has it for the bytes from here on."""
        failure: errors.OrlopError = errors.Unavailable(f"{self._what}: no source is left")
        told: list[str] = []
        while self._sources:
            source = self._sources[0]
            alone = len(self._sources) == 1
            headers = [("Range", f"bytes={self._at}-")] if self._at else []
            try:
                response = source(headers, None if alone else 1)
                self._accept(response, first)
                return response
            except (errors.Cancelled, errors.DeadlineExceeded):
                raise
            except errors.OrlopError as error:
                if not alone:
                    self._session.transport.trace(f"{self._what}: {error.message}; trying the next source")
                    told.append(error.message)
                failure = error
                if alone:
                    break
                del self._sources[0]
        message = "; before that: ".join([failure.message, *told])
        if not first:
            message = f"{self._what}: gave up at byte {self._at} of {self._descriptor.size}: {message}"
        raise type(failure)(message, advice=failure.advice) from failure

    def _accept(self, response: Response, first: bool) -> None:
        size = self._descriptor.size
        if response.status == 200 and self._at and not first:
            self._skip = self._at
        elif response.status == 200:
            self._at = self.offset = 0
        elif response.status == 206:
            span = protocol.parse_content_range(response.header("Content-Range"))
            if span is None or span[0] != self._at:
                response.discard()
                raise errors.Unavailable(
                    f"{self._what}: asked for the bytes from {self._at}, the registry answered others "
                    f"({protocol.one_line(response.header('Content-Range'), 60) or 'no Content-Range'})"
                )
            if span[2] >= 0 and span[2] != size:
                response.discard()
                raise self._wrong_size(span[2])
        else:
            raise self._error_for(response, self._what)
        if protocol.media_type(response.header("Content-Type")) == "text/html" and response.length != size:
            raise failures.html_answer(response, self._what)
        announced = response.length
        if announced is not None and response.status == 200 and announced != size:
            response.discard()
            raise self._wrong_size(announced)
        self._response = response

    def _wrong_size(self, announced: int) -> errors.DataLoss:
        return errors.DataLoss(
            f"{self._what}: the registry has {announced} bytes, the manifest says {self._descriptor.size}",
            advice="the image in the registry is damaged; push it again",
        )

    def _registry(self, endpoint: Endpoint) -> Source:
        def get(headers: list[tuple[str, str]], retries: int | None) -> Response:
            return self._session.send(
                endpoint,
                "GET",
                protocol.blob_path(self._reference.path, self._descriptor.digest),
                repository=self._reference.path,
                scopes=self._scopes,
                headers=headers,
                verified=True,
                retries=retries,
                cancel=self._cancel,
            )

        return get

    def _foreign(self, endpoint: Endpoint, address: str) -> Source:
        def get(headers: list[tuple[str, str]], retries: int | None) -> Response:
            del retries
            return self._session.fetch_foreign(endpoint, urls.parse(address), headers=headers, cancel=self._cancel)

        return get

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """Let go; what was not read is not waited for."""
        self._closed = True
        response, self._response = self._response, None
        if response is not None:
            response.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
