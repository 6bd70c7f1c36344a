"""OCI runtimes by name: where they are, what they can do, how they are called on this machine.

A runtime's abilities are asked for once (`--version`) and kept in `STATE/cache` under the program's identity, so that
later runs cost a stat and a small read. Asking for a version is the one time anybody but a monitor starts the program.
On the hot path.
"""

from __future__ import annotations

import os

from ...base import errors, fsio, jsonio
from ...base.kernel import cgroups
from ...base.record import Record
from . import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .environment import HostFacts

PREFERRED = ("crun", "runc")
_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SHIM = "containerd-shim-"
_ASK_TIMEOUT_S = 10.0
_INSTALL = "apt install crun (or runc)"


class Runtime(Record):
    """An OCI runtime on this machine, or a containerd shim in the place of one.

    name: "crun", "runc", or what its file is called. version: as it says ("1.8.1"), "" when it says nothing.
    identity: changes whenever the program does (part of names in caches). hide_unified: every invocation must happen
    where an empty tmpfs covers /sys/fs/cgroup/unified (docs/architecture.md). seccomp_bpf: takes compiled filters by
    annotation. recursive_read_only: knows the mount option rro. shim: it is a shim (services.shim.foreign).
    """

    name: str
    path: str
    version: str = ""
    identity: str = ""
    hide_unified: bool = False
    seccomp_bpf: bool = False
    recursive_read_only: bool = False
    shim: bool = False

    def argv(self, state: str) -> list[str]:
        """How its command lines begin. state: Orlop's STATE; each runtime keeps its own state in a directory there."""
        if self.shim:
            return [self.path]
        return [self.path, "--root", self.state_root(state)]

    def state_root(self, state: str) -> str:
        """Where it keeps its state: STATE/crun, STATE/runc, …."""
        return f"{state}/{self.name}"


def cache_directory(state: str) -> str:
    """Where under STATE what can be found out again is kept: compiled filters, runtimes' versions."""
    return f"{state}/cache"


def find(
    name: str = "", state: str = "", configured: Mapping[str, str] | None = None, host: HostFacts | None = None
) -> Runtime:
    """The OCI runtime to use.

    name: "" for the best there is (crun, else runc), a name, an absolute path, or a shim's name as containerd has them
    ("io.containerd.runc.v2"; its program is found on the PATH) or its path. state: Orlop's STATE, where answers
    are cached ("" asks afresh). configured: name → path, from the configuration. host: the facts, where at hand.
    Raises RuntimeFailed when it is not there, with how to get it, and when it does not answer.
    """
    program = shim_program(name)
    path = _locate(program or name, configured or {})
    try:
        status = os.stat(path)
    except OSError as error:
        raise errors.RuntimeFailed(f"OCI runtime {path}: {error.strerror}", advice=_INSTALL) from error
    label = os.path.basename(path)
    if program or label.startswith(_SHIM):
        return Runtime(name or label, path, shim=True)
    identity = f"{label}-{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    kind, version = _version(path, identity, state)
    numbers = _numbers(version)
    is_crun = kind == "crun"
    return Runtime(
        name=label,
        path=path,
        version=version,
        identity=identity,
        hide_unified=is_crun and _unified_is_in_the_way(host),
        seccomp_bpf=is_crun and numbers >= (0, 17),
        recursive_read_only=(is_crun and numbers >= (1, 4)) or (kind == "runc" and numbers >= (1, 1)),
    )


def shim_program(name: str) -> str:
    """The program of a shim's name, "" when `name` is none: "io.containerd.runc.v2" → "containerd-shim-runc-v2".

    Source: containerd docs/runtime-v2.md: the last two words of the name are the shim's name and version.
    """
    words = name.split(".")
    if len(words) < 3 or "/" in name or not all(words) or words[-1][0] != "v" or not words[-1][1:].isdigit():
        return ""
    return f"{_SHIM}{words[-2]}-{words[-1]}"


