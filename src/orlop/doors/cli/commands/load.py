"""`orlop load`."""

from __future__ import annotations

import os

from ....base import errors
from ....base.oci import reference as references
from ..progress import Display
from ..streams import standard_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    path = cli.flags.get("input", "")
    if not path and os.isatty(0):
        raise errors.UsageError("requested load from stdin, but stdin is empty", advice="See 'orlop load --help'.")
    with Display("Loaded", bool(cli.flags.get("quiet"))) as display:
        images = cli.engine.images.load(path or standard_input(), platform=cli.flags.get("platform"), progress=display)
    for image in images:
        if image.name.startswith("sha256:"):
            cli.out(f"Loaded image ID: {image.name}")
        else:
            cli.out(f"Loaded image: {references.parse_normalized(image.name).familiar()}")
    return 0
