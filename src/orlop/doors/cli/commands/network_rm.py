"""`orlop network rm`."""

from __future__ import annotations

from ....base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    code = 0
    for text in cli.args:
        try:
            cli.engine.networks.remove(text)
        except errors.NotFound as error:
            if not cli.flags.get("force"):
                cli.warn(f"orlop: {error.message}")
                code = 1
        except errors.OrlopError as error:
            cli.warn(f"orlop: {error.message}")
            code = 1
        else:
            cli.out(text)
    return code
