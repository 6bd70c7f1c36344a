"""Our ttrpc client and events server against Debian's containerd-shim-runc-v2: a container from create to delete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.ttrpc import server, task_v2, unixsock, wire
from orlop.base.ttrpc.client import Client
from orlop.base.ttrpc.loop import Loop
from tests.support import bundle as bundles

pytestmark = pytest.mark.peer

SHIM = shutil.which("containerd-shim-runc-v2") or "/usr/bin/containerd-shim-runc-v2"
NAMESPACE = "orlop-test"
M = TypeVar("M", bound=wire.Message)


class Events:
    """A containerd that only listens: collects what shims publish."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: list[task_v2.Envelope] = []
        self.loop = Loop()
        method = server.Method(task_v2.ForwardRequest, self._forward)
        self.server = server.Server(self.loop, {task_v2.EVENTS_SERVICE: {"Forward": method}})
        self.server.listen(unixsock.listen(path))
        self._wake = os.eventfd(0)
        self.loop.watch(self._wake, 1, lambda _: self.loop.stop())
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def _forward(self, call: server.Call, request: task_v2.ForwardRequest) -> wire.Empty:
        assert request.envelope is not None
        self.seen.append(request.envelope)
        return wire.Empty()

    def topics(self) -> list[str]:
        return [envelope.topic for envelope in self.seen]

    def stop(self) -> None:
        os.eventfd_write(self._wake, 1)
        self.thread.join(10)
        self.server.close()
        self.loop.close()
        os.close(self._wake)


class Shim:
    """One shim process and a client of it."""

    def __init__(self, directory: Path, events: Events, args: list[str]) -> None:
        self.id = f"orlop-{os.urandom(4).hex()}"
        self.bundle = directory / self.id
        bundles.rootfs(self.bundle / "rootfs")
        spec = bundles.spec(args, container_id=self.id)
        (self.bundle / "config.json").write_text(json.dumps(spec))
        os.mkfifo(self.bundle / "log")
        # The shim dies when nobody reads its log; both ends, so that opening does not wait.
        self.log = os.open(self.bundle / "log", os.O_RDWR | os.O_NONBLOCK)
        command = [SHIM, "-namespace", NAMESPACE, "-id", self.id, "-address", "/run/none.sock"]
        self.command = [*command, "-publish-binary", "/bin/true"]
        environment = {**os.environ, "TTRPC_ADDRESS": events.path, "MAX_SHIM_VERSION": "2", "GRPC_ADDRESS": ""}
        started = subprocess.run(
            [*self.command, "start"],
            cwd=self.bundle,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        )
        self.address = started.stdout.decode().strip()
        self.client = Client.connect(self.address)
        self.pid = self.call("Connect", task_v2.ConnectRequest(self.id), task_v2.ConnectResponse).shim_pid

    def call(self, method: str, request: wire.Message, reply: type[M], seconds: float = 60) -> M:
        return self.client.call(task_v2.SERVICE, method, request, reply, cancel=Cancel(seconds))

    def close(self) -> None:
        self.client.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.log)
        Path(self.address.removeprefix("unix://")).unlink(missing_ok=True)
        subprocess.run(
            ["runc", "--root", f"/run/containerd/runc/{NAMESPACE}", "delete", "--force", self.id],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
        for path in (
            f"/run/containerd/runc/{NAMESPACE}",
            "/run/containerd/runc",
            "/run/containerd/s",
            "/run/containerd",
        ):
            try:
                os.rmdir(path)
            except OSError:
                pass  # somebody else uses it


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    one = Events(str(tmp_path / "events.sock"))
    yield one
    one.stop()


def test_a_container_lives_and_dies_under_containerds_shim(tmp_path: Path, events: Events) -> None:
    if not os.path.exists(SHIM):
        pytest.skip("containerd-shim-runc-v2 is not installed")
    stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
    for path in (stdout, stderr):
        os.mkfifo(path)
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)
    other = os.open(stderr, os.O_RDONLY | os.O_NONBLOCK)
    shim = Shim(tmp_path, events, ["sh", "-c", "echo from the container; exit 7"])
    try:
        create = task_v2.CreateTaskRequest(shim.id, str(shim.bundle), stdout=str(stdout), stderr=str(stderr))
        pid = shim.call("Create", create, task_v2.CreateTaskResponse).pid
        assert pid > 1
        state = shim.call("State", task_v2.StateRequest(shim.id), task_v2.StateResponse)
        assert (state.id, state.pid, state.status) == (shim.id, pid, task_v2.CREATED)
        waited: list[task_v2.WaitResponse] = []
        waiter = threading.Thread(
            target=lambda: waited.append(shim.call("Wait", task_v2.WaitRequest(shim.id), task_v2.WaitResponse))
        )
        waiter.start()
        assert shim.call("Start", task_v2.StartRequest(shim.id), task_v2.StartResponse).pid == pid
        waiter.join(60)
        assert [reply.exit_status for reply in waited] == [7]
        assert waited[0].exited_at is not None
        assert abs(waited[0].exited_at.ns - time.time_ns()) < 60e9
        assert os.read(reader, 1000) == b"from the container\n"
        with pytest.raises(errors.NotFound):
            shim.call("Kill", task_v2.KillRequest(shim.id, "", 9), wire.Empty)
        with pytest.raises(errors.OrlopError):
            shim.call("State", task_v2.StateRequest(shim.id, "no-such-exec"), task_v2.StateResponse)
        with pytest.raises(errors.Unimplemented):
            shim.call("NoSuchMethod", wire.Empty(), wire.Empty)
        deleted = shim.call("Delete", task_v2.DeleteRequest(shim.id), task_v2.DeleteResponse)
        assert (deleted.pid, deleted.exit_status) == (pid, 7)
        wanted = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
        end = time.monotonic() + 20
        while events.topics() != wanted and time.monotonic() < end:
            time.sleep(0.01)
        assert events.topics() == wanted
        envelope = events.seen[2]
        assert envelope.namespace == NAMESPACE
        assert envelope.event is not None
        exited = task_v2.TaskExit.decode(envelope.event.value)
        assert (exited.container_id, exited.pid, exited.exit_status) == (shim.id, pid, 7)
        try:
            shim.call("Shutdown", task_v2.ShutdownRequest(shim.id), wire.Empty)
        except errors.Unavailable:
            pass  # it may be gone before it has answered
        shim.client.wait_closed(Cancel(20))
    finally:
        shim.close()
        os.close(reader)
        os.close(other)


