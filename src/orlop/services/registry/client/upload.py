"""Uploading a blob: skipped where it is, mounted where another repository has it, else sent whole or in chunks.

Source: distribution-spec, "Pushing blobs". An upload that breaks off is gone on with where the registry says it stands;
one that the registry has forgotten is begun again.
"""

from __future__ import annotations

from ....base import errors
from .. import protocol
from . import failures
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ....base.cancel import Cancel
    from ....base.oci.descriptor import Descriptor
    from ....base.oci.reference import Reference
    from .connection import Connection, Response
    from .hosts import Endpoint
    from .session import Session
    from .url import Url

    class Source(Protocol):
        """What is read while uploading (a content store's Reader is one)."""

        @property
        def size(self) -> int: ...
        def read_at(self, offset: int, length: int) -> bytes: ...
        def fileno(self) -> int: ...
        def close(self) -> None: ...


MOUNTS_AT_MOST = 3
"""So many repositories are asked for a mount; each costs a request."""
TOO_LARGE_CHUNK = 32 << 20
"""Chunks for a registry (or the proxy before it) that finds a whole blob too large for one request."""
COMMIT_BYTES_PER_S = 16 << 20
"""A registry may copy a blob once more before it answers; it is waited for as long as that takes at this rate."""
_READ = 1 << 20


class RangeBody:
    """A part of a source as a request's body; over plain HTTP it goes out by sendfile."""

    def __init__(self, source: Source, offset: int, size: int, progress: Callable[[int], None]) -> None:
        self.size = size
        self._source = source
        self._offset = offset
        self._progress = progress

    def send(self, connection: Connection, cancel: Cancel) -> None:
        """Progress is told as an absolute position in the source."""
        if not self.size:
            return
        if connection.plain:
            try:
                fd = self._source.fileno()
            except (errors.OrlopError, OSError):
                fd = -1  # not a local file
            if fd >= 0:
                connection.send_file(fd, self._offset, self.size, lambda sent: self._told(sent, cancel))
                return
        sent = 0
        while sent < self.size:
            piece = self._source.read_at(self._offset + sent, min(_READ, self.size - sent))
            if not piece:
                raise errors.DataLoss(f"the blob to send ends at byte {self._offset + sent}")
            connection.send_all(piece)
            sent += len(piece)
            self._told(sent, cancel)

    def _told(self, sent: int, cancel: Cancel) -> None:
        cancel.check()
        self._progress(self._offset + sent)


