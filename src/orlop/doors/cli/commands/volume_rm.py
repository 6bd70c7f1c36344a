"""`orlop volume rm`."""

from __future__ import annotations

from ....base import errors
from ..main import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    code = 0
    for name in cli.args:
        try:
            cli.engine.volumes.remove(name)
        except errors.OrlopError as error:
            if cli.flags.get("force") and isinstance(error, errors.NotFound):
                cli.out(name)
                continue
            cli.warn(told(error))
            code = 1
        else:
            cli.out(name)
    return code
