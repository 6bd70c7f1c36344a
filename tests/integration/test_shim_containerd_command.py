"""The shim command without containerd: what `start` and `delete` do, and how they fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.kernel import process as kernel_process
from orlop.base.ttrpc import task_v2, wire
from orlop.base.ttrpc.client import Client
from tests.support import bundle as bundles
from tests.support.shim import processes_with, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
CODE = f"import sys; sys.path.append({SOURCE!r}); from orlop.services.shim.containerd_shim import main; "
COMMAND = [sys.executable, "-I", "-S", "-E", "-c", CODE + "sys.exit(main(sys.argv[1:]))"]


class Shim:
    """A bundle, and the shim command in it."""

    def __init__(self, directory: Path, *args: str) -> None:
        self.directory = directory
        self.id = f"t{os.urandom(4).hex()}"
        self.bundle = directory / self.id
        bundles.rootfs(self.bundle / "rootfs")
        (self.bundle / "config.json").write_text(json.dumps(bundles.spec(list(args), container_id=self.id)))
        self.client: Client | None = None

    def command(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        flags = ["-namespace", "ns", "-id", self.id, "-address", f"{self.directory}/containerd.sock"]
        environment = {**os.environ, "ORLOP_SHIM_STATE": str(self.directory / "state"), "TTRPC_ADDRESS": ""}
        done = subprocess.run(
            [*COMMAND, *flags, *words],
            cwd=self.bundle,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self, options: task_v2.RuncOptions | None = None) -> Client:
        stdin = b""
        if options is not None:
            stdin = wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, options.encode()).encode()
        self.client = Client.connect(self.command("start", stdin=stdin).stdout.decode())
        return self.client

    def create(self, options: task_v2.RuncOptions | None = None) -> int:
        assert self.client is not None
        packed = None if options is None else wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, options.encode())
        request = task_v2.CreateTaskRequest(self.id, str(self.bundle), options=packed)
        reply = self.client.call(task_v2.SERVICE, "Create", request, task_v2.CreateTaskResponse, cancel=Cancel(30))
        return reply.pid

    def run(self) -> int:
        pid = self.create()
        assert self.client is not None
        start = task_v2.StartRequest(self.id)
        self.client.call(task_v2.SERVICE, "Start", start, task_v2.StartResponse, cancel=Cancel(30))
        return pid

    @property
    def pid(self) -> int:
        return int(json.loads((self.bundle / "shim.json").read_text())["pid"])

    def delete(self) -> task_v2.DeleteResponse:
        return task_v2.DeleteResponse.decode(self.command("-bundle", str(self.bundle), "delete").stdout)

    def left_over(self) -> list[str]:
        left = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/orlop-test-{self.id}")]
        left += [str(path) for path in (self.directory / "state").glob("*/s/*")]
        left += [str(path) for path in (self.directory / "state").glob("*/*/ns/*")]
        return left + processes_with(f"-id {self.id}")


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    one = Shim(Path(os.path.realpath(tmp_path)), "sleep", "1000")
    yield one
    if one.client is not None:
        one.client.close()
    one.delete()
    until(lambda: not one.left_over(), f"nothing is left: {one.left_over()}")


def test_start_leaves_a_shim_and_says_where_it_is(shim: Shim) -> None:
    client = shim.start()
    reply = client.call(task_v2.SERVICE, "Connect", task_v2.ConnectRequest(shim.id), task_v2.ConnectResponse)
    assert reply.shim_pid == shim.pid != os.getpid()
    assert (shim.bundle / "address").read_text().startswith("unix:///")
    pid = shim.run()
    assert kernel_process.parent_of(pid) == shim.pid


def test_a_second_shim_in_one_bundle_is_refused_in_one_line(shim: Shim) -> None:
    client = shim.start()
    done = shim.command("start", check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"already" in done.stderr
    client.call(task_v2.SERVICE, "Connect", task_v2.ConnectRequest(shim.id), task_v2.ConnectResponse)


@pytest.mark.parametrize("early", [True, False])
def test_the_options_choose_the_runtime(shim: Shim, early: bool) -> None:
    options = task_v2.RuncOptions(binary_name="runc", root=f"{shim.directory}/roots", no_new_keyring=True)
    client = shim.start(options if early else None)
    shim.create(None if early else options)
    said = json.loads((shim.bundle / "monitor.json").read_text())
    assert said["runtime_name"] == "runc"
    assert (shim.directory / "roots/ns" / shim.id).is_dir()
    client.call(task_v2.SERVICE, "Kill", task_v2.KillRequest(shim.id, "", 9), wire.Empty)


def test_a_runtime_that_is_missing_is_told_by_start(shim: Shim) -> None:
    options = wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, task_v2.RuncOptions(binary_name="no-such").encode())
    done = shim.command("start", stdin=options.encode(), check=False)
    assert done.returncode == 1
    assert b"no-such" in done.stderr
    done = shim.command("start", stdin=b"\xff\xff", check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


def test_delete_ends_what_a_dead_shim_has_left(shim: Shim) -> None:
    shim.start()
    pid = shim.run()
    os.kill(shim.pid, signal.SIGKILL)
    until(lambda: kernel_process.parent_of(pid) != shim.pid, "the shim is gone")
    reply = shim.delete()
    assert (reply.pid, reply.exit_status) == (pid, 137)
    assert reply.exited_at is not None
    assert not shim.left_over()


def test_delete_ends_a_shim_that_containerd_has_lost(shim: Shim) -> None:
    shim.start()
    pid = shim.run()
    first = shim.delete()
    assert (first.pid, first.exit_status) == (pid, 137)
    until(lambda: not processes_with(f"-id {shim.id}"), "the shim is gone")
    assert shim.delete() == first  # once more is fine


def test_delete_where_nothing_ever_was(shim: Shim) -> None:
    assert shim.delete() == task_v2.DeleteResponse(0, 137)


def test_a_task_that_was_created_twice_is_refused(shim: Shim) -> None:
    shim.start()
    shim.run()
    with pytest.raises(errors.AlreadyExists):
        shim.create(task_v2.RuncOptions(binary_name="runc"))
    assert json.loads((shim.bundle / "monitor.json").read_text())["runtime_name"] != "no-such"
