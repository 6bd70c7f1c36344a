"""Asking for monitors: the client of the spawner, the one process of a state directory that forks them.

There is one spawner per state directory and per mount and network namespace of who asks: a monitor lives where it was
asked from. It is started when it is missing and goes when it is idle (`spawnermain.py`). May import only the
interpreter's cheap modules: `run` comes through here.
"""

from __future__ import annotations

import _socket
import os

from ...base import errors, fsio, jsonio
from ...base.cancel import NEVER
from ...base.record import Record
from ...base.ttrpc import unixsock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.cancel import Cancel

PROTOCOL = 1
"""Part of the socket's name: a spawner of another version of Orlop is left alone."""
LISTEN_FD = 3
_TRIES = 3
_MAX_REPLY_BYTES = 1 << 16


class Spawned(Record):
    """A monitor that serves. address: of its task API ("unix://…"); pid: its own."""

    address: str
    pid: int


class Spawner:
    """The spawner of one state directory, for who calls now.

    state_dir: STATE, absolute. python_argv: the interpreter and its flags, such as (sys.executable, "-I", "-S", "-E").
    """

    def __init__(self, state_dir: str, python_argv: Sequence[str]) -> None:
        self.state_dir = state_dir
        self.python_argv = tuple(python_argv)

    def spawn(self, bundle: str, *, recover: bool = False, cancel: Cancel = NEVER) -> Spawned:
        """Start a monitor over `bundle` (absolute; its monitor.json is written) and wait until it serves.

        recover: take over what a dead monitor left there. Raises AlreadyExists when a monitor lives there already,
        RuntimeFailed when it could not start, and what the bundle's monitor.json is wrong with.
        """
        return self._spawned(self._ask({"op": "monitor", "bundle": bundle, "recover": recover}, cancel))

    def stop(self) -> None:
        """End the spawner, if there is one. Monitors live on."""
        try:
            sock = unixsock.connect(socket_path(self.state_dir))
        except (FileNotFoundError, ConnectionError):
            return
        try:
            sock.sendall(b'{"op":"stop"}\n')
            while sock.recv(4096):
                pass
        except OSError:
            pass
        finally:
            sock.close()

    def _ask(self, request: dict[str, object], cancel: Cancel) -> dict[str, object]:
        line = jsonio.dump_bytes(request) + b"\n"
        for _ in range(_TRIES):
            sock = ensure(self.state_dir, self.python_argv, cancel)
            try:
                with cancel.closing(lambda sock=sock: sock.shutdown(_socket.SHUT_RDWR)):  # type: ignore[misc]
                    reply = _converse(sock, line, cancel)
            finally:
                sock.close()
            cancel.check()
            if reply:
                return _parse(reply)
            # It went idle between our connecting and our asking, or died over it: a new one is asked.
        raise errors.RuntimeFailed(
            f"the spawner of {self.state_dir} ended without an answer", advice=f"see {log_path(self.state_dir)}"
        )

    @staticmethod
    def _spawned(said: dict[str, object]) -> Spawned:
        if "error" in said:
            kind = getattr(errors, str(said.get("kind")), errors.RuntimeFailed)
            if not (isinstance(kind, type) and issubclass(kind, errors.OrlopError)):
                kind = errors.RuntimeFailed
            raise kind(str(said["error"]), advice=str(said.get("advice", "")))
        return Spawned(str(said["address"]), int(str(said["pid"])))


def ensure(state_dir: str, python_argv: Sequence[str], cancel: Cancel = NEVER) -> _socket.socket:
    """A socket connected to the spawner of `state_dir`, which is started when there is none.

    Two who call at once start one. Raises RuntimeFailed when the interpreter cannot be run.
    """
    path = socket_path(state_dir)
    try:
        return unixsock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        fsio.make_dirs(state_dir)
    with fsio.lock(f"{path}.lock", cancel=None if cancel is NEVER else cancel):
        try:
            return unixsock.connect(path)  # another was quicker
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            os.unlink(path)  # its spawner was killed
        # We listen, it inherits: whoever connects from here on waits in the backlog for it.
        listener = unixsock.listen(path)
        try:
            _start(state_dir, python_argv, listener)
            return unixsock.connect(path)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            listener.close()


def socket_path(state_dir: str) -> str:
    """Where the spawner listens: its name carries the inode numbers of our mount and network namespaces."""
    mnt, net = (os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("mnt", "net"))
    return f"{state_dir}/spawner-{PROTOCOL}-{mnt}-{net}.sock"


def log_path(state_dir: str) -> str:
    """What spawners print when they fail."""
    return f"{state_dir}/spawner.log"


def _start(state_dir: str, python_argv: Sequence[str], listener: _socket.socket) -> None:
    import fcntl

    entry = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spawnermain.py")
    argv = [*python_argv, entry, state_dir, socket_path(state_dir)]
    # Above the numbers the actions below write to, which they would overwrite.
    held = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, 16)
    try:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_OPEN, 1, log_path(state_dir), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, held, LISTEN_FD),
        ]
        pid = os.posix_spawn(argv[0], argv, _environment(), file_actions=actions)
    except OSError as error:
        raise errors.RuntimeFailed(f"cannot run {argv[0]} for the spawner: {error.strerror}") from error
    finally:
        os.close(held)
    try:
        os.waitpid(pid, 0)  # it forks at once and ends, so that the spawner is nobody's child
    except ChildProcessError:
        pass  # the program we are part of collects its children itself


def _environment() -> dict[str, str]:
    """Of the caller's environment only what a long-lived helper may know: no secret of one command."""
    kept = {key: value for key, value in os.environ.items() if key == "PATH" or key.startswith("ORLOP_")}
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return kept


def _converse(sock: _socket.socket, line: bytes, cancel: Cancel) -> bytes:
    """Send a line, read one; b"" when the other side closes first."""
    sock.settimeout(cancel.remaining())
    try:
        sock.sendall(line)
        reply = b""
        while not reply.endswith(b"\n") and len(reply) < _MAX_REPLY_BYTES:
            chunk = sock.recv(_MAX_REPLY_BYTES)
            if not chunk:
                return b""
            reply += chunk
    except TimeoutError:
        cancel.check()
        raise errors.DeadlineExceeded("the spawner did not answer in time") from None
    except ConnectionError:
        return b""
    return reply


def _parse(reply: bytes) -> dict[str, object]:
    try:
        said = jsonio.loads(reply)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise errors.RuntimeFailed("the spawner's answer is not understood")
    return said
