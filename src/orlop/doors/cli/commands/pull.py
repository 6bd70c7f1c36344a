"""`orlop pull`."""

from __future__ import annotations

from ....base import errors
from ....base.oci import reference as references
from ..progress import Display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")


def main(cli: Invocation) -> int:
    flags = cli.flags
    reference = references.parse_normalized(cli.args[0])
    quiet = bool(flags.get("quiet"))
    unpack = flags.get("unpack", "true").lower()
    if unpack not in _TRUE + _FALSE:
        raise errors.UsageError(f'invalid argument "{unpack}" for "--unpack" flag', advice="use true or false")
    if not reference.tag and reference.digest is None and not quiet:
        cli.warn("Using default tag: latest")
    with Display("Pull complete", quiet) as display:
        pulled = cli.engine.images.pull(
            cli.args[0],
            platform=flags.get("platform"),
            all_platforms=bool(flags.get("all-platforms")),
            unpack=unpack in _TRUE,
            progress=display,
            trace=cli.warn if flags.get("trace") else None,
        )
    if not quiet:
        cli.out(f"Digest: {pulled.image.target.digest}")
        what = "Downloaded newer image for" if pulled.changed else "Image is up to date for"
        cli.out(f"Status: {what} {reference.with_default_tag().familiar()}")
    cli.out(pulled.image.name)
    return 0
