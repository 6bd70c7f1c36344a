"""The registry client: the verbs of OCI distribution 1.1 (pull, push, mount, list, referrers, delete, ping).

    client = RegistryClient()
    descriptor, raw = client.fetch_tag(parse_normalized("alpine").with_default_tag())

The verbs ask a registry's places in order (mirrors of `hosts.toml` first) and take the first good answer. Manifests are
verified here by digest and size; blobs are counted here and verified by the content store that takes them.
"""

from __future__ import annotations

import os
import time

from ....base import errors
from ....base.cancel import NEVER, Cancel
from ....base.oci import digest as digests
from ....base.oci.descriptor import Descriptor
from ....base.oci.manifest import MAX_MANIFEST_BYTES
from .. import protocol
from . import credentials as creds
from . import failures, hosts, retry, session, transport
from .credentials import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self, TypeVar

    from ....base.oci.digest import Digest
    from ....base.oci.reference import Reference
    from .blobs import BlobStream
    from .connection import Response
    from .hosts import Endpoint
    from .upload import Source

    T = TypeVar("T")

_MIRROR_REST_S = 30.0
"""A mirror that cannot be reached is left alone so long, not tried for each blob."""
_GENERIC_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})


class RegistryClient:
    """Talks to registries; one for each engine, thread-safe.

    hosts_dirs: directories of `hosts.toml` and certificates, the first that knows a host decides.
    docker_config: the directory of Docker's config.json ($DOCKER_CONFIG, else ~/.docker).
    plain_http: any registry may be used with unverified TLS or over plain HTTP; insecure_hosts: these may ("host" or
    "host:port"); loopback hosts always may. credentials: gives those for a host instead of the user's files.
    stall_timeout: seconds without a byte before a connection counts as dead. retries: tries after the first.
    clock (monotonic seconds), wall (seconds since the epoch), sleep, random: for tests. trace: gets one line for each
    request and decision, without secrets.
    """

    def __init__(
        self,
        *,
        hosts_dirs: Sequence[str] = hosts.DEFAULT_DIRS,
        docker_config: str | None = None,
        plain_http: bool = False,
        insecure_hosts: frozenset[str] = frozenset(),
        credentials: Callable[[str], Credentials | None] | None = None,
        stall_timeout: float = 60.0,
        retries: int = 5,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
        random: Callable[[], float] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.credentials = creds.CredentialStore(docker_config)
        self._given = credentials
        self._hosts = hosts.Hosts(hosts_dirs, plain_http=plain_http, insecure=insecure_hosts)
        self._transport = transport.Transport(stall_timeout=stall_timeout, environ=os.environ, trace=trace)
        policy = retry.Policy(retries, wall=wall, sleep=sleep, random=random)
        self._clock = clock
        self.session = session.Session(self._transport, policy, self._find, self._hosts.is_insecure, clock)
        self._resting: dict[str, float] = {}

    def _find(self, endpoint: Endpoint, repository: str, cancel: Cancel) -> Credentials | None:
        if self._given is not None:
            return self._given(endpoint.auth_key)
        return self.credentials.find(endpoint.auth_key, repository, cancel)

    def close(self) -> None:
        """Close idle connections. Streams that are open go on until they are closed."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ where to ask

    def endpoints(self, registry: str, capability: str) -> list[Endpoint]:
        """The places that may be asked for something, in order. FailedPrecondition when none may."""
        configured = self._hosts.endpoints(registry)
        able = [endpoint for endpoint in configured if capability in endpoint.capabilities]
        if not able:
            raise errors.FailedPrecondition(
                f"no host of {registry} has the capability {capability!r}", advice="see its hosts.toml"
            )
        now = self._clock()
        awake = [e for e in able if not e.is_mirror or self._resting.get(e.host, 0.0) <= now]
        return awake or able[-1:]

    def first(self, registry: str, capability: str, ask: Callable[[Endpoint, int | None], T], cancel: Cancel) -> T:
        """The first good answer of a registry's places; the last one's error when there is none."""
        places = self.endpoints(registry, capability)
        told: list[str] = []
        for endpoint in places[:-1]:
            try:
                return ask(endpoint, 1)
            except (errors.Cancelled, errors.DeadlineExceeded):
                raise
            except errors.OrlopError as error:
                cancel.check()
                if isinstance(error, (failures.NotConnected, failures.NameNotFound, failures.BadCertificate)):
                    self._resting[endpoint.host] = self._clock() + _MIRROR_REST_S
                self._transport.trace(f"{endpoint.host}: {error.message}; trying the next host")
                told.append(error.message)
        try:
            return ask(places[-1], None)
        except (errors.Cancelled, errors.DeadlineExceeded):
            raise
        except errors.OrlopError as error:
            if not told:
                raise
            raise type(error)("; before that: ".join([error.message, *told]), advice=error.advice) from error

    def error_for(self, response: Response, what: str) -> errors.OrlopError:
        """The error an answer stands for, with the note of a credential helper that failed."""
        registry = self._registry_of(response)
        note = ""
        if response.status in (401, 403, 404) and self._given is None:
            note = self.credentials.problem(hosts.auth_key(response.url.netloc))
        return failures.error_for(response, what, registry=registry, note=note)

    @staticmethod
    def _registry_of(response: Response) -> str:
        host = response.url.netloc
        return hosts.DOCKER_HUB if host == hosts.DOCKER_HUB_HOST else host

    # ------------------------------------------------------------------ manifests

    def resolve(self, reference: Reference, *, cancel: Cancel = NEVER) -> Descriptor:
        """What a tag or digest points to, without its content where the registry can tell (HEAD, else GET).

        Raises NotFound, Unauthenticated, PermissionDenied, ResourceExhausted (rate limit), Unavailable, DataLoss.
        """
        wanted = _wanted(reference)

        def ask(endpoint: Endpoint, retries: int | None) -> Descriptor:
            response = self._manifest(endpoint, reference, wanted, "HEAD", retries, cancel)
            told = response.header(protocol.DIGEST_HEADER)
            size = response.length
            kind = protocol.media_type(response.header("Content-Type"))
            response.close()
            if response.status in retry.STATUSES:  # it was asked often enough
                raise self.error_for(response, f"manifest {reference}")
            if response.status == 200 and told and size is not None and kind in protocol.MANIFEST_TYPES:
                try:
                    digest = digests.parse(told)
                except errors.InvalidArgument:
                    digest = None
                if digest is not None and (reference.digest is None or digest == reference.digest):
                    return Descriptor(kind, digest, size)
            # A registry that knows no HEAD, or an error whose reason only a body tells.
            return self.get_manifest(endpoint, reference, wanted, retries, cancel)[0]

        capability = "pull" if reference.digest is not None else "resolve"
        return self.first(reference.domain, capability, ask, cancel)

    def fetch_tag(self, reference: Reference, *, cancel: Cancel = NEVER) -> tuple[Descriptor, bytes]:
        """A tag's (or digest's) manifest by one request; the descriptor is made from the bytes. Errors as `resolve`."""
        wanted = _wanted(reference)

        def ask(endpoint: Endpoint, retries: int | None) -> tuple[Descriptor, bytes]:
            return self.get_manifest(endpoint, reference, wanted, retries, cancel)

        capability = "pull" if reference.digest is not None else "resolve"
        return self.first(reference.domain, capability, ask, cancel)

    def fetch_manifest(self, reference: Reference, descriptor: Descriptor, *, cancel: Cancel = NEVER) -> bytes:
        """The bytes of a manifest or index, at most 4 MiB; verified: DataLoss when digest or size differ."""
        what = f"manifest {reference.name}@{descriptor.digest}"
        if descriptor.size > MAX_MANIFEST_BYTES:
            raise errors.ResourceExhausted(f"{what} has {descriptor.size} bytes; at most {MAX_MANIFEST_BYTES} are read")
        pinned = reference.replace(tag="", digest=descriptor.digest)

        def ask(endpoint: Endpoint, retries: int | None) -> bytes:
            raw = self.get_manifest(endpoint, pinned, str(descriptor.digest), retries, cancel)[1]
            if len(raw) != descriptor.size:
                raise errors.DataLoss(f"{what} has {len(raw)} bytes, not the {descriptor.size} it should have")
            return raw

        return self.first(reference.domain, "pull", ask, cancel)

    def _manifest(
        self,
        endpoint: Endpoint,
        reference: Reference,
        wanted: str,
        method: str,
        retries: int | None,
        cancel: Cancel,
        actions: tuple[str, ...] = ("pull",),
    ) -> Response:
        return self.session.send(
            endpoint,
            method,
            protocol.manifest_path(reference.path, wanted),
            repository=reference.path,
            scopes=(protocol.scope(reference.path, *actions),),
            headers=[("Accept", protocol.ACCEPT_MANIFESTS)],
            verified=reference.digest is not None,
            retries=retries,
            cancel=cancel,
        )

    def get_manifest(
        self, endpoint: Endpoint, reference: Reference, wanted: str, retries: int | None, cancel: Cancel
    ) -> tuple[Descriptor, bytes]:
        what = f"manifest {reference}"
        response, raw = self.whole(
            lambda: self._manifest(endpoint, reference, wanted, "GET", retries, cancel),
            MAX_MANIFEST_BYTES,
            what,
            retries,
            cancel,
        )
        kind = protocol.media_type(response.header("Content-Type"))
        told = response.header(protocol.DIGEST_HEADER)
        digest = _verified(raw, reference.digest, told, what)
        return Descriptor(_kind(kind, raw), digest, len(raw)), raw

    def whole(
        self, ask: Callable[[], Response], limit: int, what: str, retries: int | None, cancel: Cancel
    ) -> tuple[Response, bytes]:
        """A small answer with all its body; asked for again when the connection breaks in the middle."""
        tried = 0
        while True:
            response = ask()
            if response.status != 200:
                raise self.error_for(response, what)
            if protocol.media_type(response.header("Content-Type")) == "text/html":
                raise failures.html_answer(response, what)
            try:
                return response, response.read(limit, cancel, what)
            except failures.Dropped as error:
                delay = self.session.policy.after_failure(error, tried, retries)
                if delay is None:
                    raise
                tried += 1
                self.session.policy.wait(delay, cancel)

    def push_manifest(self, reference: Reference, raw: bytes, media_type: str, *, cancel: Cancel = NEVER) -> Digest:
        """Put a manifest under the reference's tag (its digest when there is none); the digest the registry has.

        DataLoss when the registry stored something else. A manifest with a subject is entered into the list of
        referrers where the registry does not do that by itself (distribution-spec, "Pushing Manifests with Subject").
        """
        expected = reference.digest
        digest = digests.of_bytes(raw, expected.algorithm if expected is not None else "sha256")
        if expected is not None and digest != expected:
            raise errors.InvalidArgument(f"manifest for {reference} has the digest {digest}")
        wanted = reference.tag or str(digest)
        what = f"push of {reference.name}:{wanted}" if reference.tag else f"push of {reference.name}@{wanted}"
        from . import auth

        endpoint = self.endpoints(reference.domain, "push")[0]
        response = self.session.send(
            endpoint,
            "PUT",
            protocol.manifest_path(reference.path, wanted),
            repository=reference.path,
            scopes=(protocol.scope(reference.path, "pull", "push"),),
            headers=[("Content-Type", media_type)],
            body=auth.Bytes(raw),
            retries=self.session.policy.retries,  # putting the same manifest again is harmless
            cancel=cancel,
        )
        if response.status not in (200, 201, 202, 204):
            raise self.error_for(response, what)
        if protocol.media_type(response.header("Content-Type")) == "text/html":
            raise failures.html_answer(response, what)
        told = response.header(protocol.DIGEST_HEADER)
        listed = response.header(protocol.SUBJECT_HEADER)
        response.close()
        if told and told.partition(":")[0] == digest.algorithm and told != digest:
            raise errors.DataLoss(f"{what}: the registry stored it as {protocol.one_line(told, 140)}, not {digest}")
        if not listed and b'"subject"' in raw:
            from . import lists

            lists.enter_referrer(self, reference, raw, media_type, digest, cancel)
        return digest

    # ------------------------------------------------------------------ blobs

    def open_blob(
        self, reference: Reference, descriptor: Descriptor, *, offset: int = 0, cancel: Cancel = NEVER
    ) -> BlobStream:
        """A blob's bytes from offset on, as a stream that goes on by itself after drops, stalls and expired tokens.

        Look at its `.offset`: 0 when the registry cannot begin in the middle. Errors as `resolve`, and DataLoss when
        the registry's blob has another size.
        """
        from .blobs import BlobStream

        places = self.endpoints(reference.domain, "pull")
        scopes = (protocol.scope(reference.path, "pull"),)
        return BlobStream(self.session, places, reference, descriptor, offset, scopes, cancel, self.error_for)

    def blob_exists(self, reference: Reference, digest: Digest, *, cancel: Cancel = NEVER) -> int | None:
        """The size of a blob in the reference's repository, or None when it is not there."""
        what = f"blob {reference.name}@{digest}"

        def ask(endpoint: Endpoint, retries: int | None) -> int | None:
            for method in ("HEAD", "GET"):  # some registries know no HEAD
                response = self.session.send(
                    endpoint,
                    method,
                    protocol.blob_path(reference.path, digest),
                    repository=reference.path,
                    scopes=(protocol.scope(reference.path, "pull"),),
                    verified=True,
                    retries=retries,
                    cancel=cancel,
                )
                if response.status == 404:
                    response.close()
                    return None
                size = response.length
                if response.status == 200 and size is not None:
                    response.discard() if method == "GET" else response.close()
                    return size
                if response.status not in (200, 405, 501) or method == "GET":
                    raise self.error_for(response, what)
                response.close()
            raise errors.Unavailable(f"{what}: the registry does not tell its size")

        return self.first(reference.domain, "pull", ask, cancel)

    def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Source],
        *,
        mount_from: Sequence[str] = (),
        progress: Callable[[int], None] | None = None,
        chunk_size: int = 0,
        cancel: Cancel = NEVER,
    ) -> str:
        """Bring a blob into the reference's repository: "exists", "mounted" or "uploaded".

        open_source: opens the bytes (a content store's Reader: size, read_at, fileno, close); called when they are
        needed. mount_from: repositories of the same registry that may have it. progress: gets the bytes sent so far;
        the number falls when an upload begins again. chunk_size: bytes to a request; 0 sends the whole in one.
        """
        from .upload import Uploader

        endpoint = self.endpoints(reference.domain, "push")[0]
        uploader = Uploader(
            self.session,
            endpoint,
            reference,
            descriptor,
            open_source,
            progress=progress or _no_progress,
            chunk_size=chunk_size,
            error_for=self.error_for,
            cancel=cancel,
        )
        return uploader.run(mount_from)

    # ------------------------------------------------------------------ lists

    def tags(self, reference: Reference, *, cancel: Cancel = NEVER) -> list[str]:
        """All tags of the reference's repository, as the registry orders them."""
        from . import lists

        return lists.tags(self, reference, cancel)

    def referrers(
        self, reference: Reference, digest: Digest, artifact_type: str = "", *, cancel: Cancel = NEVER
    ) -> list[Descriptor]:
        """What refers to a manifest (signatures, SBOMs); of one artifact type, or all with "".

        A registry without the referrers API is asked for the tag that stands in for it.
        """
        from . import lists

        return lists.referrers(self, reference, digest, artifact_type, cancel)

    # ------------------------------------------------------------------ deleting, pinging

    def delete(self, reference: Reference, *, cancel: Cancel = NEVER) -> None:
        """Delete a manifest by its digest, or a tag (what it points to stays) when the reference has none.

        Unimplemented when the registry does not allow it.
        """
        wanted = _wanted(reference)
        self._delete(reference, protocol.manifest_path(reference.path, wanted), f"delete {reference}", cancel)

    def delete_blob(self, reference: Reference, digest: Digest, *, cancel: Cancel = NEVER) -> None:
        """Delete a blob from the reference's repository."""
        path = protocol.blob_path(reference.path, digest)
        self._delete(reference, path, f"delete blob {reference.name}@{digest}", cancel)

    def _delete(self, reference: Reference, path: str, what: str, cancel: Cancel) -> None:
        endpoint = self.endpoints(reference.domain, "push")[0]
        response = self.session.send(
            endpoint,
            "DELETE",
            path,
            repository=reference.path,
            scopes=(protocol.scope(reference.path, "pull", "push", "delete"),),
            cancel=cancel,
        )
        if response.status not in (200, 202, 204):
            raise self.error_for(response, what)
        response.close()

    def ping(self, registry: str, *, cancel: Cancel = NEVER) -> str:
        """Ask a registry whether it is one and takes our login; the address of its API.

        registry: its host as in references. Errors as `resolve`.
        """
        endpoint = self.endpoints(registry, "resolve")[-1]
        response = self.session.send(endpoint, "GET", "/", cancel=cancel)
        what = f"registry {registry}"
        if response.status != 200:
            raise self.error_for(response, what)
        if protocol.media_type(response.header("Content-Type")) == "text/html":
            raise failures.html_answer(response, what)
        response.close()
        return self.session.effective(endpoint).base.shown


