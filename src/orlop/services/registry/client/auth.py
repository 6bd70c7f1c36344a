"""Authorization: challenges answered with passwords and tokens, tokens kept until they expire.

Where secrets go (DESIGN §5): a password or an identity token goes to the registry it was given for, and to the token
server which that registry itself names, over https unless the registry itself is used over plain HTTP. A token goes to
the registry that asked for it. Sources: RFC 7617, the distribution project's token and OAuth2 specifications.
"""

from __future__ import annotations

import binascii
import threading
import time

from ....base import errors, jsonio
from ....base.record import Record
from .. import protocol
from . import failures
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ....base.cancel import Cancel
    from ..protocol import Challenge
    from .connection import Connection, Response
    from .credentials import Credentials
    from .hosts import Endpoint
    from .url import Url

    class Fetch(Protocol):
        """A request with redirects and retries (session.py). secrets: fields for the first origin alone."""

        def __call__(
            self,
            method: str,
            url: Url,
            *,
            endpoint: Endpoint,
            headers: Sequence[tuple[str, str]],
            secrets: Sequence[tuple[str, str]],
            body: Bytes | None,
            cancel: Cancel,
        ) -> Response: ...


CLIENT_ID = "orlop"
EXPIRES_S = 60.0
"""How long a token lasts that does not tell (token specification)."""
_MARGIN_S = 5.0
_LIMIT = 1 << 20


class Token(Record):
    """text: what goes after "Bearer ". expires: on the monotonic clock. refresh: an identity token that came along."""

    text: str
    expires: float
    refresh: str = ""

    def __repr__(self) -> str:
        return f"Token(…, expires={self.expires})"


