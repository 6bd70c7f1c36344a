"""Runs a generated specification for real: a busybox root, a bundle, the OCI runtime, its cgroup removed afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orlop.base.kernel import cgroups
from orlop.base.oci.config import ImageConfig, RunConfig
from orlop.services.runtime import environment, rootview, runtimes, seccomp, spec
from orlop.services.runtime.options import RunOptions

ROOT_ID = "testroot0000"
_HIDE = (
    "mount --make-private /sys/fs/cgroup/unified && mount -t tmpfs -o size=1m,mode=755 tmpfs /sys/fs/cgroup/unified"
    ' && exec "$@"'
)
_BUSYBOX = "/usr/bin/busybox"
_APPLETS = (
    "cat chmod chown chroot cp cut date dd df echo env false grep head hostname id kill ls mkdir mknod mount nproc od "
    "ping printf ps pwd readlink rm seq sh sleep sort stat sync tail tee test touch tr true umount uname unshare wc "
    "xargs"
).split()

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbin:x:1:1::/bin:\n"
GROUP = "root:x:0:\napp:x:1001:\nwheel:x:10:app,other\nvideo:x:44:app\nextra:x:77:\n"


class Result:
    """What a container did: exit code, what it printed, what was generated for it."""

    def __init__(self, code: int, out: str, err: str, made: spec.Generated) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.made = made

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def __repr__(self) -> str:
        return f"Result({self.code}, {self.out!r}, {self.err!r})"


def require(name: str) -> None:
    """Skip unless this OCI runtime, busybox and root are here."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in (name, _BUSYBOX):
        if not shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            pytest.skip(f"{program} is not installed")


def make_root(path: str) -> str:
    """A small root file system: static busybox, /etc/passwd, /etc/group, the usual directories."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/app", "usr", "lib", "lib64"):
        os.makedirs(f"{path}/{name}")
    os.chmod(f"{path}/tmp", 0o1777)
    os.chown(f"{path}/home/app", 1000, 1001)
    shutil.copy(_BUSYBOX, f"{path}/bin/busybox")
    for applet in _APPLETS:
        os.link(f"{path}/bin/busybox", f"{path}/bin/{applet}")
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        with open(f"{path}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    return path


def image(**config: Any) -> ImageConfig:
    return ImageConfig("amd64", "linux", config=RunConfig(**config))


class Runner:
    """Runs containers on one root with one OCI runtime; state and cache lie in `directory`."""

    def __init__(self, name: str, directory: str, root: str) -> None:
        self.directory = directory
        self.root = root
        self.state = f"{directory}/state"
        self.cache = runtimes.cache_directory(self.state)
        self.runtime = runtimes.find(name, self.state)
        self.host = environment.facts()

    def generate(self, options: RunOptions, id: str = "", **config: Any) -> spec.Generated:
        return spec.generate(
            image(**config),
            options,
            self.host,
            rootview.over_directory(self.root),
            id=id or "0123456789abcdef",
            root_id=ROOT_ID,
            rootfs=self.root,
            init=environment.find_init() if options.init else "",
        )

    def command(self, *args: str) -> list[str]:
        """The runtime's command line, in a mount namespace of its own where it must not see cgroup2."""
        os.makedirs(self.runtime.state_root(self.state), mode=0o700, exist_ok=True)
        argv = [*self.runtime.argv(self.state), *args]
        if not self.runtime.hide_unified:
            return argv
        return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _HIDE, "sh", *argv]

    def call(self, *args: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args), capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )

    def _bundle(self, options: RunOptions, change: Callable[[dict[str, Any]], None] | None, **config: Any) -> Any:
        id = f"t{uuid.uuid4().hex[:15]}"
        made = self.generate(options, id, **config)
        if change is not None:
            change(made.spec)
        found = seccomp.compile(made.seccomp, self.runtime, self.cache)
        bundle = f"{self.directory}/{id}"
        os.mkdir(bundle)
        with open(f"{bundle}/config.json", "wb") as file:
            file.write(spec.dump(made.spec, found.section, found.bpf))
        return id, bundle, made, found

    def run(
        self,
        *args: str,
        timeout: float = 20,
        change: Callable[[dict[str, Any]], None] | None = None,
        image_config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """Run a container to its end."""
        id, bundle, made, _ = self._bundle(RunOptions(args=args, **options), change, **(image_config or {}))
        out, err = f"{bundle}/out", f"{bundle}/err"
        try:
            with open(out, "wb") as stdout, open(err, "wb") as stderr:
                done = subprocess.run(
                    self.command("run", "--bundle", bundle, id),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    timeout=timeout,
                    check=False,
                )
            return Result(done.returncode, _text(out), _text(err), made)
        finally:
            self._clean(id, made)

    @contextmanager
    def running(self, *args: str, **options: Any) -> Iterator[tuple[str, int, spec.Generated]]:
        """A container that runs in the background: (id, pid, what was generated). Its filter is harvested."""
        id, bundle, made, found = self._bundle(RunOptions(args=args or ("sleep", "60"), **options), None)
        try:
            with open(f"{bundle}/out", "wb") as stdout:
                subprocess.run(
                    self.command("create", "--bundle", bundle, "--pid-file", f"{bundle}/pid", id),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stdout,
                    timeout=20,
                    check=True,
                )
            seccomp.harvest(found, self.cache, f"{self.runtime.state_root(self.state)}/{id}")
            started = self.call("start", id)
            assert started.returncode == 0, started
            yield id, int(_text(f"{bundle}/pid")), made
        finally:
            self._clean(id, made)

    def _clean(self, id: str, made: spec.Generated) -> None:
        self.call("delete", "--force", id)
        path = made.spec["linux"]["cgroupsPath"]
        cgroup = cgroups.at(path)
        cgroups.kill_all(cgroup)
        cgroups.remove(cgroup)


def remove_cgroup_parents() -> None:
    """Remove the parents of the test containers' cgroups, where nobody else uses them."""
    for path in (f"/orlop/{ROOT_ID}", "/orlop"):
        for directory in cgroups.at(path).directories():
            try:
                os.rmdir(directory)
            except OSError:
                pass


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
