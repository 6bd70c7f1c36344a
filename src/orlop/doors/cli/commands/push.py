"""`orlop push`."""

from __future__ import annotations

from ....base import errors
from ....base.oci import platform as platforms
from ....base.oci import reference as references
from ..progress import Display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags, name = cli.flags, cli.args[0]
    names = [name]
    if flags.get("all-tags"):
        if references.parse_normalized(name).tag:
            raise errors.UsageError("tag can't be used with --all-tags/-a", advice="See 'orlop push --help'.")
        names = list(cli.engine.images.tags_of(name))
        if not names:
            raise errors.NotFound(f"an image does not exist locally with the tag: {name}")
    quiet = bool(flags.get("quiet"))
    for number, each in enumerate(names):
        reference = references.parse_normalized(each).with_default_tag()
        if not quiet and not number:
            cli.out(f"The push refers to repository [{reference.name}]")
        with Display("Pushed", quiet) as display:
            pushed = cli.engine.images.push(
                each,
                platform=flags.get("platform"),
                progress=display,
                trace=cli.warn if flags.get("trace") else None,
            )
        if pushed.reduced and not flags.get("platform"):
            cli.warn(
                f"note: only the content for {platforms.format(platforms.host())} is stored here, so only it was pushed"
            )
        if quiet:
            cli.out(str(reference))
        else:
            cli.out(f"{reference.tag or reference.familiar()}: digest: {pushed.digest} size: {pushed.size}")
    return 0