class Bytes:
    """A small request body."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def send(self, connection: Connection, cancel: Cancel) -> None:
        connection.send_all(self._data)


class Authorizer:
    """Knows, for each registry, how it wants to be asked; thread-safe.

    find: the credentials for (endpoint, repository), or None. fetch: makes the requests to token servers.
    """

    def __init__(
        self,
        find: Callable[[Endpoint, str, Cancel], Credentials | None],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, int], Challenge] = {}
        self._asked: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._tokens: dict[tuple[object, ...], Token] = {}
        self._fetching: dict[tuple[object, ...], threading.Lock] = {}

    def header(self, endpoint: Endpoint, repository: str, scopes: tuple[str, ...], cancel: Cancel) -> str:
        """The Authorization to begin with: what worked before at this registry, or "" when it has not asked yet."""
        challenge = self._known.get(endpoint.origin)
        if challenge is None:
            return ""
        wanted = self._asked.get((endpoint.origin, scopes)) or protocol.merge_scopes(scopes)
        return self._answer(endpoint, challenge, repository, wanted, "", cancel)

    def answer(
        self,
        endpoint: Endpoint,
        challenges: Sequence[Challenge],
        repository: str,
        scopes: tuple[str, ...],
        refused: str,
        cancel: Cancel,
    ) -> str:
        """The Authorization that answers a 401; "" when there is nothing (else) to offer.

        refused: the Authorization that got the 401. Raises Unauthenticated when the token server says no.
        """
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme != scheme or (scheme == "bearer" and not challenge.get("realm")):
                    continue
                # Some registries want a scope of another name than ours (a cache's prefix): what they ask for counts.
                wanted = protocol.merge_scopes((*scopes, challenge.get("scope")))
                with self._lock:
                    self._known[endpoint.origin] = challenge
                    self._asked[endpoint.origin, scopes] = wanted
                answer = self._answer(endpoint, challenge, repository, wanted, refused, cancel)
                return "" if answer == refused else answer
        return ""

    def _answer(
        self,
        endpoint: Endpoint,
        challenge: Challenge,
        repository: str,
        scopes: tuple[str, ...],
        refused: str,
        cancel: Cancel,
    ) -> str:
        credentials = self._find(endpoint, repository, cancel)
        if challenge.scheme == "basic":
            return basic(credentials) if credentials is not None and credentials.username else ""
        if credentials is not None and credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        return f"Bearer {self._token(endpoint, challenge, scopes, credentials, refused, cancel).text}"

    def _token(
        self,
        endpoint: Endpoint,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        refused: str,
        cancel: Cancel,
    ) -> Token:
        key = (endpoint.origin, challenge.get("realm"), challenge.get("service"), scopes, credentials)
        with self._lock:
            fetching = self._fetching.setdefault(key, threading.Lock())
        while not fetching.acquire(timeout=cancel.remaining(0.1) or 0.0):  # one thread asks, the others take the answer
            cancel.check()
        try:
            token = self._tokens.get(key)
            if token is not None and self._clock() < token.expires and f"Bearer {token.text}" != refused:
                return token
            token = self._fetch_token(endpoint, challenge, scopes, credentials, cancel)
            with self._lock:
                now = self._clock()
                for old in [k for k, t in self._tokens.items() if t.expires <= now]:
                    del self._tokens[old]
                self._tokens[key] = token
            return token
        finally:
            fetching.release()

    def offline_token(
        self, endpoint: Endpoint, challenge: Challenge, credentials: Credentials, cancel: Cancel
    ) -> Token:
        """A token for no scope, asked for with a refresh token to keep instead of the password (`login`)."""
        return self._fetch_token(endpoint, challenge, (), credentials, cancel, offline=True)

    def _fetch_token(
        self,
        endpoint: Endpoint,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        cancel: Cancel,
        offline: bool = False,
    ) -> Token:
        realm = realm_url(endpoint, challenge)
        what = f"token for {endpoint.registry}"
        service = challenge.get("service")
        if credentials is not None and credentials.identity_token:
            response = self._post(realm, service, scopes, credentials, endpoint, cancel)
        else:
            response = self._get(realm, service, scopes, credentials, endpoint, offline, cancel)
            if response.status in (404, 405) and credentials is not None:  # a server that knows OAuth2 alone
                response.close()
                response = self._post(realm, service, scopes, credentials, endpoint, cancel)
        if response.status != 200:
            if response.status in (400, 401, 403):
                told = failures.error_for(response, what, registry=endpoint.registry)
                who = f"the login of {credentials.username or 'the identity token'}" if credentials else "no login"
                raise errors.Unauthenticated(f"{told.message} (with {who})", advice=f"orlop login {endpoint.registry}")
            raise failures.error_for(response, what, registry=endpoint.registry)
        if protocol.media_type(response.header("Content-Type")) == "text/html":
            raise failures.html_answer(response, what)
        return _parse_token(response.read(_LIMIT, cancel, what), self._clock(), what)

    def _get(
        self,
        realm: Url,
        service: str,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        endpoint: Endpoint,
        offline: bool,
        cancel: Cancel,
    ) -> Response:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        secrets = []
        if credentials is not None and credentials.username:
            query.append(("account", credentials.username))
            secrets = [("Authorization", basic(credentials))]
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        url = realm.with_query(*query)
        return self._fetch("GET", url, endpoint=endpoint, headers=(), secrets=secrets, body=None, cancel=cancel)

    def _post(
        self,
        realm: Url,
        service: str,
        scopes: tuple[str, ...],
        credentials: Credentials,
        endpoint: Endpoint,
        cancel: Cancel,
    ) -> Response:
        from urllib.parse import urlencode

        form = [("service", service), ("client_id", CLIENT_ID)]
        if scopes:
            form.append(("scope", " ".join(scopes)))
        if credentials.identity_token:
            form += [("grant_type", "refresh_token"), ("refresh_token", credentials.identity_token)]
        else:
            form += [
                ("grant_type", "password"),
                ("username", credentials.username),
                ("password", credentials.password),
                ("access_type", "offline"),
            ]
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        body = Bytes(urlencode(form).encode())
        return self._fetch("POST", realm, endpoint=endpoint, headers=headers, secrets=(), body=body, cancel=cancel)


def basic(credentials: Credentials) -> str:
    """The Authorization of RFC 7617."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + binascii.b2a_base64(pair, newline=False).decode()


def realm_url(endpoint: Endpoint, challenge: Challenge) -> Url:
    """Where a challenge sends us for a token. PermissionDenied when secrets would leave TLS for it."""
    text = challenge.get("realm")
    try:
        realm = urls.parse(text)
    except errors.InvalidArgument as error:
        raise errors.Unavailable(
            f"{endpoint.netloc} sends us for a token to {protocol.one_line(text, 100)!r}, which is no address"
        ) from error
    if realm.scheme != "https" and endpoint.scheme == "https":
        raise errors.PermissionDenied(
            f"{endpoint.netloc} wants its token fetched over plain HTTP ({realm.shown}); refused",
            advice="the registry's token server must be reached over https",
        )
    return realm


def _parse_token(body: bytes, now: float, what: str) -> Token:
    try:
        value = jsonio.loads(body)
    except ValueError as error:
        raise errors.Unavailable(f"{what}: the answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise errors.Unavailable(f"{what}: the answer is not a JSON object")
    text = value.get("token") or value.get("access_token")
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable() or " " in text:
        raise errors.Unavailable(f"{what}: the answer holds no token")
    lasts = value.get("expires_in")
    if isinstance(lasts, bool) or not isinstance(lasts, (int, float)) or lasts <= 0:
        lasts = EXPIRES_S
    refresh = value.get("refresh_token")
    margin = min(_MARGIN_S, lasts / 4)
    return Token(text, now + lasts - margin, refresh if isinstance(refresh, str) else "")
