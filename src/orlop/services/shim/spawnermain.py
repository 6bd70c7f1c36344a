"""The spawner: a small process of one thread that does nothing but fork monitors, so that their memory is shared.

Run by path with `python -I -S -E`, never imported: argv is STATE and the path of its socket; descriptor 3 is the
listening socket; standard error is STATE/spawner.log. It leaves the caller's process at once (fork, setsid), serves
requests (`spawner.py`), and goes when it was idle for a while or its socket has gone. Monitors outlive it.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # who started us waits for this: from here on nobody is our parent
    os.setsid()
    sys.path.insert(0, os.path.abspath(__file__).rsplit("/", 4)[0])

import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum
import _socket
import gc

from orlop.base import errors, fsio, jsonio
from orlop.base.kernel import cgroups, namespaces  # noqa: F401 - loaded here, shared by all monitors
from orlop.base.kernel import process as kernel_process
from orlop.base.ttrpc import unixsock
from orlop.base.ttrpc.loop import READ, Loop
from orlop.services.shim import exitfile, monitor, spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

IDLE_S = 60.0
_LOOK_S = 1.0
_MAX_REQUEST_BYTES = 1 << 16


class Spawner:
    """Serves requests on the inherited socket."""

    def __init__(self, state_dir: str, path: str) -> None:
        self._state_dir = state_dir
        self._path = path
        self._loop = Loop()
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, spawner.LISTEN_FD)
        self._listener.setblocking(False)
        self._clients: dict[int, tuple[_socket.socket, bytearray]] = {}
        self._layout = cgroups.detect()
        self._idle_s = float(os.environ.get("ORLOP_SPAWNER_IDLE_S") or IDLE_S)
        self._last_ns = monotonic_ns()
        self._loop.watch(spawner.LISTEN_FD, READ, lambda _: self._accept())
        self._loop.after(min(_LOOK_S, self._idle_s), self._look)

    def run(self) -> None:
        self._loop.run()

    def _look(self) -> None:
        """Go when nobody needs us, or when the state directory is gone."""
        if not os.path.lexists(self._path):
            self._loop.stop()
        elif not self._clients and monotonic_ns() - self._last_ns >= self._idle_s * 1e9:
            self._go()
        self._loop.after(min(_LOOK_S, self._idle_s), self._look)

    def _go(self) -> None:
        try:
            lock = fsio.lock(f"{self._path}.lock", wait=False)
        except errors.Unavailable:
            return  # somebody is about to ask
        with lock:
            exitfile.unlink_quietly(self._path)
        self._accept()  # who connected before the name was gone is still served
        if self._clients:
            self._last_ns = monotonic_ns()
        else:
            self._loop.stop()

    def _accept(self) -> None:
        while True:
            try:
                client = unixsock.accept(self._listener)
            except OSError:
                return
            fd = client.fileno()
            self._clients[fd] = (client, bytearray())
            self._loop.watch(fd, READ, lambda _, fd=fd: self._read(fd))  # type: ignore[misc]

    def _read(self, fd: int) -> None:
        client, request = self._clients[fd]
        try:
            chunk = client.recv(_MAX_REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        request += chunk
        if chunk and b"\n" not in request and len(request) < _MAX_REQUEST_BYTES:
            return
        del self._clients[fd]
        self._loop.forget(fd)
        try:
            if request.endswith(b"\n"):
                self._serve(client, jsonio.loads(request))
        except (errors.OrlopError, ValueError, OSError) as error:
            _answer(client, _refusal(error))
        finally:
            client.close()
            self._last_ns = monotonic_ns()

    def _serve(self, client: _socket.socket, request: dict[str, Any]) -> None:
        if request.get("op") == "stop":
            exitfile.unlink_quietly(self._path)
            self._loop.stop()
            return
        if request.get("op") != "monitor":
            raise errors.InvalidArgument(f"the spawner does not know {request.get('op')!r}")
        bundle = str(request["bundle"])
        pid = os.fork()
        if not pid:
            self._become_monitor(client, bundle, bool(request.get("recover")))

    def _become_monitor(self, client: _socket.socket, bundle: str, recover: bool) -> NoReturn:
        """In the child. Answers the client itself, once it serves: the spawner waits for nobody."""
        status = 1
        try:
            os.setsid()
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            fd = _keep_only(client.fileno())
            answerer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
            answerer.setblocking(True)
            try:
                one, lock = _prepare(self._state_dir, bundle, recover, self._layout)
            except (errors.OrlopError, OSError, ValueError) as error:
                _answer(answerer, _refusal(error))
                os._exit(1)
            address = fsio.read_file(f"{bundle}/{exitfile.ADDRESS}", 4096).decode("utf-8", "surrogateescape")
            _answer(answerer, {"address": address, "pid": os.getpid()})
            answerer.close()
            one.loop.run()
            status = 0
            lock.release()
        except BaseException:  # noqa: BLE001 - the last frame of the process: nothing may run the spawner's code after
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)


def _prepare(state_dir: str, bundle: str, recover: bool, layout: cgroups.Layout) -> tuple[monitor.Monitor, fsio.Lock]:
    """A monitor over the bundle, in this process, serving."""
    os.chdir(bundle)
    log = os.open("monitor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        lock = fsio.lock(f"{bundle}/{exitfile.LOCK}", wait=False)
    except errors.Unavailable:
        raise errors.AlreadyExists(f"a monitor lives in {bundle} already") from None
    kernel_process.set_subreaper()
    kernel_process.set_name("orlop-monitor")
    sockets = f"{state_dir}/s"
    fsio.make_dirs(sockets)
    name = f"{sockets}/{_short_name(bundle)}"
    box: list[fsio.Lock] = [lock]
    one = monitor.Monitor(bundle, f"{name}.sock", f"{name}.attach", layout, lambda: box[0].release())
    if recover:
        one.recover()
    return one, lock


def _short_name(bundle: str) -> str:
    from _blake2 import blake2b

    return str(blake2b(os.fsencode(bundle), digest_size=8).hexdigest())


def _keep_only(fd: int) -> int:
    """Close everything but the standard streams and `fd`, which becomes 3."""
    if fd != 3:
        os.dup2(fd, 3, inheritable=False)
    kernel_process.close_range(4)
    return 3


def _refusal(error: Exception) -> dict[str, str]:
    if not isinstance(error, errors.OrlopError):
        if isinstance(error, OSError):
            error = errors.from_os(error, "cannot start a monitor")
        else:
            error = errors.InvalidArgument(f"cannot start a monitor: {error}")
    return {"error": error.message, "kind": type(error).__name__, "advice": error.advice}


def _answer(client: _socket.socket, said: dict[str, Any]) -> None:
    try:
        client.sendall(jsonio.dump_bytes(said) + b"\n")
    except OSError:
        pass  # it has gone: nobody is waiting


def monotonic_ns() -> int:
    """The clock of idleness."""
    import time

    return time.monotonic_ns()


def main() -> None:
    """Entry."""
    state_dir, path = sys.argv[1:3]
    os.chdir("/")
    os.umask(0o022)
    kernel_process.close_range(spawner.LISTEN_FD + 1)
    kernel_process.set_name("orlop-spawner")
    for number in range(1, 32):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for number in (_signal.SIGPIPE, _signal.SIGCHLD, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)  # SIGCHLD: monitors are nobody's zombies
    one = Spawner(state_dir, path)
    gc.collect()
    gc.freeze()
    one.run()


if __name__ == "__main__":
    main()
