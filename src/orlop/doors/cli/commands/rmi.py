"""`orlop rmi`."""

from __future__ import annotations

from ....base import errors
from ..main import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    force, code, done = bool(cli.flags.get("force")), 0, False
    for name in cli.args:
        try:
            for removed in cli.engine.images.remove(name, force=force, prune=False):
                done = True
                cli.out(f"{removed.kind.capitalize()}: {removed.what}")
        except errors.NotFound as error:
            if not force:
                cli.warn(f"orlop: {error.message}")
                code = 1
        except errors.OrlopError as error:
            cli.warn(told(error))
            code = 1
    if done and not cli.flags.get("no-prune"):
        cli.engine.system.gc()  # once for all of them
    return code