def _no_progress(done: int) -> None:
    """Nobody wants to know."""


def _wanted(reference: Reference) -> str:
    """What a reference asks for: the digest decides where there is one."""
    if reference.digest is not None:
        return str(reference.digest)
    if not reference.tag:
        raise errors.InvalidArgument(f"{reference} has neither tag nor digest")
    return reference.tag


def _verified(raw: bytes, wanted: Digest | None, told: str, what: str) -> Digest:
    """The digest of a manifest, once it is the one that was asked for and the one the registry claims."""
    if wanted is not None:
        got = digests.of_bytes(raw, wanted.algorithm)
        if got != wanted:
            raise errors.DataLoss(
                f"{what}: the bytes that came have the digest {got}", advice="do not trust this registry's copy"
            )
        return got
    claimed = None
    try:
        claimed = digests.parse(told.strip()) if told else None
    except errors.InvalidArgument:
        pass
    got = digests.of_bytes(raw, claimed.algorithm if claimed is not None else "sha256")
    if claimed is not None and got != claimed:
        raise errors.DataLoss(f"{what}: the registry says {claimed}, the bytes that came have the digest {got}")
    return got


def _kind(announced: str, raw: bytes) -> str:
    """A manifest's media type: the announced one, unless it says nothing; then what the manifest calls itself."""
    if announced not in _GENERIC_TYPES:
        return announced
    from ....base.oci import manifest as manifests

    try:
        return manifests.parse(raw, announced).media_type
    except errors.InvalidArgument:
        return announced
