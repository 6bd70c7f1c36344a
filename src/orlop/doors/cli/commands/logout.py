"""`orlop logout`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    cli.out(cli.engine.system.logout(cli.args[0] if cli.args else ""))
    return 0
