"""Lists that go on over pages: tags and referrers, and the tag that stands in where there is no referrers API.

Source: distribution-spec, "Listing Tags", "Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

from ....base import errors, jsonio
from ....base.oci import descriptor as descriptors
from ....base.oci import mediatypes
from ....base.oci.descriptor import Descriptor
from .. import protocol
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ....base.cancel import Cancel
    from ....base.oci.digest import Digest
    from ....base.oci.reference import Reference
    from .client import RegistryClient
    from .connection import Response
    from .hosts import Endpoint
    from .url import Url

PAGE = 1000
"""Tags asked for at once."""
_PAGES_AT_MOST = 10_000
_LIMIT = 64 << 20


def tags(client: RegistryClient, reference: Reference, cancel: Cancel) -> list[str]:
    """See `RegistryClient.tags`."""
    what = f"tags of {reference.name}"

    def ask(endpoint: Endpoint, retries: int | None) -> list[str]:
        found: list[str] = []
        path = protocol.tags_path(reference.path)
        for page in _pages(client, endpoint, path, [("n", str(PAGE))], reference, what, retries, cancel):
            names = page.get("tags") or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise errors.Unavailable(f"{what}: the answer is not a list of tags")
            found += names
        return found

    return client.first(reference.domain, "resolve", ask, cancel)


def referrers(
    client: RegistryClient, reference: Reference, digest: Digest, artifact_type: str, cancel: Cancel
) -> list[Descriptor]:
    """See `RegistryClient.referrers`."""
    what = f"referrers of {reference.name}@{digest}"

    def ask(endpoint: Endpoint, retries: int | None) -> list[Descriptor]:
        query = [("artifactType", artifact_type)] if artifact_type else []
        path = protocol.referrers_path(reference.path, digest)
        found: list[Descriptor] = []
        try:
            for page in _pages(client, endpoint, path, query, reference, what, retries, cancel):
                found += _entries(page, what)
        except (errors.NotFound, errors.Unimplemented, errors.InvalidArgument):
            found = _stand_in(client, endpoint, reference, digest, retries, cancel)
        return [d for d in found if not artifact_type or d.artifact_type == artifact_type]

    return client.first(reference.domain, "resolve", ask, cancel)


def enter_referrer(
    client: RegistryClient, reference: Reference, raw: bytes, media_type: str, digest: Digest, cancel: Cancel
) -> None:
    """Enter a pushed manifest into the stand-in list of its subject, unless the registry has the API."""
    from ....base.oci import manifest as manifests

    parsed = manifests.parse(raw, media_type, digest)
    if parsed.subject is None:
        return
    endpoint = client.endpoints(reference.domain, "push")[0]
    subject = parsed.subject.digest
    probe = client.session.send(
        endpoint,
        "GET",
        protocol.referrers_path(reference.path, subject),
        repository=reference.path,
        scopes=(protocol.scope(reference.path, "pull"),),
        cancel=cancel,
    )
    probe.close()
    if probe.status == 200:
        return
    artifact_type = parsed.artifact_type
    if not artifact_type and isinstance(parsed, manifests.Manifest):
        artifact_type = parsed.config.media_type
    entry = Descriptor(parsed.media_type, digest, len(raw), annotations=parsed.annotations, artifact_type=artifact_type)
    entries = _stand_in(client, endpoint, reference, subject, None, cancel)
    if all(existing.digest != digest for existing in entries):
        index = manifests.index_bytes([*entries, entry])
        tagged = reference.replace(tag=protocol.referrers_tag(subject), digest=None)
        client.push_manifest(tagged, index, mediatypes.INDEX, cancel=cancel)


def _stand_in(
    client: RegistryClient,
    endpoint: Endpoint,
    reference: Reference,
    digest: Digest,
    retries: int | None,
    cancel: Cancel,
) -> list[Descriptor]:
    """The entries behind the tag of the referrers tag schema; none when there is no such tag."""
    tag = protocol.referrers_tag(digest)
    what = f"referrers tag {reference.name}:{tag}"
    tagged = reference.replace(tag=tag, digest=None)
    try:
        raw = client.get_manifest(endpoint, tagged, tag, retries, cancel)[1]
    except errors.NotFound:
        return []
    try:
        return _entries(jsonio.loads(raw), what)
    except ValueError as error:
        raise errors.Unavailable(f"{what}: not JSON") from error


def _entries(page: Any, what: str) -> list[Descriptor]:
    entries = page.get("manifests") if isinstance(page, dict) else None
    if entries is not None and not isinstance(entries, list):
        raise errors.Unavailable(f"{what}: the answer is not an index")
    return [descriptors.from_json(entry, f"{what}: entry {n}") for n, entry in enumerate(entries or [])]


def _pages(
    client: RegistryClient,
    endpoint: Endpoint,
    path: str,
    query: Sequence[tuple[str, str]],
    reference: Reference,
    what: str,
    retries: int | None,
    cancel: Cancel,
) -> Iterator[dict[str, Any]]:
    """The JSON objects of a list that goes on over Link fields."""
    location: Url | None = None
    seen: set[str] = set()
    while len(seen) < _PAGES_AT_MOST:
        page, response = _page(client, endpoint, path, query, location, reference, what, retries, cancel)
        yield page
        target = protocol.parse_next_link(response.header_all("Link"))
        if not target:
            return
        location = urls.join(response.url, target)
        if location.origin != response.url.origin:  # a registry behind a proxy may not know its own name
            location = location.replace(scheme=response.url.scheme, host=response.url.host, port=response.url.port)
        if str(location) in seen:
            raise errors.Unavailable(f"{what}: the list goes round in a loop")
        seen.add(str(location))
    raise errors.ResourceExhausted(f"{what}: more than {_PAGES_AT_MOST} pages")


def _page(
    client: RegistryClient,
    endpoint: Endpoint,
    path: str,
    query: Sequence[tuple[str, str]],
    location: Url | None,
    reference: Reference,
    what: str,
    retries: int | None,
    cancel: Cancel,
) -> tuple[dict[str, Any], Response]:
    """One page, and the answer it came in. location: the address of a further page, instead of path and query."""
    response, raw = client.whole(
        lambda: client.session.send(
            endpoint,
            "GET",
            path,
            location=location,
            query=query,
            repository=reference.path,
            scopes=(protocol.scope(reference.path, "pull"),),
            headers=[("Accept", f"{mediatypes.INDEX}, application/json")],
            retries=retries,
            cancel=cancel,
        ),
        _LIMIT,
        what,
        retries,
        cancel,
    )
    try:
        page = jsonio.loads(raw)
    except ValueError as error:
        raise errors.Unavailable(f"{what}: the answer is not JSON: {error}") from error
    if not isinstance(page, dict):
        raise errors.Unavailable(f"{what}: the answer is not a JSON object")
    return page, response
