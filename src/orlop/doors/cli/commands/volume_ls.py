"""`orlop volume ls`."""

from __future__ import annotations

from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ....stores.volumes.api import Volume
    from ..main import Invocation

HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Size": "SIZE",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def keep(cli: Invocation, found: Sequence[Volume], items: Sequence[str]) -> list[Volume]:
    """The volumes that pass the filters. UsageError for an unknown one."""
    from .. import filters

    for key, values in filters.grouped(items, ("dangling", "driver", "label", "name")).items():
        if key == "dangling":
            wanted = filters.truth(key, values)
            unused = {volume.name for volume in cli.engine.volumes.unused()}
            found = [volume for volume in found if (volume.name in unused) == wanted]
        elif key == "driver":
            found = [volume for volume in found if volume.driver in values]
        elif key == "label":
            found = [volume for volume in found if filters.has_labels(volume.labels, values)]
        else:
            found = [volume for volume in found if any(value in volume.name for value in values)]
    return list(found)


def main(cli: Invocation) -> int:
    volumes, flags = cli.engine.volumes, cli.flags
    found = volumes.list()
    if flags.get("filter"):
        found = keep(cli, found, flags["filter"])
    if flags.get("quiet"):
        for volume in found:
            cli.out(volume.name)
        return 0
    sized = bool(flags.get("size")) or ".Size" in flags.get("format", "")
    rows = [
        {
            "Driver": volume.driver,
            "Name": volume.name,
            "Size": human.size(volumes.size(volume)) if sized else "N/A",
            "Mountpoint": volumes.path(volume),
            "Scope": "local",
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
            "CreatedAt": human.time_text(volume.created_ns),
        }
        for volume in found
    ]
    if flags.get("format"):
        from .. import template

        text = template.render_list(flags["format"], rows, HEADERS)
        if text:
            cli.out(text)
        return 0
    columns = ["Driver", "Name", *(["Size"] if sized else [])]
    cli.out(tables.render([HEADERS[c] for c in columns], [[row[c] for c in columns] for row in rows]))
    return 0
