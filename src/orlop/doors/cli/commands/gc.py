"""`orlop gc`."""

from __future__ import annotations

from .. import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    flags = cli.flags
    if flags.get("why"):
        for line in cli.engine.system.why(flags["why"]):
            cli.out(line)
        return 0
    dry = bool(flags.get("dry-run"))
    swept = cli.engine.system.gc(dry_run=dry)
    if not dry:
        cli.engine.system.stop_helpers()
    if flags.get("format"):
        from .. import template

        cli.out(template.render(flags["format"], {"Items": swept.items, "Size": swept.size}))
        return 0
    for item in swept.items:
        cli.out(item)
    if not flags.get("quiet"):
        cli.out(f"Total {'reclaimable' if dry else 'reclaimed'} space: {human.size(swept.size)}")
    return 0
