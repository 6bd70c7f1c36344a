"""`containerd-shim-orlop-v2`: the command by which containerd starts Orlop's monitor as a shim, and cleans up after it.

    containerd-shim-orlop-v2 -namespace NS -id ID -address SOCKET -publish-binary PROGRAM [-bundle DIR] [-debug] start
    … delete

`start`, in the bundle, leaves a shim running and prints its ttrpc address on standard output. `delete` ends and removes
what a shim that has died left in the bundle, and prints a DeleteResponse (protobuf). Source: containerd
docs/runtime-v2.md, "Shim"; the flags are those of Go: one or two dashes, `-flag value` or `-flag=value`. Entered by the
script of that name (scripts/).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum
import os
import select
import sys
from _blake2 import blake2b

from ...base import errors, fsio, jsonio
from ...base.kernel import cgroups
from ...base.kernel import process as kernel_process
from ...base.record import Record
from ...base.ttrpc import task_v2
from ...base.ttrpc.wire import AnyMessage
from . import exitfile
from .containerd_task import ContainerdTask, configuration, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

NAME = "containerd-shim-orlop-v2"
STATE = "/run/orlop/shim"
"""Sockets and the OCI runtimes' own state (ORLOP_SHIM_STATE sets it)."""
SHIM = "shim.json"
"""In the bundle: {"pid", "start_ticks"} of the shim."""
LOG = "log"
"""In the bundle: a FIFO which containerd reads."""
RUNTIMES = ("crun", "runc")
_SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_MAX_OPTIONS_BYTES = 1 << 20
_KILL_S = 5.0
_VALUED = ("namespace", "id", "address", "publish-binary", "bundle", "socket")
_SWITCHES = ("debug", "v", "version")


class Arguments(Record):
    """The command line. action: "start", "delete", "" or "version"."""

    action: str = ""
    namespace: str = ""
    id: str = ""
    address: str = ""
    publish_binary: str = ""
    bundle: str = ""
    debug: bool = False


def parse(words: Sequence[str]) -> Arguments:
    """The arguments as Go's flag package reads them. Raises InvalidArgument."""
    said: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        word = rest.pop(0)
        name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in _SWITCHES:
            said[name] = value if has_value else "true"
        elif name not in _VALUED:
            raise errors.InvalidArgument(f"unknown flag {word}")
        elif has_value or rest:
            said[name] = value if has_value else rest.pop(0)
        else:
            raise errors.InvalidArgument(f"flag {word} needs a value")
    if "v" in said or "version" in said:
        return Arguments("version")
    action = rest[0] if rest else ""
    if action not in ("start", "delete"):
        raise errors.InvalidArgument(f"unknown action {action!r}; it is start or delete")
    for name in ("namespace", "id"):
        value = said.get(name, "")
        if not value or "/" in value or value in (".", ".."):
            raise errors.InvalidArgument(f"-{name} {value!r} is not a name")
    return Arguments(
        action,
        said["namespace"],
        said["id"],
        said.get("address", ""),
        said.get("publish-binary", ""),
        os.path.abspath(said.get("bundle") or "."),
        said.get("debug") == "true",
    )


class Place(Record):
    """Where one shim keeps what is not in its bundle: directory of its containerd's tasks, and its sockets."""

    directory: str
    address: str
    attach: str

    @classmethod
    def of(cls, arguments: Arguments) -> Place:
        """Short names: neither depends on how deep the bundle lies."""
        state = os.environ.get("ORLOP_SHIM_STATE") or STATE
        directory = f"{state}/{_short(arguments.address)}"
        name = f"{directory}/s/{_short(f'{arguments.namespace}/{arguments.id}')}"
        return cls(directory, f"{name}.sock", f"{name}.attach")


