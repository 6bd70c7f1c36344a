"""What can go wrong between a client and a registry, as errors of ours.

Two families: connections that fail (`Dropped` and below: trying again may help), and answers that say no (`error_for`).
"""

from __future__ import annotations

from ....base import errors
from .. import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Response


class Dropped(errors.Unavailable):
    """The connection failed before the answer was complete; the request may be tried again."""


class NotConnected(Dropped):
    """No connection was made: refused, no route, time-out."""


class NameNotFound(errors.Unavailable):
    """The host's name does not resolve; trying again at once does not help."""


class NotTls(Dropped):
    """The other side does not speak TLS (a plain HTTP server, as a rule). Trying TLS again does not help."""


class HandshakeBroken(Dropped):
    """The connection was closed during the TLS handshake: a server without TLS may do that, a busy one too."""


class BadCertificate(errors.Unavailable):
    """TLS was refused: certificate or protocol. Trying again does not help."""


class Stalled(Dropped):
    """No byte came for the stall time-out."""


class ShortBody(Dropped):
    """The connection was closed in order before the announced end of the body."""


_KINDS: dict[int, type[errors.OrlopError]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.Unimplemented,
    408: errors.Unavailable,
    409: errors.FailedPrecondition,
    413: errors.ResourceExhausted,
    416: errors.OutOfRange,
    429: errors.ResourceExhausted,
    501: errors.Unimplemented,
}


def kind_of(status: int) -> type[errors.OrlopError]:
    """The error class for an HTTP status that is not a success."""
    kind = _KINDS.get(status)
    if kind is not None:
        return kind
    return errors.InvalidArgument if 400 <= status < 500 else errors.Unavailable


def error_for(response: Response, what: str, *, registry: str = "", note: str = "") -> errors.OrlopError:
    """The error that an answer stands for; reads its body and gives the connection back.

    what: what was asked ("manifest localhost:5000/app:1"). registry: what the user would log in to. note: something
    that went wrong before and may be the cause (a credential helper that failed).
    """
    status = response.status
    host = response.url.netloc
    html = protocol.media_type(response.header("Content-Type")) == "text/html"
    body = b"" if html else response.error_body()
    response.close()
    said = f"{status} {protocol.one_line(response.reason, 60)}".rstrip()
    reasons = "; ".join(str(entry) for entry in protocol.parse_errors(body)[:3])
    if html:
        message = f"{what}: {host} answered {said} with HTML, is this a registry?"
    elif reasons:
        message = f"{what}: {host} answered {said}: {reasons}"
    else:
        text = protocol.one_line(body.decode("utf-8", "replace"), 120)
        message = f"{what}: {host} answered {said}" + (f": {text}" if text else "")
    if note:
        message += f" ({note})"
    return kind_of(status)(message, advice=_advice(status, registry, html))


def html_answer(response: Response, what: str) -> errors.OrlopError:
    """The error for a success that is a web page: a captive portal, a login page, a wrong address."""
    host = response.url.netloc
    response.close()
    return errors.Unavailable(
        f"{what}: {host} answered HTML, is this a registry?",
        advice="check the host's name and port, and whether a proxy or a login page stands in between",
    )


def _advice(status: int, registry: str, html: bool) -> str:
    name = f" {registry}" if registry and registry != "docker.io" else ""
    if status == 401:
        return f"orlop login{name}"
    if status == 403:
        return f"the account may lack access; log in with another: orlop login{name}"
    if status == 404:
        return (
            "check the host's name and port" if html else "check the name and the tag; a private one needs orlop login"
        )
    if status == 429:
        return f"the registry limits requests: wait, or log in (orlop login{name})"
    if status >= 500:
        return "the registry has a problem; try again later"
    return ""
