"""containerd's shim task API, version 2: service `containerd.task.v2.Task`, and the events a shim publishes.

Source: containerd api/runtime/task/v2/shim.proto, api/types/mount.proto, api/types/task/task.proto,
api/events/task.proto, api/services/ttrpc/events/v1/events.proto. Field numbers are theirs.
"""

from __future__ import annotations

from .wire import (
    AnyMessage,
    Message,
    Timestamp,
    boolean,
    int32,
    message,
    repeated,
    string,
    string_map,
    uint32,
)

SERVICE = "containerd.task.v2.Task"
EVENTS_SERVICE = "containerd.services.events.ttrpc.v1.Events"

UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED, PAUSING = range(6)
"""containerd.v1.types.Status"""

PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
"""Type names of an Any that holds a piece of an OCI spec as JSON."""


ATTACHED = "attach:"
"""Orlop's own, in place of a FIFO's path: the stream is that of clients which attach to the monitor."""


class Mount(Message):
    type: str = ""
    source: str = ""
    target: str = ""
    options: tuple[str, ...] = ()
    _wire = (string(1), string(2), string(3), repeated(string(4)))


class CreateTaskRequest(Message):
    id: str = ""
    bundle: str = ""
    rootfs: tuple[Mount, ...] = ()
    terminal: bool = False
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    checkpoint: str = ""
    parent_checkpoint: str = ""
    options: AnyMessage | None = None
    _wire = (
        string(1),
        string(2),
        repeated(message(3, Mount)),
        boolean(4),
        string(5),
        string(6),
        string(7),
        string(8),
        string(9),
        message(10, AnyMessage),
    )


class CreateTaskResponse(Message):
    pid: int = 0
    _wire = (uint32(1),)


class StartRequest(Message):
    id: str = ""
    exec_id: str = ""
    _wire = (string(1), string(2))


class StartResponse(Message):
    pid: int = 0
    _wire = (uint32(1),)


class DeleteRequest(Message):
    id: str = ""
    exec_id: str = ""
    _wire = (string(1), string(2))


class DeleteResponse(Message):
    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None
    _wire = (uint32(1), uint32(2), message(3, Timestamp))


class StateRequest(Message):
    id: str = ""
    exec_id: str = ""
    _wire = (string(1), string(2))


class StateResponse(Message):
    id: str = ""
    bundle: str = ""
    pid: int = 0
    status: int = 0
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    exit_status: int = 0
    exited_at: Timestamp | None = None
    exec_id: str = ""
    _wire = (
        string(1),
        string(2),
        uint32(3),
        int32(4),
        string(5),
        string(6),
        string(7),
        boolean(8),
        uint32(9),
        message(10, Timestamp),
        string(11),
    )


class PidsRequest(Message):
    id: str = ""
    _wire = (string(1),)


class ProcessInfo(Message):
    pid: int = 0
    info: AnyMessage | None = None
    _wire = (uint32(1), message(2, AnyMessage))


PROCESS_DETAILS_TYPE = "containerd.runc.v1.ProcessDetails"


class ProcessDetails(Message):
    """containerd.runc.v1.ProcessDetails, in ProcessInfo.info."""

    exec_id: str = ""
    _wire = (string(1),)


class PidsResponse(Message):
    processes: tuple[ProcessInfo, ...] = ()
    _wire = (repeated(message(1, ProcessInfo)),)


class PauseRequest(Message):
    id: str = ""
    _wire = (string(1),)


class ResumeRequest(Message):
    id: str = ""
    _wire = (string(1),)


class CheckpointTaskRequest(Message):
    id: str = ""
    path: str = ""
    options: AnyMessage | None = None
    _wire = (string(1), string(2), message(3, AnyMessage))


class KillRequest(Message):
    id: str = ""
    exec_id: str = ""
    signal: int = 0
    all: bool = False
    _wire = (string(1), string(2), uint32(3), boolean(4))


class ExecProcessRequest(Message):
    id: str = ""
    exec_id: str = ""
    terminal: bool = False
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    spec: AnyMessage | None = None
    _wire = (string(1), string(2), boolean(3), string(4), string(5), string(6), message(7, AnyMessage))


class ResizePtyRequest(Message):
    id: str = ""
    exec_id: str = ""
    width: int = 0
    height: int = 0
    _wire = (string(1), string(2), uint32(3), uint32(4))


class CloseIORequest(Message):
    id: str = ""
    exec_id: str = ""
    stdin: bool = False
    _wire = (string(1), string(2), boolean(3))


class UpdateTaskRequest(Message):
    id: str = ""
    resources: AnyMessage | None = None
    annotations: dict[str, str] = {}
    _wire = (string(1), message(2, AnyMessage), string_map(3))


class WaitRequest(Message):
    id: str = ""
    exec_id: str = ""
    _wire = (string(1), string(2))


class WaitResponse(Message):
    exit_status: int = 0
    exited_at: Timestamp | None = None
    _wire = (uint32(1), message(2, Timestamp))


class StatsRequest(Message):
    id: str = ""
    _wire = (string(1),)


class StatsResponse(Message):
    stats: AnyMessage | None = None
    _wire = (message(1, AnyMessage),)


class ConnectRequest(Message):
    id: str = ""
    _wire = (string(1),)


class ConnectResponse(Message):
    shim_pid: int = 0
    task_pid: int = 0
    version: str = ""
    _wire = (uint32(1), uint32(2), string(3))


class ShutdownRequest(Message):
    id: str = ""
    now: bool = False
    _wire = (string(1), boolean(2))


class RuncOptions(Message):
    """containerd.runc.v1.Options, the options of Debian's and containerd's own shim."""

    no_pivot_root: bool = False
    no_new_keyring: bool = False
    shim_cgroup: str = ""
    io_uid: int = 0
    io_gid: int = 0
    binary_name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    _wire = (
        boolean(1),
        boolean(2),
        string(3),
        uint32(4),
        uint32(5),
        string(6),
        string(7),
        boolean(9),
    )


RUNC_OPTIONS_TYPE = "containerd.runc.v1.Options"


class Envelope(Message):
    """One event on its way. topic: "/tasks/exit" and so on."""

    timestamp: Timestamp | None = None
    namespace: str = ""
    topic: str = ""
    event: AnyMessage | None = None
    _wire = (message(1, Timestamp), string(2), string(3), message(4, AnyMessage))


class ForwardRequest(Message):
    envelope: Envelope | None = None
    _wire = (message(1, Envelope),)


class TaskExit(Message):
    """containerd.events.TaskExit. id: the exec's id, or the container's for its init."""

    container_id: str = ""
    id: str = ""
    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None
    _wire = (string(1), string(2), uint32(3), uint32(4), message(5, Timestamp))