def _locate(name: str, configured: Mapping[str, str]) -> str:
    if name.startswith("/"):
        return name
    if name in configured:
        return configured[name]
    if "/" in name or name.startswith((".", "-")):
        raise errors.RuntimeFailed(
            f"unknown OCI runtime {name!r}", advice="give a name such as crun, or an absolute path"
        )
    for candidate in (name,) if name else PREFERRED:
        for directory in _search_path():
            path = f"{directory}/{candidate}"
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    if name.startswith(_SHIM):
        raise errors.RuntimeFailed(f"no such shim: {name} is not on the PATH", advice="install it, or use crun")
    if name:
        raise errors.RuntimeFailed(f"unknown OCI runtime {name!r}: not on the PATH", advice=_INSTALL)
    raise errors.RuntimeFailed("no OCI runtime found: neither crun nor runc is installed", advice=_INSTALL)


def _search_path() -> tuple[str, ...]:
    own = [directory for directory in os.environ.get("PATH", "").split(":") if directory.startswith("/")]
    return (*own, *(directory for directory in _DIRECTORIES if directory not in own))


def _unified_is_in_the_way(host: HostFacts | None) -> bool:
    """Whether this is a hybrid machine whose cgroup2 holds a controller: crun then refuses to work."""
    if host is not None:
        return host.cgroup_mode == "hybrid" and bool(host.unified_controllers)
    layout = cgroups.detect()
    return layout.mode == "hybrid" and bool(layout.unified_controllers)


def _numbers(version: str) -> tuple[int, int]:
    return environment.kernel_version(version)


def _version(path: str, identity: str, state: str) -> tuple[str, str]:
    """(which program it is, its version), from the cache or from itself."""
    cached = f"{cache_directory(state)}/runtime-{identity}.json"
    if state:
        try:
            known = jsonio.loads(fsio.read_file(cached, 4096))
            if known["path"] == path:
                return str(known["kind"]), str(known["version"])
        except (OSError, ValueError, KeyError, TypeError, errors.OrlopError):
            pass
    kind, version = parse_version(ask_version(path))
    if state:
        try:
            fsio.make_dirs(cache_directory(state))
            data = jsonio.dump_bytes({"path": path, "kind": kind, "version": version})
            fsio.write_atomic(cached, data, durable=False)
        except OSError:
            pass  # only speed is lost
    return kind, version


def parse_version(text: str) -> tuple[str, str]:
    """(program, version) from the first line of `--version`: "crun version 1.8.1" → ("crun", "1.8.1")."""
    words = text.split("\n", 1)[0].split()
    if len(words) >= 3 and words[1] == "version":
        return words[0], words[2]
    return (words[0] if words else ""), ""


def ask_version(path: str) -> str:
    """What `PATH --version` prints (the first 64 KiB). Raises RuntimeFailed when it cannot be run or hangs."""
    import select
    import signal

    out, inner = os.pipe()  # close-on-exec, both
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, inner, 1),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ]
        try:
            pid = os.posix_spawn(path, [path, "--version"], os.environ, file_actions=actions)
        except OSError as error:
            raise errors.RuntimeFailed(f"OCI runtime {path}: {error.strerror}", advice=_INSTALL) from error
    except BaseException:
        os.close(out)
        raise
    finally:
        os.close(inner)
    text = b""
    finished = False
    try:
        poll = select.poll()
        poll.register(out, select.POLLIN)
        while len(text) < 1 << 16 and poll.poll(_ASK_TIMEOUT_S * 1000):
            chunk = os.read(out, 1 << 16)
            if not chunk:
                finished = True
                break
            text += chunk
    finally:
        os.close(out)
        if not finished:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not finished:
        raise errors.RuntimeFailed(f"OCI runtime {path} does not answer --version")
    if status != 0:
        raise errors.RuntimeFailed(f"OCI runtime {path} --version failed with status {status}")
    return text.decode("utf-8", "replace")
