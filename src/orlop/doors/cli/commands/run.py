"""`orlop run`."""

from __future__ import annotations

import os

from ....base import errors
from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....engine.containers import Container
    from ....services.runtime.tasks import Attachment
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    detach = bool(flags.get("detach"))
    if detach and flags.get("attach"):
        raise errors.UsageError("conflicting options: cannot specify both --attach and --detach")
    interactive = bool(flags.get("interactive"))
    if flags.get("tty"):
        return _with_terminal(cli, detach=detach, interactive=interactive)
    container = create.make(cli)
    if detach:
        _start(cli, container)
        cli.out(container.id)
        return 0
    attachment = _start(cli, container, attach=True)
    from .. import attached

    streams = flags.get("attach")
    quiet = tuple(s for s in ("stdout", "stderr") if streams and s not in [x.lower() for x in streams])
    try:
        with attached.Signals(container.kill, enabled=flags.get("sig-proxy", True)):
            if attachment is not None:
                with attachment:
                    attached.copy(attachment, stdin=interactive, quiet=quiet)
            code = container.ended(attachment)
    except KeyboardInterrupt:
        os.write(2, b"\n")
        return 130
    container.finish()
    return code


def _start(cli: Invocation, container: Container, **how: Any) -> Attachment | None:
    """Start it; one that cannot be started and was to be removed at its end is removed."""
    try:
        return container.start(**how)
    except errors.OrlopError:
        if cli.flags.get("rm"):
            container.remove(force=True, volumes=True)
        raise


def _with_terminal(cli: Invocation, *, detach: bool, interactive: bool) -> int:
    from .. import terminal

    flags = cli.flags
    if not detach and not terminal.may_read(interactive):
        cli.warn(f"orlop: {terminal.NO_TERMINAL}")
        return 1
    session = terminal.Session(interactive=interactive, keys=flags.get("detach-keys", ""))
    container = create.make(cli)
    if detach:
        _start(cli, container, size=session.size)
        cli.out(container.id)
        return 0
    with session.signals(container.kill, flags.get("sig-proxy", True)):
        with session:
            attachment = _start(cli, container, attach=True, size=session.size)
            if attachment is not None and not session.copy(attachment, container.resize):
                return 0
        # No longer raw: if its monitor was lost this may take long, and ^C must end it.
        code = container.ended(attachment)
    container.finish()
    return code
