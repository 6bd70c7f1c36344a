"""`orlop volume prune`."""

from __future__ import annotations

import os

from ....base import errors
from .. import human
from ..main import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....stores.volumes.api import Volume
    from ..main import Invocation

_WARNING = "WARNING! This will remove %s volumes that no container uses.\nAre you sure you want to continue? [y/N] "


def main(cli: Invocation) -> int:
    everything = bool(cli.flags.get("all"))
    wanted, unwanted = [], []
    for text in cli.flags.get("filter", ()):
        if text.startswith("label!="):
            unwanted.append(text[len("label!=") :])
        elif text.startswith("label="):
            wanted.append(text[len("label=") :])
        elif text in ("all=true", "all=1"):
            everything = True
        else:
            raise errors.UsageError(f"invalid filter {text!r}", advice="use label=KEY[=VALUE] or label!=KEY[=VALUE]")
    if not cli.flags.get("force") and not _agreed(everything):
        return 0

    def fits(volume: Volume) -> bool:
        if not everything and not volume.anonymous:
            return False
        from .. import filters

        return filters.has_labels(volume.labels, wanted) and not any(
            filters.has_labels(volume.labels, (each,)) for each in unwanted
        )

    volumes = cli.engine.volumes
    gone = volumes.prune([volume for volume in volumes.unused() if fits(volume)])
    if gone.names:
        cli.out("Deleted Volumes:\n" + "\n".join(gone.names) + "\n")
    cli.out(f"Total reclaimed space: {human.size(gone.size)}")
    return 0


def _agreed(everything: bool) -> bool:
    write(1, _WARNING % ("all" if everything else "anonymous"))
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < 100:
        more = os.read(0, 1)
        if not more:
            break
        answer += more
    return answer.strip().lower() in (b"y", b"yes")
