"""`orlop run`."""

from __future__ import annotations

import os

from ....base import errors
from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    detach = bool(flags.get("detach"))
    if detach and flags.get("attach"):
        raise errors.UsageError("conflicting options: cannot specify both --attach and --detach")
    interactive = bool(flags.get("interactive"))
    container = create.make(cli)
    try:
        if detach:
            container.start()
            cli.out(container.id)
            return 0
        attachment = container.start(attach=True)
    except errors.OrlopError:
        if flags.get("rm"):
            container.remove(force=True)
        raise
    from .. import attached

    streams = flags.get("attach")
    quiet = tuple(s for s in ("stdout", "stderr") if streams and s not in [x.lower() for x in streams])
    try:
        with attached.Signals(container.kill, enabled=flags.get("sig-proxy", True)):
            if attachment is not None:
                with attachment:
                    attached.copy(attachment, stdin=interactive, quiet=quiet)
            code = container.wait()
    except KeyboardInterrupt:
        os.write(2, b"\n")
        return 130
    container.finish()
    return code
