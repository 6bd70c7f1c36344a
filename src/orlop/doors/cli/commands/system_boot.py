"""`orlop system boot`."""

from __future__ import annotations

from ....engine import boot
from ..main import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....base.errors import OrlopError
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    code = 0

    def failed(container: Container, error: OrlopError) -> None:
        nonlocal code
        code = 1
        cli.warn(f"{container.name or container.short_id}: {told(error)}")

    for container in boot.boot(cli.engine.wiring, failed):
        cli.out(container.name or container.short_id)
    return code