def start(arguments: Arguments) -> str:
    """Start a shim in the background. Returns its address. Raises OrlopError, OSError."""
    bundle = os.path.realpath(arguments.bundle)
    place = Place.of(arguments)
    layout = cgroups.detect()
    configure = _configurer(arguments, place, layout)
    fsio.make_dirs(f"{place.directory}/s")
    options = options_of(_options_on_stdin())
    fsio.write_atomic(f"{bundle}/monitor.json", jsonio.dump_bytes(configure(options)), durable=False)
    ready, tell = os.pipe2(os.O_CLOEXEC)
    if not os.fork():
        os.close(ready)
        _become_shim(arguments, bundle, place, layout, configure, tell)
    os.close(tell)
    with os.fdopen(ready, "rb") as file:
        answer = os.fsdecode(file.read())
    if not answer.startswith("unix://"):
        raise errors.RuntimeFailed(answer or "the shim ended before it served")
    return answer


def _become_shim(
    arguments: Arguments,
    bundle: str,
    place: Place,
    layout: cgroups.Layout,
    configure: Callable[[task_v2.RuncOptions], dict[str, Any]],
    tell: int,
) -> NoReturn:
    """In the child: serve until the task is deleted."""
    status = 1
    try:
        os.setsid()
        os.umask(0o022)
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(number, _signal.SIG_DFL)
        os.dup2(tell, 3, inheritable=False)
        kernel_process.close_range(4)
        _redirect(bundle)
        try:
            one, lock = _prepare(arguments, bundle, place, layout, configure)
        except (errors.OrlopError, OSError, ValueError) as error:
            os.write(3, _sentence(error).encode("utf-8", "replace"))
            os._exit(1)
        os.write(3, os.fsencode(f"unix://{place.address}"))
        os.close(3)
        one.loop.run()
        status = 0
        lock.release()
    except BaseException:  # noqa: BLE001 - the last frame of the process: nothing may run what comes after the fork
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _prepare(
    arguments: Arguments,
    bundle: str,
    place: Place,
    layout: cgroups.Layout,
    configure: Callable[[task_v2.RuncOptions], dict[str, Any]],
) -> tuple[ContainerdTask, fsio.Lock]:
    """A monitor over the bundle, in this process, serving. Raises AlreadyExists when another one lives there."""
    try:
        lock = fsio.lock(f"{bundle}/{exitfile.LOCK}", wait=False)
    except errors.Unavailable:
        raise errors.AlreadyExists(f"a shim lives in {bundle} already") from None
    try:
        os.chdir(bundle)
        kernel_process.set_subreaper()
        kernel_process.set_name("orlop-shim")
        _allow_to_be_killed_before_containerd()
        pid = os.getpid()
        said = {"pid": pid, "start_ticks": kernel_process.start_ticks(pid)}
        fsio.write_atomic(f"{bundle}/{SHIM}", jsonio.dump_bytes(said), durable=False)
        publishing = (
            arguments.namespace,
            os.environ.get("TTRPC_ADDRESS", ""),
            arguments.publish_binary,
            arguments.address,
        )
        one = ContainerdTask(bundle, place.address, place.attach, layout, lock.release, configure, publishing)
    except BaseException:
        lock.release()
        raise
    return one, lock


def _redirect(bundle: str) -> None:
    """Standard streams: nothing, nothing, and the log which containerd reads; never one of the caller's."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        # Both ends, so that neither the open nor a write waits for containerd, nor fails while it is being restarted.
        log = os.open(f"{bundle}/{LOG}", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        log = null
    for fd, number in ((null, 0), (null, 1), (log, 2)):
        os.dup2(fd, number)
    for fd in {null, log}:
        os.close(fd)


def _allow_to_be_killed_before_containerd() -> None:
    """Short of memory, the kernel shall take a shim before containerd, as containerd's own shims have it."""
    try:
        score = int(fsio.read_file("/proc/self/oom_score_adj", 64))
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % min(score + 1, 1000))
    except (OSError, ValueError):
        pass  # a comfort only


