"""The one hierarchy of errors, each mapped to a gRPC code, an HTTP status and an exit code.

The kinds are containerd's error definitions (its `errdefs` package), so that an error keeps its meaning across every
front door. A message says what failed and names it; `advice` says what to do next; `__cause__` tells the rest.
May import nothing.
"""

from __future__ import annotations


class OrlopError(Exception):
    """Base of every error Orlop raises on purpose.

    message: one line, lower case, naming the thing and the place.
    advice: one line that tells the user what to do, or "".
    """

    grpc_code: int = 2  # UNKNOWN
    http_status: int = 500
    exit_code: int = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return self.message


class NotFound(OrlopError):
    grpc_code, http_status = 5, 404


class AlreadyExists(OrlopError):
    grpc_code, http_status = 6, 409


class InvalidArgument(OrlopError):
    grpc_code, http_status = 3, 400


class FailedPrecondition(OrlopError):
    """The thing is in a state that does not allow this (a running container removed, a snapshot in use)."""

    grpc_code, http_status = 9, 409


class PermissionDenied(OrlopError):
    grpc_code, http_status = 7, 403


class Unauthenticated(OrlopError):
    grpc_code, http_status = 16, 401


class Unavailable(OrlopError):
    """The other side does not answer now; trying again may help."""

    grpc_code, http_status = 14, 503


class ResourceExhausted(OrlopError):
    """A limit is reached: disk full, too many entries, rate limit."""

    grpc_code, http_status = 8, 507


class OutOfRange(OrlopError):
    grpc_code, http_status = 11, 416


class DataLoss(OrlopError):
    """Bytes are not what they should be: wrong digest, wrong size, corrupt archive or database."""

    grpc_code, http_status = 15, 500


class Cancelled(OrlopError):
    grpc_code, http_status, exit_code = 1, 499, 130


class DeadlineExceeded(OrlopError):
    grpc_code, http_status = 4, 504


class Unimplemented(OrlopError):
    """This kernel, machine or peer cannot do it; the message says what is missing."""

    grpc_code, http_status = 12, 501


class Internal(OrlopError):
    grpc_code, http_status = 13, 500


class UsageError(InvalidArgument):
    """A command line that cannot be understood (Docker's exit code 125)."""

    exit_code = 125


class RuntimeFailed(OrlopError):
    """The container could not be created or started for a reason that is the engine's or the machine's (exit 125)."""

    grpc_code, http_status, exit_code = 2, 500, 125


class CommandNotExecutable(InvalidArgument):
    """The container's command exists but cannot be executed (exit 126)."""

    exit_code = 126


class CommandNotFound(InvalidArgument):
    """The container's command does not exist (exit 127)."""

    exit_code = 127


_BY_GRPC: dict[int, type[OrlopError]] = {
    kind.grpc_code: kind
    for kind in (
        Cancelled, OrlopError, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists, PermissionDenied,
        ResourceExhausted, FailedPrecondition, OutOfRange, Unimplemented, Internal, Unavailable, DataLoss,
        Unauthenticated,
    )
}  # fmt: skip


def from_grpc(code: int, message: str) -> OrlopError:
    """The error that a gRPC or ttrpc status stands for."""
    return _BY_GRPC.get(code, OrlopError)(message)


def from_os(error: OSError, doing: str) -> OrlopError:
    """An OSError as an error of ours: disk full, permission, missing file keep their meaning.

    doing: what was attempted, for the message ("write blob sha256:…").
    """
    import errno

    detail = f"{doing}: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(detail, advice="free some space (orlop gc, orlop rmi) and try again")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(detail)
    if error.errno == errno.ENOENT:
        return NotFound(detail)
    if error.errno == errno.EEXIST:
        return AlreadyExists(detail)
    return Internal(detail)
