"""The events that a shim publishes about its task: messages and topics.

Source: containerd api/events/task.proto (field numbers are theirs) and docs/runtime-v2.md, "Events": which event
belongs to which call, and that a task's events keep their order. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

from ...base.ttrpc.task_v2 import Mount, TaskExit
from ...base.ttrpc.wire import (
    AnyMessage,
    Message,
    Timestamp,
    boolean,
    message,
    repeated,
    string,
    uint32,
)


class TaskIO(Message):
    """containerd.events.TaskIO: the names of a process's streams."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    _wire = (string(1), string(2), string(3), boolean(4))


class TaskCreate(Message):
    """containerd.events.TaskCreate."""

    container_id: str = ""
    bundle: str = ""
    rootfs: tuple[Mount, ...] = ()
    io: TaskIO | None = None
    checkpoint: str = ""
    pid: int = 0
    _wire = (string(1), string(2), repeated(message(3, Mount)), message(4, TaskIO), string(5), uint32(6))


class TaskStart(Message):
    """containerd.events.TaskStart."""

    container_id: str = ""
    pid: int = 0
    _wire = (string(1), uint32(2))


class TaskDelete(Message):
    """containerd.events.TaskDelete."""

    container_id: str = ""
    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None
    id: str = ""
    _wire = (string(1), uint32(2), uint32(3), message(4, Timestamp), string(5))


class TaskOOM(Message):
    """containerd.events.TaskOOM."""

    container_id: str = ""
    _wire = (string(1),)


class TaskExecAdded(Message):
    """containerd.events.TaskExecAdded."""

    container_id: str = ""
    exec_id: str = ""
    _wire = (string(1), string(2))


class TaskExecStarted(Message):
    """containerd.events.TaskExecStarted."""

    container_id: str = ""
    exec_id: str = ""
    pid: int = 0
    _wire = (string(1), string(2), uint32(3))


class TaskPaused(Message):
    """containerd.events.TaskPaused."""

    container_id: str = ""
    _wire = (string(1),)


class TaskResumed(Message):
    """containerd.events.TaskResumed."""

    container_id: str = ""
    _wire = (string(1),)


TOPICS: dict[type[Message], str] = {
    TaskCreate: "/tasks/create",
    TaskStart: "/tasks/start",
    TaskExit: "/tasks/exit",
    TaskDelete: "/tasks/delete",
    TaskOOM: "/tasks/oom",
    TaskExecAdded: "/tasks/exec-added",
    TaskExecStarted: "/tasks/exec-started",
    TaskPaused: "/tasks/paused",
    TaskResumed: "/tasks/resumed",
}


def pack(event: Message) -> AnyMessage:
    """The event as an Any under containerd's type name."""
    return AnyMessage(f"containerd.events.{type(event).__name__}", event.encode())