def delete(arguments: Arguments) -> task_v2.DeleteResponse:
    """End and remove what a dead shim has left of its task. Raises OrlopError, OSError."""
    bundle = os.path.realpath(arguments.bundle)
    place = Place.of(arguments)
    _end_shim(bundle)
    if not os.path.exists(f"{bundle}/monitor.json"):
        return task_v2.DeleteResponse(0, 128 + _signal.SIGKILL)
    layout = cgroups.detect()
    fsio.make_dirs(f"{place.directory}/s")
    kernel_process.set_subreaper()
    done: list[task_v2.DeleteResponse] = []
    configure = _configurer(arguments, place, layout)
    one = ContainerdTask(
        bundle, place.address, place.attach, layout, lambda: None, configure, (arguments.namespace, "", "", "")
    )
    one.recover()

    def cleaned(response: task_v2.DeleteResponse) -> None:
        done.append(response)
        one.loop.stop()

    one.clean(cleaned)
    if not done:
        one.loop.run()
    for path in (place.address, place.attach, f"{bundle}/{exitfile.ADDRESS}", f"{bundle}/{SHIM}"):
        exitfile.unlink_quietly(path)
    return done[0]


def _end_shim(bundle: str) -> None:
    """End the shim of this bundle if it lives: containerd has lost it, and it must not go on making a container."""
    try:
        said = jsonio.loads(fsio.read_file(f"{bundle}/{SHIM}", 1 << 16))
        pid, ticks = int(said["pid"]), int(said["start_ticks"])
        fd = kernel_process.pidfd_open(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return
    try:
        if kernel_process.is_alive(pid, ticks):
            kernel_process.pidfd_send_signal(fd, _signal.SIGKILL)
            select.select([fd], [], [], _KILL_S)
    except ProcessLookupError:
        pass  # it has just gone
    finally:
        os.close(fd)


def _configurer(
    arguments: Arguments, place: Place, layout: cgroups.Layout
) -> Callable[[task_v2.RuncOptions], dict[str, Any]]:
    hybrid = layout.mode == "hybrid" and bool(layout.unified_controllers)

    def configure(options: task_v2.RuncOptions) -> dict[str, Any]:
        return configuration(arguments.namespace, arguments.id, options, find_runtime, place.directory, hybrid)

    return configure


def find_runtime(name: str) -> str:
    """The path of an OCI runtime: of this name or path; for "" that of the first of RUNTIMES. Raises RuntimeFailed."""
    if name.startswith("/"):
        return name
    directories = dict.fromkeys([*filter(None, os.environ.get("PATH", "").split(":")), *_SEARCHED])
    for wanted in (name,) if name else RUNTIMES:
        for directory in directories:
            path = f"{directory}/{wanted}"
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    raise errors.RuntimeFailed(f"no OCI runtime: {name or ' or '.join(RUNTIMES)} is not in PATH")


def _options_on_stdin() -> AnyMessage | None:
    """The runtime options, which containerd writes to `start` as an Any; None when there are none."""
    if os.isatty(0):
        return None
    data = b""
    while chunk := os.read(0, _MAX_OPTIONS_BYTES):
        data += chunk
        if len(data) > _MAX_OPTIONS_BYTES:
            raise errors.InvalidArgument("the runtime options are larger than 1 MiB")
    return AnyMessage.decode(data) if data else None


def _short(text: str) -> str:
    return str(blake2b(os.fsencode(text), digest_size=6).hexdigest())


def _sentence(error: Exception) -> str:
    if isinstance(error, errors.OrlopError):
        return error.message
    if isinstance(error, OSError):
        return errors.from_os(error, "cannot start the shim").message
    return f"cannot start the shim: {error}"


def main(words: Sequence[str]) -> int:
    """Entry. Returns the exit status; a failure is one line on standard error."""
    try:
        arguments = parse(words)
        if arguments.action == "version":
            from ... import __version__

            out = f"{NAME}:\n  Version: {__version__}\n".encode()
        elif arguments.action == "start":
            out = os.fsencode(start(arguments))
        else:
            out = delete(arguments).encode()
        os.write(1, out)
    except (errors.OrlopError, OSError, ValueError) as error:
        os.write(2, f"{NAME}: {_sentence(error)}\n".encode("utf-8", "replace"))
        return 1
    return 0
