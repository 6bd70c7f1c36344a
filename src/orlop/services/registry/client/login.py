"""Logging in to registries and out: a login is tried first and kept only when the registry takes it."""

from __future__ import annotations

from ....base import errors
from ....base.cancel import NEVER, Cancel
from .. import protocol
from . import auth, failures, hosts
from .credentials import Credentials, CredentialStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import RegistryClient


def registry_name(text: str) -> str:
    """The registry a user means: "" and Docker's own addresses are "docker.io"; scheme and path are dropped."""
    bare = text.strip().partition("://")[2] or text.strip()
    host = bare.partition("/")[0]
    return hosts.DOCKER_HUB if not host or host in hosts._HUB_HOSTS else host


def login(
    client: RegistryClient,
    registry: str,
    username: str,
    password: str,
    *,
    identity_token: str = "",
    cancel: Cancel = NEVER,
) -> str:
    """Try a login and keep it: in the configured credential helper, else in Docker's config.json.

    Where the registry's token server gives an identity token for the password, that is kept and the password is not.
    Returns a warning to show ("" for none). Raises Unauthenticated when the registry refuses, and the errors of
    `RegistryClient.ping`.
    """
    name = registry_name(registry)
    if not identity_token and not (username and password):
        raise errors.InvalidArgument("a login needs a user name and a password")
    if ":" in username:
        raise errors.InvalidArgument("a user name cannot hold a colon (RFC 7617)")
    given = Credentials(username, password, identity_token)
    kept = verify(client, name, given, cancel)
    path = client.credentials.store(hosts.auth_key(name), kept, cancel)
    if not path or kept.identity_token:
        return ""
    return (
        f"WARNING! Your password is stored unencrypted in {path}. "
        "Configure a credential helper (credsStore) to remove this warning."
    )


def logout(registry: str, docker_config: str | None = None, *, cancel: Cancel = NEVER) -> str:
    """Forget the login to a registry; returns the line to show. A registry that was not logged in to is no error."""
    name = registry_name(registry)
    store = CredentialStore(docker_config)
    there = store.erase(hosts.auth_key(name), cancel)
    return f"Removing login credentials for {name}" if there else f"Not logged in to {name}"


def verify(client: RegistryClient, registry: str, given: Credentials, cancel: Cancel = NEVER) -> Credentials:
    """Ask a registry whether it takes these credentials; those to keep (an identity token may have come instead)."""
    what = f"login to {registry}"
    endpoint = client.endpoints(registry, "resolve")[-1]
    session = client.session
    kept = given
    response = session.send(endpoint, "GET", "/", authorization="", cancel=cancel)
    endpoint = session.effective(endpoint)
    if response.status == 401:
        challenges = protocol.parse_challenges(response.header_all("WWW-Authenticate"))
        response.close()
        authorization = ""
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.get("realm"):
                token = session.auth.offline_token(endpoint, challenge, given, cancel)
                authorization = f"Bearer {token.text}"
                if token.refresh and not given.identity_token:
                    kept = Credentials(given.username, "", token.refresh)
                break
            if challenge.scheme == "basic":
                authorization = auth.basic(given)
        if not authorization:
            schemes = ", ".join(c.scheme for c in challenges) or "none"
            raise errors.Unimplemented(f"{what}: it wants an authentication that is not known here ({schemes})")
        response = session.send(endpoint, "GET", "/", authorization=authorization, cancel=cancel)
    if response.status != 200:
        error = failures.error_for(response, what)
        if response.status == 401:
            raise errors.Unauthenticated(f"{what}: unauthorized: {error.message}", advice="check user and password")
        raise error
    if protocol.media_type(response.header("Content-Type")) == "text/html":
        raise failures.html_answer(response, what)
    response.close()
    return kept
