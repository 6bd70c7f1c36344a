"""The engines that are measured: one small class each, with the same handful of verbs.

Each keeps all it stores under one directory of its own, and starts the daemons it needs. A new peer is a new class in
PEERS. `argv` methods return command lines, so that the measuring side runs all engines in the same way.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 180

Enter = Callable[[], None]
"""Called in the child before exec: puts it into the mount namespace its engine shall see."""


def run_to_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child; kill it after LIMIT_S. (`Popen.wait(timeout)` sleeps up to 50 ms between two looks.)"""
    descriptor = os.pidfd_open(process.pid)
    try:
        if not select.select([descriptor], [], [], LIMIT_S)[0]:
            process.kill()
    finally:
        os.close(descriptor)


class Peer:
    """One engine with Docker's grammar; one that has another overrides more. `setup` first, `teardown` last."""

    name = ""
    needs: tuple[str, ...] = ()
    plain_v1 = True
    """Whether the engine needs a machine without a hybrid cgroup layout."""

    def __init__(self, directory: Path, state: Path, host: str, enter: Enter) -> None:
        self.directory, self.state, self.host = directory, state, host
        self.enter = enter if self.plain_v1 else lambda: None
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environ = {**os.environ, "HOME": str(directory), "ORLOP_BENCH_PEER": self.name}

    def setup(self) -> None:
        """Make directories, write configuration, start daemons. Raises RuntimeError when something is missing."""
        if missing := [command for command in self.needs if shutil.which(command) is None]:
            raise RuntimeError(f"{', '.join(missing)} not installed")
        self.directory.mkdir(parents=True)
        self.state.mkdir(parents=True)

    def teardown(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def command(self) -> list[str]:
        """The program."""
        return [self.name]

    def cli(self, *words: str) -> list[str]:
        """The program with the options that bind it to our directories, and a command."""
        return [*self.command(), *words]

    def version(self) -> list[str]:
        return [*self.command(), "--version"]

    def pull(self, image: str) -> list[str]:
        return self.cli("pull", "-q", image)

    def run(self, image: str, name: str, *command: str) -> list[str]:
        return self.cli("run", "--rm", "--network", "none", "--name", name, image, *command)

    def start(self, image: str, name: str, *command: str) -> list[str]:
        return self.cli("run", "-d", "--network", "none", "--name", name, image, *command)

    def exec(self, name: str, *command: str) -> list[str]:
        return self.cli("exec", name, *command)

    def remove(self, name: str) -> list[str]:
        return self.cli("rm", "-f", name)

    def forget(self, image: str) -> list[list[str]]:
        """Command lines after which nothing of the image is stored."""
        return [self.cli("rmi", "-f", image)]

    def spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start a command as this engine's: its environment, its mount namespace, its output into a file.

        Not a pipe: a container that goes on running would hold it open.
        """
        with (self.directory / "output.log").open("wb") as log:
            return subprocess.Popen(
                argv,
                env=self.environ,
                preexec_fn=self.enter,  # for every engine, as it makes starting a process dearer
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self, process: subprocess.Popen[bytes], argv: list[str]) -> str:
        """What an ended command printed. Raises RuntimeError when it failed."""
        text = (self.directory / "output.log").read_text(errors="replace").strip()
        if (code := process.wait()) != 0:
            raise RuntimeError(f"`{' '.join(argv)}` exited with {code}: {text[-250:]}")
        return text

    def call(self, argv: list[str], must_succeed: bool = True) -> str:
        """Run a command that is not measured; returns what it printed. Raises RuntimeError when it fails."""
        process = self.spawn(argv)
        run_to_end(process)
        return self.check(process, argv) if must_succeed else ""

    def daemon(self, argv: list[str], probe: list[str]) -> None:
        """Start a daemon and wait until the probe succeeds. Raises RuntimeError."""
        process = self.spawn(argv)
        (self.directory / "output.log").rename(self.directory / "daemon.log")
        self.daemons.append(process)
        for _ in range(150):
            try:
                self.call(probe)
                return
            except RuntimeError:
                time.sleep(0.1)
        raise RuntimeError(f"{argv[0]} does not start: {(self.directory / 'daemon.log').read_text()[-500:]}")


class Orlop(Peer):
    name = "orlop"
    needs = ("crun",)
    plain_v1 = False  # sees the machine as it is, and finds its own way

    def command(self) -> list[str]:
        return [str(ROOT / ".venv/bin/orlop")]

    def cli(self, *words: str) -> list[str]:
        return [*self.command(), "--root", str(self.directory / "root"), "--state", str(self.state / "s"), *words]

    def version(self) -> list[str]:
        return [*self.command(), "version"]

    def forget(self, image: str) -> list[list[str]]:
        return [self.cli("rmi", "-f", image), self.cli("gc", "-q")]


class Podman(Peer):
    name = "podman"
    needs = ("podman", "crun", "conmon")
    runtime = "crun"

    def setup(self) -> None:
        super().setup()
        # Without CAP_SYS_RESOURCE root may not raise limits, and podman's defaults fail.
        (self.directory / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\nlog_driver = "k8s-file"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        (self.directory / "registries.conf").write_text(f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n')
        self.environ["CONTAINERS_CONF"] = str(self.directory / "containers.conf")
        self.environ["CONTAINERS_REGISTRIES_CONF"] = str(self.directory / "registries.conf")

    def cli(self, *words: str) -> list[str]:
        where = ["--root", f"{self.directory}/root", "--runroot", f"{self.state}/run", "--tmpdir", f"{self.state}/tmp"]
        return [*self.command(), *where, "--storage-driver", "overlay", "--runtime", self.runtime, *words]

    def remove(self, name: str) -> list[str]:
        return self.cli("rm", "-f", "-t", "0", name)


class Docker(Peer):
    name = "docker"
    needs = ("dockerd", "containerd", "runc", "docker")

    def setup(self) -> None:
        super().setup()
        self.environ["DOCKER_CONFIG"] = str(self.directory / "config")
        (self.directory / "daemon.json").write_text("{}")
        where = ["--config-file", f"{self.directory}/daemon.json", "--data-root", f"{self.directory}/root"]
        where += [
            "--exec-root",
            f"{self.state}/x",
            "--pidfile",
            f"{self.state}/pid",
            "--host",
            f"unix://{self.state}/d.sock",
        ]
        network = ["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        self.daemon(
            ["dockerd", *where, *network, "--storage-driver", "overlay2", "--log-level", "error"], self.cli("info")
        )

    def command(self) -> list[str]:
        # Debian's client, which is of the engine's version; a newer one may stand before it in PATH.
        return ["/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"]

    def cli(self, *words: str) -> list[str]:
        return [*self.command(), "--host", f"unix://{self.state}/d.sock", *words]


class Ctr(Peer):
    name = "ctr"
    needs = ("containerd", "ctr", "runc")

    def setup(self) -> None:
        super().setup()
        config = self.directory / "config.toml"
        config.write_text(
            'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'root = "{self.directory}/root"\nstate = "{self.state}/r"\n[grpc]\naddress = "{self.state}/c.sock"\n'
        )
        self.daemon(["containerd", "--config", str(config), "--log-level", "error"], self.cli("version"))

    def cli(self, *words: str) -> list[str]:
        return ["ctr", "--address", f"{self.state}/c.sock", *words]

    def pull(self, image: str) -> list[str]:
        return self.cli("images", "pull", "--plain-http", image)

    def run(self, image: str, name: str, *command: str) -> list[str]:
        return self.cli("run", "--rm", image, name, *command)  # a network namespace with nothing in it

    def start(self, image: str, name: str, *command: str) -> list[str]:
        return self.cli("run", "-d", image, name, *command)

    def exec(self, name: str, *command: str) -> list[str]:
        return self.cli("tasks", "exec", "--exec-id", f"e{time.monotonic_ns()}", name, *command)

    def remove(self, name: str) -> list[str]:
        steps = f'"$@" tasks kill -s KILL {name}; "$@" tasks rm -f {name}; "$@" containers rm {name}'
        return ["sh", "-c", steps, "sh", *self.cli()]

    def forget(self, image: str) -> list[list[str]]:
        return [self.cli("images", "rm", "--sync", image)]


PEERS: tuple[type[Peer], ...] = (Orlop, Podman, Docker, Ctr)
