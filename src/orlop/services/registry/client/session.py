"""Requests to registries: authorization, redirects and retries around `transport.py`'s single exchanges.

The rule about secrets: Authorization and the fields configured for a host go to that host's origin (scheme, name and
port) and nowhere else, whatever redirects say.
"""

from __future__ import annotations

import threading

from ....base import errors
from .. import protocol
from . import auth, failures, tls
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ....base.cancel import Cancel
    from .connection import Body, Response
    from .credentials import Credentials
    from .hosts import Endpoint
    from .retry import Policy
    from .tls import TlsConfig
    from .transport import Transport
    from .url import Url

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Session:
    """Asks registries; thread-safe.

    find: the credentials for (endpoint, repository). is_insecure: whether a host (without port) or host:port may be
    used without verified TLS.
    """

    def __init__(
        self,
        transport: Transport,
        policy: Policy,
        find: Callable[[Endpoint, str, Cancel], Credentials | None],
        is_insecure: Callable[[str, str], bool],
        clock: Callable[[], float],
    ) -> None:
        self.transport = transport
        self.policy = policy
        self.auth = auth.Authorizer(find, self._fetch_token, clock)
        self._is_insecure = is_insecure
        self._lock = threading.Lock()
        self._plain: set[str] = set()
        self._answered: set[tuple[str, str, int]] = set()

    def effective(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the scheme that turned out to be spoken there."""
        if endpoint.fallback_http and endpoint.scheme == "https" and endpoint.host in self._plain:
            return endpoint.replace(scheme="http")
        return endpoint

    def send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        repository: str = "",
        scopes: tuple[str, ...] = (),
        query: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
        body: Body | None = None,
        location: Url | None = None,
        verified: bool = False,
        retries: int | None = None,
        response_timeout: float | None = None,
        authorization: str | None = None,
        cancel: Cancel,
    ) -> Response:
        """One request to a registry, to its final answer: any status.

        path: below the API's root; or location: an address the registry gave (an upload's), used instead.
        verified: the caller checks the answer by digest, so that a redirect may leave TLS.
        retries: fewer or more than the policy's; a request with a body is not retried unless asked for.
        authorization: send exactly this ("" for none) and answer no 401; otherwise a 401 is answered once.
        Raises what `Transport.exchange` and `Authorizer.answer` raise.
        """
        if retries is None and body is not None:
            retries = 0
        tried = 0
        while True:
            endpoint = self.effective(endpoint)
            url = location if location is not None else endpoint.url(path).with_query(*query)
            try:
                response = self._authorized(
                    endpoint,
                    method,
                    url,
                    repository,
                    scopes,
                    headers,
                    body,
                    verified,
                    response_timeout,
                    authorization,
                    cancel,
                )
            except failures.Dropped as error:
                if location is None and self._falls_back(endpoint, error):
                    continue
                known = endpoint.origin in self._answered
                delay = self.policy.after_failure(error, tried, retries, known=known)
                if delay is None:
                    raise
            else:
                self._answered.add(endpoint.origin)
                delay = self.policy.after_answer(response, tried, retries)
                if delay is None:
                    return response
                response.close()
            tried += 1
            self.transport.trace(f"{method} {url.shown}: trying again in {delay:.1f} s")
            self.policy.wait(delay, cancel)

    def _falls_back(self, endpoint: Endpoint, error: failures.Dropped) -> bool:
        """Whether the failure means that plain HTTP is to be tried, as Docker and containerd do for loopback."""
        if not endpoint.fallback_http or endpoint.scheme != "https":
            return False
        implied_port = urls.split_host(endpoint.host)[1] is None
        no_tls = isinstance(error, (failures.NotTls, failures.HandshakeBroken))
        if not no_tls and not (implied_port and isinstance(error, failures.NotConnected)):
            return False
        self.transport.trace(f"{endpoint.netloc}: no TLS there, using plain HTTP")
        with self._lock:
            self._plain.add(endpoint.host)
        return True

    def _authorized(
        self,
        endpoint: Endpoint,
        method: str,
        url: Url,
        repository: str,
        scopes: tuple[str, ...],
        headers: Sequence[tuple[str, str]],
        body: Body | None,
        verified: bool,
        response_timeout: float | None,
        given: str | None,
        cancel: Cancel,
    ) -> Response:
        own = given is None and any(name.lower() == "authorization" for name, _ in endpoint.headers)
        first = given is None and url.origin == endpoint.origin
        authorization = given or ""
        if first and not own:
            authorization = self.auth.header(endpoint, repository, scopes, cancel)
        while True:
            secrets = list(endpoint.headers)
            if authorization:
                secrets.append(("Authorization", authorization))
            response = self._follow(endpoint, method, url, headers, secrets, body, verified, response_timeout, cancel)
            if response.status != 401 or own or response.url.origin != endpoint.origin or not first:
                return response
            challenges = protocol.parse_challenges(response.header_all("WWW-Authenticate"))
            try:
                authorization = self.auth.answer(endpoint, challenges, repository, scopes, authorization, cancel)
            except BaseException:
                response.close()
                raise
            if not authorization:
                return response
            first = False  # a second 401 is the answer
            response.close()

    def _follow(
        self,
        endpoint: Endpoint,
        method: str,
        url: Url,
        headers: Sequence[tuple[str, str]],
        secrets: Sequence[tuple[str, str]],
        body: Body | None,
        verified: bool,
        response_timeout: float | None,
        cancel: Cancel,
        secret_origin: tuple[str, str, int] | None = None,
    ) -> Response:
        secret_origin = secret_origin or endpoint.origin
        began = url
        seen: set[tuple[str, str]] = set()
        while True:
            cancel.check()
            if (method, str(url)) in seen:
                raise errors.Unavailable(f"{began.shown}: the redirects go round in a loop, at {url.shown}")
            if len(seen) > MAX_REDIRECTS:
                raise errors.Unavailable(f"{began.shown}: more than {MAX_REDIRECTS} redirects, the last to {url.shown}")
            seen.add((method, str(url)))
            home = url.origin == secret_origin
            at_endpoint = url.origin == endpoint.origin
            response = self.transport.exchange(
                method,
                url,
                headers=[*headers, *secrets] if home else list(headers),
                body=body,
                config=endpoint.tls if at_endpoint else self._foreign_tls(url),
                explicit_proxy=endpoint.proxy if at_endpoint else "",
                dial_timeout=endpoint.dial_timeout,
                response_timeout=response_timeout,
                cancel=cancel,
            )
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            if method not in ("GET", "HEAD") and response.status not in (307, 308):
                return response  # how such a request goes on is not agreed on; its status tells what happened
            response.close()
            try:
                following = urls.join(url, location)
            except errors.InvalidArgument as error:
                raise errors.Unavailable(f"{url.shown}: redirected to an address that is none") from error
            if following.scheme == "http" and url.scheme == "https" and not verified:
                raise errors.PermissionDenied(
                    f"{url.shown}: redirected from https to plain HTTP ({following.shown}); refused",
                    advice="what comes this way cannot be trusted; the registry must use https throughout",
                )
            url = following

    def _foreign_tls(self, url: Url) -> TlsConfig:
        return tls.UNVERIFIED if self._is_insecure(url.host, url.netloc) else tls.SYSTEM

    def _fetch_token(
        self,
        method: str,
        url: Url,
        *,
        endpoint: Endpoint,
        headers: Sequence[tuple[str, str]],
        secrets: Sequence[tuple[str, str]],
        body: auth.Bytes | None,
        cancel: Cancel,
    ) -> Response:
        """A request to a token server, tried again like any other. A body may hold a secret: it is not redirected."""
        tried = 0
        while True:
            try:
                if body is None:
                    response = self._follow(
                        endpoint, method, url, headers, secrets, None, False, None, cancel, secret_origin=url.origin
                    )
                else:
                    at_endpoint = url.origin == endpoint.origin
                    response = self.transport.exchange(
                        method,
                        url,
                        headers=[*headers, *secrets],
                        body=body,
                        config=endpoint.tls if at_endpoint else self._foreign_tls(url),
                        explicit_proxy=endpoint.proxy if at_endpoint else "",
                        dial_timeout=endpoint.dial_timeout,
                        cancel=cancel,
                    )
            except failures.Dropped as error:
                delay = self.policy.after_failure(error, tried, known=False)
                if delay is None:
                    raise
            else:
                delay = self.policy.after_answer(response, tried)
                if delay is None:
                    return response
                response.close()
            tried += 1
            self.policy.wait(delay, cancel)

    def fetch_foreign(
        self, endpoint: Endpoint, url: Url, *, headers: Sequence[tuple[str, str]], cancel: Cancel
    ) -> Response:
        """GET an address that a descriptor names: without credentials, verified by the caller."""
        bare = endpoint.replace(headers=(), tls=endpoint.tls.replace(client=()))
        return self._follow(bare, "GET", url, headers, (), None, True, None, cancel, secret_origin=url.origin)