class Uploader:
    """One blob on its way to one repository. progress: called with the bytes the registry has been sent so far."""

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        reference: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Source],
        *,
        progress: Callable[[int], None],
        chunk_size: int,
        error_for: Callable[[Response, str], errors.OrlopError],
        cancel: Cancel,
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._reference = reference
        self._descriptor = descriptor
        self._open_source = open_source
        self._progress = progress
        self._chunk_size = chunk_size
        self._error_for = error_for
        self._cancel = cancel
        self._scopes = (protocol.scope(reference.path, "pull", "push"),)
        self._what = f"upload of {reference.name}@{descriptor.digest}"

    def run(self, mount_from: Sequence[str]) -> str:
        """What became of it: "exists", "mounted" or "uploaded"."""
        if self._exists():
            return "exists"
        location: Url | None = None
        for repository in list(mount_from)[:MOUNTS_AT_MOST]:
            if repository == self._reference.path:
                continue
            if location is not None:
                self._drop(location)
            mounted, location = self._mount(repository)
            if mounted:
                return "mounted"
        self._upload(location)
        return "uploaded"

    # ------------------------------------------------------------------ steps before any byte

    def _exists(self) -> bool:
        path = protocol.blob_path(self._reference.path, self._descriptor.digest)
        response = self._ask("HEAD", path)
        response.close()
        if response.status == 200:
            return True
        if response.status in (401, 403) or response.status == 429 or response.status >= 500:
            raise self._error_for(response, self._what)
        return False

    def _mount(self, repository: str) -> tuple[bool, Url | None]:
        """Ask for a cross-repository mount: (done, the upload that was begun instead)."""
        scopes = (*self._scopes, protocol.scope(repository, "pull"))
        query = [("mount", str(self._descriptor.digest)), ("from", repository)]
        try:
            response = self._ask("POST", protocol.uploads_path(self._reference.path), query=query, scopes=scopes)
        except (errors.Unauthenticated, errors.PermissionDenied):
            return False, None  # the other repository is not ours to read
        if response.status == 201:
            response.close()
            return True, None
        if response.status == 202:
            return False, self._location(response)
        response.close()
        return False, None

    def _drop(self, location: Url) -> None:
        """Tell the registry that an upload is not wanted; it forgets it by itself otherwise."""
        try:
            self._ask("DELETE", "", location=location).close()
        except errors.OrlopError:
            self._cancel.check()

    def _begin(self) -> Url:
        response = self._ask("POST", protocol.uploads_path(self._reference.path))
        if response.status != 202:
            raise self._answer_error(response)
        least = response.header(protocol.CHUNK_MIN_HEADER)
        if self._chunk_size and least.isascii() and least.isdigit():
            self._chunk_size = max(self._chunk_size, int(least[:12]))
        return self._location(response)

    # ------------------------------------------------------------------ bytes

    def _upload(self, location: Url | None) -> None:
        """Send everything; what breaks off is gone on with, up to the policy's number of tries without progress."""
        failed = 0
        offset = 0
        source = self._open_source()
        try:
            if source.size != self._descriptor.size:
                raise errors.DataLoss(
                    f"{self._what}: the stored blob has {source.size} bytes, its descriptor says "
                    f"{self._descriptor.size}"
                )
            while True:
                if location is None:
                    location, offset = self._begin(), 0
                    self._progress(0)
                try:
                    self._send(source, location, offset)
                    return
                except _Broken as broken:
                    error, location = broken.error, broken.location
                delay = self._session.policy.after_failure(error, failed)
                if delay is None:
                    raise type(error)(f"{self._what}: {error.message}", advice=error.advice) from error
                self._session.transport.trace(f"{self._what}: {error.message}; going on in {delay:.1f} s")
                self._session.policy.wait(delay, self._cancel)
                if self._exists():  # the answer was lost, not the blob
                    self._progress(self._descriptor.size)
                    return
                before = offset
                location, offset = self._status(location)
                failed = 0 if offset > before else failed + 1
        finally:
            source.close()

    def _send(self, source: Source, location: Url, offset: int) -> None:
        size = self._descriptor.size
        if not self._chunk_size and offset == 0:
            response = self._transfer("PUT", self._closing(location), source, 0, size, location)
            if response.status == 413:
                response.close()
                self._chunk_size = TOO_LARGE_CHUNK
                raise _Broken(failures.Dropped("the registry finds it too large for one request"), None)
            self._finish(response)
            return
        while offset < size:
            count = min(self._chunk_size or size, size - offset)
            response = self._transfer("PATCH", location, source, offset, count, location)
            if response.status == 416:  # it stands elsewhere than we think
                response.close()
                raise _Broken(failures.Dropped("the registry expects other bytes next"), location)
            if response.status not in (202, 204, 201):
                raise self._answer_error(response)
            arrived = protocol.parse_upload_range(response.header("Range"))
            location = self._location(response, location)
            offset += count
            if 0 < arrived < offset:
                raise _Broken(failures.Dropped(f"the registry has {arrived} of {offset} bytes"), location)
        self._finish(self._transfer("PUT", self._closing(location), source, size, 0, location))

    def _transfer(self, method: str, url: Url, source: Source, offset: int, count: int, location: Url) -> Response:
        headers = [("Content-Type", protocol.OCTETS)]
        if method == "PATCH":
            headers.append(("Content-Range", f"{offset}-{offset + count - 1}"))
        try:
            response = self._session.send(
                self._endpoint,
                method,
                "",
                location=url,
                repository=self._reference.path,
                scopes=self._scopes,
                headers=headers,
                body=RangeBody(source, offset, count, self._progress),
                response_timeout=self._session.transport.stall_timeout
                + (self._descriptor.size if method == "PUT" else count) / COMMIT_BYTES_PER_S,
                cancel=self._cancel,
            )
        except failures.Dropped as error:
            raise _Broken(error, location) from error
        if response.status in (500, 502, 503, 504):
            told = self._error_for(response, "it was sent")
            raise _Broken(failures.Dropped(told.message, advice=told.advice), location)
        return response

    def _status(self, location: Url | None) -> tuple[Url | None, int]:
        """Where an upload stands: (its address now, bytes that have arrived), or (None, 0) when it is lost."""
        if location is None:
            return None, 0
        response = self._ask("GET", "", location=location)
        arrived = protocol.parse_upload_range(response.header("Range"))
        if response.status not in (200, 202, 204) or not 0 < arrived <= self._descriptor.size:
            response.close()
            self._drop(location)
            return None, 0
        return self._location(response, location), arrived

    def _finish(self, response: Response) -> None:
        if response.status not in (201, 202, 204):
            raise self._answer_error(response)
        told = response.header(protocol.DIGEST_HEADER)
        response.close()
        same_kind = told.partition(":")[0] == self._descriptor.digest.algorithm
        if told and same_kind and told != self._descriptor.digest:
            raise errors.DataLoss(f"{self._what}: the registry stored it as {protocol.one_line(told, 140)}")
        self._progress(self._descriptor.size)

    # ------------------------------------------------------------------ small things

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        scopes: tuple[str, ...] = (),
        location: Url | None = None,
    ) -> Response:
        return self._session.send(
            self._endpoint,
            method,
            path,
            location=location,
            repository=self._reference.path,
            scopes=scopes or self._scopes,
            query=query,
            cancel=self._cancel,
        )

    def _answer_error(self, response: Response) -> errors.OrlopError:
        if protocol.media_type(response.header("Content-Type")) == "text/html" and response.status < 400:
            return failures.html_answer(response, self._what)
        return self._error_for(response, self._what)

    def _closing(self, location: Url) -> Url:
        return location.with_query(("digest", str(self._descriptor.digest)))

    def _location(self, response: Response, fallback: Url | None = None) -> Url:
        """Where an upload goes on. A registry behind a TLS proxy may call itself http: that is not believed."""
        text = response.header("Location")
        response.close()
        if not text:
            if fallback is not None:
                return fallback
            raise errors.Unavailable(f"{self._what}: {response.url.netloc} gave no address to upload to")
        location = urls.join(response.url, text)
        if location.scheme == "http" and response.url.scheme == "https":
            if location.host != response.url.host:
                raise errors.PermissionDenied(
                    f"{self._what}: sent from https to plain HTTP ({location.shown}); refused"
                )
            port = response.url.port if location.port in (80, response.url.port) else location.port
            location = location.replace(scheme="https", port=port)
        return location


class _Broken(Exception):
    """An upload broke off; location: where its status can be asked, None to begin again."""

    def __init__(self, error: failures.Dropped, location: Url | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.location = location