def test_options_and_deadlines_are_understood_by_containerds_shim(tmp_path: Path, events: Events) -> None:
    if not os.path.exists(SHIM):
        pytest.skip("containerd-shim-runc-v2 is not installed")
    shim = Shim(tmp_path, events, ["sleep", "1000"])
    try:
        root = str(tmp_path / "runc-root")
        options = wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, task_v2.RuncOptions(root=root).encode())
        create = task_v2.CreateTaskRequest(shim.id, str(shim.bundle), options=options)
        shim.call("Create", create, task_v2.CreateTaskResponse)
        assert os.path.isdir(f"{root}/{NAMESPACE}/{shim.id}")
        shim.call("Start", task_v2.StartRequest(shim.id), task_v2.StartResponse)
        with pytest.raises(errors.DeadlineExceeded):
            shim.call("Wait", task_v2.WaitRequest(shim.id), task_v2.WaitResponse, 0.2)
        spec = wire.AnyMessage(task_v2.PROCESS_TYPE, json.dumps(bundles.process(["sh", "-c", "exit 5"])).encode())
        shim.call("Exec", task_v2.ExecProcessRequest(shim.id, "e1", spec=spec), wire.Empty)
        shim.call("Start", task_v2.StartRequest(shim.id, "e1"), task_v2.StartResponse)
        waited = shim.call("Wait", task_v2.WaitRequest(shim.id, "e1"), task_v2.WaitResponse)
        assert waited.exit_status == 5
        shim.call("Kill", task_v2.KillRequest(shim.id, "", 9, True), wire.Empty)
        assert shim.call("Wait", task_v2.WaitRequest(shim.id), task_v2.WaitResponse).exit_status == 137
        shim.call("Delete", task_v2.DeleteRequest(shim.id), task_v2.DeleteResponse)
    finally:
        shim.close()
