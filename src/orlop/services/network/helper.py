"""The helper process of one network: carries the traffic of published ports, answers for names.

Started by exec through `control.Helper` (descriptor 3 is its listening socket, the last argument the socket's path). It
leaves its parent at once, runs in one thread on one epoll, and goes when its last container is removed or its socket's
name is gone. All it knows was told to it: if it dies, `Networks.repair` starts another and tells it again.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from .dns import NameServer

_LOOK_S = 2.0


def main() -> int:
    """The process's entry point; its argument is the path of its socket."""
    path = sys.argv[-1]
    if os.fork():
        os._exit(0)
    os.chdir("/")
    import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum

    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    _raise_limit()
    from ...base.kernel import process

    process.set_name("orlop-net")
    try:
        Service(path).run()
    finally:
        try:
            if os.fstat(3) and os.path.lexists(path):
                os.unlink(path)
        except OSError:
            pass
    return 0


def _raise_limit() -> None:
    """As many descriptors as may be: a connection takes up to six."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass  # the limit we have will do


class Service:
    """What the helper holds, by container, and its loop."""

    def __init__(self, path: str) -> None:
        import _socket

        from . import control
        from .loop import Loop

        self._path = path
        self._loop = Loop()
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control.LISTEN_FD)
        self._listener.setblocking(False)
        os.set_inheritable(control.LISTEN_FD, False)
        self._containers: dict[str, dict[str, Any]] = {}
        self._dns: NameServer | None = None
        self._over = False
        self._loop.watch(self._listener.fileno(), self._accept)

    def run(self) -> None:
        """Serve until nothing is left to serve."""
        while not self._over:
            self._loop.turn(_LOOK_S)
            if not os.path.lexists(self._path):
                return

    def _accept(self, events: int) -> None:
        import _socket

        from . import control

        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
        except OSError:
            return
        client = _socket.socket(fileno=fd)
        fds: list[int] = []
        try:
            client.settimeout(5.0)
            request, fds = control.receive(client)
            if request is None:
                return
            try:
                answer = self._answer(request, fds)
            except Exception as error:  # noqa: BLE001 - the asker is told, and the others are served on
                answer = {"error": f"{type(error).__name__}: {error}"}
            control.send(client, answer)
        except (OSError, ValueError) as error:
            print(f"request: {error}", file=sys.stderr, flush=True)
        finally:
            for fd in fds:
                os.close(fd)
            client.close()

    def _answer(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        op = request.get("op")
        if op == "add":
            self._add(request, fds)
            return {"ok": True}
        if op == "remove":
            self._remove(str(request["container"]))
            self._over = not self._containers
            if self._over:
                os.unlink(self._path)
            return {"ok": True, "left": len(self._containers)}
        if op == "dns":
            from .dns import NameServer

            if self._dns is not None:
                self._dns.close()
            socks = [_adopt(fds) for _ in range(2)]
            self._dns = NameServer(self._loop, socks[0], socks[1], [str(server) for server in request["servers"]])
            for each in self._containers.values():
                self._dns.know(each["id"], each["names"], each["address"], each["address6"])
            return {"ok": True}
        if op == "list":
            return {
                "ok": True,
                "containers": {key: [list(port) for port in value["ports"]] for key, value in self._containers.items()},
                "dns": self._dns is not None,
            }
        raise ValueError(f"unknown request {op!r}")

    def _add(self, request: dict[str, Any], fds: list[int]) -> None:
        from .proxy import TcpPort
        from .udpproxy import UdpPort

        container = str(request["container"])
        known = self._containers.setdefault(
            container, {"id": container, "names": [], "address": "", "address6": "", "ports": [], "held": []}
        )
        known.update({key: request[key] for key in ("names", "address", "address6")})
        if len(request["ports"]) != len(fds):
            raise ValueError(f"{len(request['ports'])} ports came with {len(fds)} sockets")
        for protocol, host, host_port, port in request["ports"]:
            target = known["address"] if known["address"] else known["address6"]
            sock = _adopt(fds)
            made = (TcpPort if protocol == "tcp" else UdpPort)(self._loop, sock, target, int(port))
            known["held"].append(made)
            known["ports"].append((protocol, host, host_port, port))
        if self._dns is not None:
            self._dns.know(container, known["names"], known["address"], known["address6"])

    def _remove(self, container: str) -> None:
        known = self._containers.pop(container, None)
        if known is None:
            return
        for held in known["held"]:
            held.close()
        if self._dns is not None:
            self._dns.forget(container)


def _adopt(fds: list[int]) -> _socket.socket:
    """Take the first descriptor off the list, as a socket of its own kind."""
    import _socket

    sock = _socket.socket(fileno=fds[0])
    fds.pop(0)
    sock.setblocking(False)
    return sock


if __name__ == "__main__":
    sys.exit(main())
