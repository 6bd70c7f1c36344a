"""The talk between Orlop and a network's helper process: packets of JSON, sockets beside them (SCM_RIGHTS).

Requests: {"op": "add", "container", "names", "address", "address6", "ports": [[protocol, host ip, host port, container
port], …]} with one bound socket for each port; {"op": "dns", "bridge", "servers"} with its two sockets; {"op":
"remove", "container"}; {"op": "list"}. Each is answered by one packet {"ok": true, …} or {"error": "…"}. Who asks
holds the root's network lock, so the helper may go as soon as it has answered that nothing is left.
"""

from __future__ import annotations

import _socket
import errno
import os
from struct import pack, unpack

from ...base import errors, fsio, jsonio
from ...base.ttrpc import unixsock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ...stores.networks.api import Endpoint
    from .ports import Bound

LISTEN_FD = 3
SOCKETS_A_PACKET = 200
"""The kernel takes 253 descriptors a packet (SCM_MAX_FD)."""
_PACKET_BYTES = 1 << 16
_ANSWER_S = 20.0
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ")


_STARTS = 3


class _Gone(errors.Unavailable):
    """The process died while it was talked to; another can be started."""


class Helper:
    """The helper of one network, as its clients see it: by the name of its socket.

    socket_path: where it listens. argv: starts it (`services.network.helper:main`); the socket's path is appended.
    """

    def __init__(self, socket_path: str, argv: Sequence[str], log_path: str) -> None:
        self._path = socket_path
        self._argv = argv
        self._log = log_path

    def is_running(self) -> bool:
        sock = self._connect()
        if sock is None:
            return False
        sock.close()
        return True

    def add(self, endpoint: Endpoint, bound: Sequence[Bound], *, names: Sequence[str] = ()) -> None:
        """Hand a container's name and published ports to the helper, which is started when it does not run.

        Raises Unavailable when it does not answer; the sockets stay the caller's to close.
        """
        for first in range(0, len(bound) or 1, SOCKETS_A_PACKET):
            part = bound[first : first + SOCKETS_A_PACKET]
            request = {
                "op": "add",
                "container": endpoint.container,
                "names": list(names),
                "address": endpoint.address,
                "address6": endpoint.address6,
                "ports": [
                    [each.mapping.protocol, each.mapping.host_ip, each.mapping.host_port, each.mapping.container_port]
                    for each in part
                ],
            }
            self._tell(request, [each.sock.fileno() for each in part])

    def serve_names(self, bridge: str, servers: Sequence[str], socks: Sequence[_socket.socket]) -> None:
        """Have it answer for names on a UDP and a listening TCP socket; it asks `servers` for what it does not know."""
        self._tell({"op": "dns", "bridge": bridge, "servers": list(servers)}, [sock.fileno() for sock in socks])

    def remove(self, container: str) -> None:
        """Forget a container; a helper that does not run has nothing to forget. It goes with its last one."""
        sock = self._connect()
        if sock is None:
            return
        try:
            self._ask({"op": "remove", "container": container}, (), sock)
        except _Gone:
            pass  # its ports went with it

    def listed(self) -> dict[str, Any]:
        """What it holds: {"containers": {id: [[protocol, ip, port, container port], …]}, "dns": bool}; {} when it is
        not running.
        """
        sock = self._connect()
        try:
            return self._ask({"op": "list"}, (), sock) if sock is not None else {}
        except _Gone:
            return {}

    def forget(self) -> None:
        """Take away the name of a helper that is gone."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def _tell(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        """Ask, once the helper runs; one that was dying just then is replaced."""
        for left in reversed(range(_STARTS)):
            self._start()
            try:
                self._ask(request, fds)
                return
            except _Gone:
                if not left:
                    raise

    def _start(self) -> None:
        if self.is_running():
            return
        fsio.make_dirs(os.path.dirname(self._path), 0o700)
        fsio.make_dirs(os.path.dirname(self._log), 0o700)
        self.forget()
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        log = -1
        try:
            os.fchmod(listener.fileno(), 0o600)
            unixsock.with_short_name(self._path, listener.bind)
            listener.listen(128)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            try:
                actions = [
                    (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), LISTEN_FD),
                ]  # fmt: skip
                environment = {
                    key: value for key, value in os.environ.items() if key in _ENVIRONMENT or key.startswith("ORLOP_")
                }
                argv = [*self._argv, self._path]
                pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
            finally:
                os.close(null)
            # It leaves its parent at once; what is waited for is only that it has come so far.
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status:
                raise errors.Unavailable(
                    f"the network's helper process did not start (exit status {status})", advice=f"see {self._log}"
                )
        except BaseException as error:
            self.forget()
            if isinstance(error, OSError):
                raise errors.from_os(error, f"start the network's helper process {self._argv[0]}") from error
            raise
        finally:
            listener.close()
            if log >= 0:
                os.close(log)

    def _connect(self) -> _socket.socket | None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            unixsock.with_short_name(self._path, sock.connect)
        except OSError as error:
            sock.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                return None
            raise errors.from_os(error, f"connect to {self._path}") from error
        return sock

    def _ask(self, request: dict[str, Any], fds: Sequence[int], sock: _socket.socket | None = None) -> dict[str, Any]:
        sock = sock or self._connect()
        if sock is None:
            raise _Gone("the network's helper process is gone", advice=f"see {self._log}")
        try:
            sock.settimeout(_ANSWER_S)
            send(sock, request, fds)
            answer, _ = receive(sock)
        except (ConnectionError, BrokenPipeError) as error:
            raise _Gone("the network's helper process is gone", advice=f"see {self._log}") from error
        except OSError as error:
            raise errors.Unavailable(
                f"the network's helper process does not answer: {error}", advice=f"see {self._log}"
            ) from error
        finally:
            sock.close()
        if answer is None:
            raise _Gone("the network's helper process is gone", advice=f"see {self._log}")
        if "error" in answer:
            raise errors.Internal(f"the network's helper process: {answer['error']}")
        return answer


def send(sock: _socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """One packet. Raises OSError."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack(f"={len(fds)}i", *fds))] if fds else []
    sock.sendmsg([jsonio.dump_bytes(message)], rights)


def receive(sock: _socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One packet and its descriptors (close-on-exec); None at the end. Raises OSError, ValueError for rubbish."""
    space = _socket.CMSG_SPACE(4 * 253)
    data, ancillary, _, _ = sock.recvmsg(_PACKET_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            count = len(payload) // 4
            fds += unpack(f"={count}i", payload[: count * 4])
    if not data:
        return None, fds
    try:
        message = jsonio.loads(data)
        if not isinstance(message, dict):
            raise ValueError("not an object")
    except ValueError:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds
