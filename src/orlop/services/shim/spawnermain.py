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
import select
import time
from _blake2 import blake2b

from orlop.base import errors, fsio, jsonio
from orlop.base.kernel import cgroups
from orlop.base.kernel import process as kernel_process
from orlop.services.shim import exitfile, monitor, spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

IDLE_S = 60.0
"""How long a spawner waits for the next request (ORLOP_SPAWNER_IDLE_S sets it)."""
_LOOK_S = 1.0
_REQUEST_TIMEOUT_S = 10.0
_MAX_REQUEST_BYTES = 1 << 16


def serve(state_dir: str, path: str) -> None:
    """Fork a child for every connection, until nobody has come for IDLE_S or the socket's name is gone.

    All that is done before the fork is done again and again in the process whose memory the monitors share, and each
    page it writes is a page they no longer do: the request is read in the child.
    """
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, spawner.LISTEN_FD)
    listener.setblocking(False)
    __import__("fcntl")  # what monitors load when they need it is loaded here, once for all of them
    layout = cgroups.detect()
    idle_s = float(os.environ.get("ORLOP_SPAWNER_IDLE_S") or IDLE_S)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    gc.collect()
    gc.freeze()
    last = time.monotonic()
    while True:
        if poll.poll(min(_LOOK_S, idle_s) * 1000):
            while _fork_for_next(listener, state_dir, path, layout):
                pass
            last = time.monotonic()
        elif not os.path.lexists(path):
            return
        elif time.monotonic() - last >= idle_s and _withdraw(path):
            # Who connected before the name was gone is still served; who asks from here on starts another spawner.
            while _fork_for_next(listener, state_dir, path, layout):
                pass
            return


def _fork_for_next(listener: _socket.socket, state_dir: str, path: str, layout: cgroups.Layout) -> bool:
    """Accept one connection and fork its child; False when there is none."""
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
    except OSError:
        return False
    try:
        child = not os.fork()
    except OSError:
        child = False  # no more processes: the client sees its connection closed
    if child:
        _become_monitor(fd, state_dir, path, layout)
    os.close(fd)
    return True


def _withdraw(path: str) -> bool:
    """Take the socket's name away, unless somebody is about to ask."""
    try:
        lock = fsio.lock(f"{path}.lock", wait=False)
    except errors.Unavailable:
        return False
    with lock:
        exitfile.unlink_quietly(path)
    return True


def _become_monitor(fd: int, state_dir: str, path: str, layout: cgroups.Layout) -> NoReturn:
    """In the child: take the request, be a monitor, answer once it serves, live until its task is gone."""
    status = 1
    try:
        os.setsid()
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, _keep_only(fd))
        client.settimeout(_REQUEST_TIMEOUT_S)
        request = _request(client)
        if request is None:
            os._exit(0)
        try:
            if request.get("op") == "stop":
                exitfile.unlink_quietly(path)
                os.kill(os.getppid(), _signal.SIGTERM)
                os._exit(0)
            if request.get("op") != "monitor":
                raise errors.InvalidArgument(f"the spawner does not know {request.get('op')!r}")
            bundle = str(request.get("bundle"))
            one, lock = _prepare(state_dir, bundle, bool(request.get("recover")), layout)
        except (errors.OrlopError, OSError, ValueError) as error:
            _answer(client, _refusal(error))
            os._exit(status)
        _answer(client, {"address": f"unix://{one.address}", "pid": os.getpid()})
        client.close()
        one.loop.run()
        status = 0
        lock.release()
    except BaseException:  # noqa: BLE001 - the last frame of the process: nothing may run the spawner's code after
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _request(client: _socket.socket) -> dict[str, Any] | None:
    """The line that the client sent; None when it went without one. Raises InvalidArgument for what is no request."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            chunk = client.recv(_MAX_REQUEST_BYTES)
        except OSError:
            return None
        line += chunk
        if not chunk or len(line) > _MAX_REQUEST_BYTES:
            return None
    try:
        said = jsonio.loads(line)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}


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
    try:
        kernel_process.set_subreaper()
        kernel_process.set_name("orlop-monitor")
        fsio.make_dirs(f"{state_dir}/s")
        name = f"{state_dir}/s/{_short_name(bundle)}"
        one = _kind(bundle)(bundle, f"{name}.sock", f"{name}.attach", layout, lock.release)
        if recover:
            one.recover()
    except BaseException:
        lock.release()
        raise
    return one, lock


def _kind(bundle: str) -> type[monitor.Monitor]:
    """The monitor's class: another one when the runtime is itself a shim."""
    if "/containerd-shim-" not in monitor.Config.read(bundle).runtime[0]:
        return monitor.Monitor
    from orlop.services.shim import foreign

    return foreign.ForeignMonitor


def _short_name(bundle: str) -> str:
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
    serve(state_dir, path)


if __name__ == "__main__":
    main()
