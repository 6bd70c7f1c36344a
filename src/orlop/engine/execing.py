"""Starting another process in a running container. On the path of `exec`."""

from __future__ import annotations

import os

from ..base import errors, jsonio
from ..base.kernel import cgroups
from ..services.runtime import environment, rootview, spec, tasks
from ..services.runtime.options import ExecOptions
from . import starting
from .containers import Exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .containers import Container


def start(
    container: Container,
    args: Sequence[str],
    *,
    env: Sequence[str],
    workdir: str,
    user: str,
    privileged: bool,
    interactive: bool,
    terminal: bool,
    size: tuple[int, int] | None,
    detach: bool,
) -> Exec:
    """See `Container.exec`. Users are looked up in the root as it is mounted now."""
    cgroups.ease_moves()
    asked = ExecOptions(
        args=tuple(args), env=tuple(env), workdir=workdir, user=user, terminal=terminal, privileged=privileged
    )
    made = spec.exec_process(
        jsonio.loads(container.record.spec),
        asked,
        environment.facts(),
        rootview.over_directory(f"{container.bundle}/rootfs"),
        {},
    )
    if terminal and size is not None:
        made["consoleSize"] = {"width": size[0], "height": size[1]}  # crun sets it before the process begins
    spec.dump_process(made)  # checks every string
    task = tasks.connect(container.bundle)
    exec_id = os.urandom(16).hex()
    task.exec(exec_id, made, stdin=interactive)
    attachment = None
    try:
        if not detach:
            attachment = task.attach(exec_id, stdin=interactive, owner=True, size=size)
        task.start(exec_id)
    except BaseException as error:
        if attachment is not None:
            attachment.close()
        task.delete(exec_id=exec_id)
        if isinstance(error, (errors.CommandNotFound, errors.CommandNotExecutable)):
            starting.name_command(error, args[0])
        raise
    return Exec(task, exec_id, attachment)
