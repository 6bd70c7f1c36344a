"""`orlop start`."""

from __future__ import annotations

from ....base import errors
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    if cli.flags.get("attach") or cli.flags.get("interactive"):
        if len(cli.args) > 1:
            raise errors.UsageError("you cannot start and attach multiple containers at once")
        return _attached(cli)

    def start(container: Container) -> None:
        container.start()

    return each(cli, start)


def _attached(cli: Invocation) -> int:
    container = cli.engine.containers.get(cli.args[0])
    interactive, proxy = bool(cli.flags.get("interactive")), cli.flags.get("sig-proxy", True)
    if container.terminal:
        from .. import terminal

        session = terminal.Session(interactive=interactive, keys=cli.flags.get("detach-keys", ""))
        with session.signals(container.kill, proxy):
            with session:
                attachment = container.start(attach=True, size=session.size)
                if attachment is not None and not session.copy(attachment, container.resize):
                    return 0
            code = container.ended(attachment)
    else:
        from .. import attached

        attachment = container.start(attach=True)
        with attached.Signals(container.kill, enabled=proxy):
            if attachment is not None:
                with attachment:
                    attached.copy(attachment, stdin=interactive)
            code = container.ended(attachment)
    container.finish()
    return code
