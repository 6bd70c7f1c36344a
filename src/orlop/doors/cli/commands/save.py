"""`orlop save`."""

from __future__ import annotations

import os

from ....base import errors
from ..progress import Display
from ..streams import standard_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    output = cli.flags.get("output", "")
    if not output and os.isatty(1):
        raise errors.UsageError("cowardly refusing to save to a terminal", advice="Use -o or redirect.")
    with Display("Saved", quiet=not output or bool(cli.flags.get("quiet"))) as display:
        cli.engine.images.save(
            cli.args,
            output or standard_output(),
            format=cli.flags.get("format", "docker-archive"),
            platform=cli.flags.get("platform"),
            progress=display,
        )
    return 0
