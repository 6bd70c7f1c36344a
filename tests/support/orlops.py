"""An engine of one's own for tests: a root and a state directory, the CLI on them, busybox as an image, a registry.

Everything a test starts through it is stopped and removed when the context ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from orlop import Engine

BUSYBOX = "/usr/bin/busybox"
IMAGE = "busybox:test"
ORLOP = [sys.executable, "-m", "orlop"]
TIMEOUT_S = 60


class Orlop:
    """A root with its CLI. `run("ps", "-a")` runs a command line; `engine` is the same in this process."""

    def __init__(self, directory: Path, snapshotter: str = "") -> None:
        self.snapshotter = snapshotter
        self.root = directory / "root"
        self.state = Path("/run") / f"orlop-test-{uuid.uuid4().hex[:8]}"
        self.env = {
            **os.environ,
            "ORLOP_ROOT": str(self.root),
            "ORLOP_STATE": str(self.state),
            "ORLOP_SNAPSHOTTER": snapshotter,
            "DOCKER_CONFIG": str(directory / "docker"),
        }
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine.open(root=str(self.root), state=str(self.state), snapshotter=self.snapshotter)
        return self._engine

    def run(
        self, *argv: str, code: int | None = 0, stdin: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command line; fails the test when its exit code is another than `code` (None: any will do)."""
        done = subprocess.run(
            [*ORLOP, *argv],
            env={**self.env, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        if code is not None and done.returncode != code:
            said = f"{done.stdout!r}\n{done.stderr.decode()}"
            raise AssertionError(f"orlop {' '.join(argv)}: exit {done.returncode}, wanted {code}\n{said}")
        return done

    def out(self, *argv: str, code: int = 0, stdin: bytes | None = None) -> str:
        """What a command line prints, without the blanks around it."""
        return self.run(*argv, code=code, stdin=stdin).stdout.decode().strip()

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command line and leave it running."""
        return subprocess.Popen(
            [*ORLOP, *argv], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def import_busybox(self, name: str = IMAGE) -> str:
        """Make the busybox image; returns its name."""
        self.engine.images.import_(BytesIO(rootfs_tar()), name, changes=['CMD ["sh"]'])
        return name

    def close(self) -> None:
        try:
            for container in self.engine.containers.list(all=True):
                container.remove(force=True)
            self.engine.system.gc()
        finally:
            self.engine.system.stop_helpers()
            self.engine.close()
            self._engine = None
            shutil.rmtree(self.state, ignore_errors=True)


@contextlib.contextmanager
def opened(directory: Path, snapshotter: str = "") -> Iterator[Orlop]:
    """An engine on a root in this directory; snapshotter "" is the default one."""
    orlop = Orlop(directory, snapshotter)
    try:
        yield orlop
    finally:
        orlop.close()


def rootfs_tar(extra: dict[str, bytes] | None = None) -> bytes:
    """A root file system: busybox with all its names, users, a file that is not executable, one that is rubbish."""
    out = BytesIO()
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, data: bytes | None = None, mode: int = 0o755, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.mtime = 1_700_000_000
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            tar.addfile(info, BytesIO(data) if data is not None else None)

        for directory in ("bin", "etc", "tmp", "root", "home"):
            add(directory)
        add("bin/busybox", Path(BUSYBOX).read_bytes())
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", link="busybox")
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\nsailor:x:1000:\ncrew:x:2000:sailor\n", 0o644)
        add("bin/plain", b"no program\n", 0o644)
        add("bin/garbage", b"\x00\x01garbage")
        for name, data in (extra or {}).items():
            add(name, data, 0o644)
    return out.getvalue()


class Registry:
    """Debian's docker-registry on loopback, plain HTTP."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}, "
            f"delete: {{enabled: true}}}}\nhttp: {{addr: {self.host}}}\n"
        )
        with open(directory / "log", "wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[Registry]:
    running = Registry(directory)
    try:
        yield running
    finally:
        running.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(what: str, test: object, timeout: float = 20) -> None:
    """Wait until `test()` is true; fails the test, naming what, when it does not come."""
    deadline = time.monotonic() + timeout
    while not test():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout} s")
        time.sleep(0.02)
