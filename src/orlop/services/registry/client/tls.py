"""TLS: which authorities are trusted and who we say we are, and the handshake.

`ssl` is imported here alone and only when a connection needs it.
"""

from __future__ import annotations

from ....base import errors
from ....base.record import Record
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl

    from ....base.cancel import Cancel


class TlsConfig(Record):
    """verify: whether the server's certificate must be good. ca: files of authorities trusted beside the system's.
    client: (certificate file, key file or "") pairs; the first that suits a kind of key is shown.
    """

    verify: bool = True
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()


SYSTEM = TlsConfig()
UNVERIFIED = TlsConfig(verify=False)


def context(config: TlsConfig) -> ssl.SSLContext:
    """A context for a configuration. Raises InvalidArgument naming the file that cannot be used."""
    import ssl

    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH) if config.verify else _unverified()
    made.set_alpn_protocols(["http/1.1"])
    for path in config.ca if config.verify else ():
        try:
            made.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise errors.InvalidArgument(f"cannot read the certificate authority {path}: {_reason(error)}") from error
    for certificate, key in reversed(config.client):  # of two with one kind of key the last loaded is used
        try:
            made.load_cert_chain(certificate, key or None, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            shown = f"{certificate} and {key}" if key else certificate
            raise errors.InvalidArgument(f"cannot use the client certificate {shown}: {_reason(error)}") from error
    return made


def _unverified() -> ssl.SSLContext:
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def handshake(sock: socket.socket, made: ssl.SSLContext, host: str, where: str, cancel: Cancel) -> ssl.SSLSocket:
    """TLS over a connected socket (whose time-out is set); closes it when that fails.

    Raises NotTls, HandshakeBroken, BadCertificate, Stalled, Cancelled.
    """
    import socket as sockets
    import ssl

    try:
        with cancel.closing(lambda: sockets.socket.shutdown(sock, sockets.SHUT_RDWR)):
            wrapped = made.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            sock = wrapped
            wrapped.do_handshake()
        return wrapped
    except BaseException as error:
        sock.close()
        if not isinstance(error, (OSError, ValueError)):
            raise
        cancel.check()
        if isinstance(error, TimeoutError):
            raise failures.Stalled(f"TLS handshake with {where}: no answer") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise failures.BadCertificate(
                f"cannot trust {where}: {error.verify_message}",
                advice=f"put its authority's certificate into /etc/orlop/certs.d/{where}/ca.crt",
            ) from error
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            raise failures.BadCertificate(
                f"{where} refused the TLS connection: {_reason(error)}",
                advice="it may ask for a client certificate, or for another version of TLS",
            ) from error
        if isinstance(error, ValueError):
            raise failures.BadCertificate(f"TLS with {where}: {error}") from error
        if not isinstance(error, ssl.SSLError) or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            raise failures.HandshakeBroken(f"TLS handshake with {where} failed: {_reason(error)}") from error
        raise failures.NotTls(
            f"{where} does not speak TLS",
            advice='for a plain HTTP registry use --insecure-registry, or server = "http://…" in its hosts.toml',
        ) from error


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and reason:
        return reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__
