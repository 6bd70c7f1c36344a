"""`orlop import`."""

from __future__ import annotations

from ..progress import Display
from ..streams import standard_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    source = cli.args[0]
    with Display("Imported") as display:
        image = cli.engine.images.import_(
            standard_input() if source == "-" else source,
            cli.args[1] if len(cli.args) > 1 else "",
            changes=cli.flags.get("change", ()),
            message=cli.flags.get("message", ""),
            platform=cli.flags.get("platform"),
            compression=cli.flags.get("compression", "gzip"),
            progress=display,
        )
    cli.out(str(image.target.digest))
    return 0
