"""`orlop ps`."""

from __future__ import annotations

import time

from ....base import errors
from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....engine.containers import Container
    from ....services.shim.state import TaskState
    from ..main import Invocation

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
}


def status_text(state: TaskState, now_ns: int) -> str:
    """The STATUS column: "Up 2 minutes", "Exited (0) 3 hours ago", "Created"."""
    if state.status in ("running", "paused"):
        text = f"Up {human.duration(now_ns - state.started_ns)}" if state.started_ns else "Up"
        if state.status == "paused":
            text += " (Paused)"
        if not state.monitor_alive:
            text += " (monitor lost)"
        return text
    if state.status == "created":
        return "Created"
    if not state.exited_ns:
        return f"Exited ({state.exit_status})"
    return f"Exited ({state.exit_status}) {human.duration(now_ns - state.exited_ns)} ago"


def _command(container: Container, full: bool) -> str:
    from ....base import jsonio

    process = jsonio.loads(container.record.spec).get("process", {}) if container.record.spec else {}
    text = " ".join(process.get("args", []))
    if not full and len(text) > 20:
        text = text[:19] + "…"
    return human.quote(text)


def _row(container: Container, state: TaskState, now_ns: int, flags: dict[str, Any]) -> dict[str, Any]:
    from ....engine import views

    record, full = container.record, bool(flags.get("no-trunc"))
    labels = {key: value for key, value in record.labels.items() if not key.startswith("orlop.dev/")}
    config = record.extensions.get("orlop.config", {})
    row = {
        "ID": record.id if full else record.id[:12],
        "Image": views.familiar(record.image),
        "Command": _command(container, full),
        "CreatedAt": human.time_text(record.created_ns),
        "RunningFor": human.duration(now_ns - record.created_ns) + " ago",
        "Ports": "",
        "State": state.status,
        "Status": status_text(state, now_ns),
        "Names": record.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": ",".join(config.get("mount_points", ())),
        "Networks": config.get("network", ""),
        "Size": "0B",
    }
    if flags.get("size"):
        own, total = container.sizes()
        row["Size"] = f"{human.size(own)} (virtual {human.size(total)})"
    return row


def _keep(
    found: list[tuple[Container, TaskState]], filters: list[str], cli: Invocation
) -> list[tuple[Container, TaskState]]:
    groups: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise errors.UsageError(f"invalid filter {text!r}: it has no '='")
        groups.setdefault(key, []).append(value)
    for key, values in groups.items():
        if key == "id":
            found = [f for f in found if any(f[0].id.startswith(v) for v in values)]
        elif key == "name":
            import re

            try:
                patterns = [re.compile(v) for v in values]
            except re.error as error:
                raise errors.UsageError(f"invalid filter 'name': {error}") from None
            found = [f for f in found if any(p.search(f[0].name) for p in patterns)]
        elif key == "label":
            for value in values:
                label, equals, wanted = value.partition("=")
                found = [
                    f
                    for f in found
                    if label in f[0].record.labels and (not equals or f[0].record.labels[label] == wanted)
                ]
        elif key == "status":
            known = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
            for value in values:
                if value not in known:
                    raise errors.UsageError(f"invalid filter 'status={value}'", advice=f"use one of {', '.join(known)}")
            found = [f for f in found if f[1].status in values]
        elif key == "exited":
            try:
                codes = [int(v) for v in values]
            except ValueError:
                raise errors.UsageError(f"invalid filter 'exited={values[0]}': it is not a number") from None
            found = [f for f in found if f[1].status == "exited" and f[1].exit_status in codes]
        elif key == "ancestor":
            names, digests = set(), set()
            for value in values:
                image = cli.engine.images.get(value)
                names.add(image.name)
                digests.add(str(image.target.digest))
            found = [f for f in found if f[0].record.image in names or f[0].record.image_digest in digests]
        elif key in ("before", "since"):
            pivot = cli.engine.containers.get(values[0]).record.created_ns
            found = [
                f
                for f in found
                if (f[0].record.created_ns < pivot if key == "before" else f[0].record.created_ns > pivot)
            ]
        else:
            raise errors.UsageError(
                f"invalid filter '{key}'", advice="use id, name, label, status, exited, ancestor, before or since"
            )
    return found


def main(cli: Invocation) -> int:
    flags = cli.flags
    filters = flags.get("filter", [])
    last = 1 if flags.get("latest") else flags.get("last", -1)
    everything = bool(flags.get("all")) or last > 0 or any(f.startswith(("status=", "exited=")) for f in filters)
    found = [(container, container.state()) for container in cli.engine.containers.list(all=True)]
    if not everything:
        found = [f for f in found if f[1].status in ("running", "paused")]
    found = _keep(found, filters, cli)
    if last > 0:
        found = found[:last]
    if flags.get("quiet"):
        for container, _ in found:
            cli.out(container.id if flags.get("no-trunc") else container.short_id)
        return 0
    now_ns = time.time_ns()
    rows = [_row(container, state, now_ns, flags) for container, state in found]
    if flags.get("format"):
        from .. import template

        text = template.render_list(flags["format"], rows, HEADERS)
        if text:
            cli.out(text)
        return 0
    columns = [
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
        *(["Size"] if flags.get("size") else []),
    ]
    cli.out(tables.render([HEADERS[c] for c in columns], [[row[c] for c in columns] for row in rows]))
    return 0
