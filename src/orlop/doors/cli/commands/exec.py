"""`orlop exec`."""

from __future__ import annotations

from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    container = cli.engine.containers.get(cli.args[0])
    interactive, detach = bool(flags.get("interactive")), bool(flags.get("detach"))
    process = container.exec(
        cli.args[1:],
        env=create.environment(flags),
        workdir=flags.get("workdir", ""),
        user=flags.get("user", ""),
        privileged=bool(flags.get("privileged")),
        interactive=interactive,
        terminal=bool(flags.get("tty")),
        detach=detach,
    )
    if detach:
        return 0
    from .. import attached

    if process.attachment is not None:
        with process.attachment as attachment:
            attached.copy(attachment, stdin=interactive)
    return process.wait()
