"""`orlop network prune`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    removed = cli.engine.networks.prune()
    if removed:
        cli.out("Deleted Networks:")
        for network in removed:
            cli.out(network.name)
    return 0
