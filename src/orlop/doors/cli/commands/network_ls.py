"""`orlop network ls`."""

from __future__ import annotations

from .. import filters, human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation

HEADERS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}


def main(cli: Invocation) -> int:
    flags = cli.flags
    found = list(cli.engine.networks.list())
    for key, values in filters.grouped(flags.get("filter", ()), ("name", "id", "driver", "label")).items():
        if key == "label":
            found = [each for each in found if filters.has_labels(each.labels, values)]
        else:
            found = [each for each in found if any(value in getattr(each, key) for value in values)]
    full = bool(flags.get("no-trunc"))
    rows = [
        {
            "ID": each.id if full else human.short_id(each.id),
            "Name": each.name,
            "Driver": each.driver,
            "Scope": "local",
            "Internal": str(each.internal).lower(),
            "Labels": dict(each.labels),
            "CreatedAt": human.time_text(each.created_ns),
        }
        for each in found
    ]
    if flags.get("quiet"):
        for row in rows:
            cli.out(str(row["ID"]))
    elif flags.get("format"):
        from .. import template

        text = template.render_list(flags["format"], rows, HEADERS)
        if text:
            cli.out(text)
    else:
        cli.out(tables.render(list(HEADERS.values()), [[str(row[name]) for name in HEADERS] for row in rows]))
    return 0
