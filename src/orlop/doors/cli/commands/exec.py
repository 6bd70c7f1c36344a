"""`orlop exec`."""

from __future__ import annotations

from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....engine.containers import Container, Exec
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    container = cli.engine.containers.get(cli.args[0])
    detach = bool(flags.get("detach"))
    if flags.get("tty") and not detach:
        return _with_terminal(cli, container)
    process = _exec(cli, container, detach=detach)
    if detach:
        return 0
    from .. import attached

    if process.attachment is not None:
        with process.attachment as attachment:
            attached.copy(attachment, stdin=bool(flags.get("interactive")))
    return process.wait()


def _exec(cli: Invocation, container: Container, **how: Any) -> Exec:
    flags = cli.flags
    return container.exec(
        cli.args[1:],
        env=create.environment(flags),
        workdir=flags.get("workdir", ""),
        user=flags.get("user", ""),
        privileged=bool(flags.get("privileged")),
        interactive=bool(flags.get("interactive")),
        terminal=bool(flags.get("tty")),
        **how,
    )


def _with_terminal(cli: Invocation, container: Container) -> int:
    from .. import terminal

    interactive = bool(cli.flags.get("interactive"))
    if not terminal.may_read(interactive):
        cli.warn(f"orlop: {terminal.NO_TERMINAL}")
        return 1
    with terminal.Session(interactive=interactive, keys=cli.flags.get("detach-keys", "")) as session:
        process = _exec(cli, container, size=session.size)
        if process.attachment is not None and not session.copy(process.attachment, process.resize):
            return 0
    return process.wait()
