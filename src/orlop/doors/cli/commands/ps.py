"""`orlop ps`."""

from __future__ import annotations

import time

from ....base import errors
from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ....engine.containers import Container
    from ....services.shim.state import TaskState
    from ..main import Invocation

    Found = tuple[Container, TaskState]

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
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
}
FILTERS = ("id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume", "health")
STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
HEALTHS = ("starting", "healthy", "unhealthy", "none")

_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_RAW = "".join(
    f"{name}: {{{{.{field}}}}}\n"
    for name, field in (
        ("container_id", "ID"),
        ("image", "Image"),
        ("command", "Command"),
        ("created_at", "CreatedAt"),
        ("state", "State"),
        ("status", "Status"),
        ("names", "Names"),
        ("labels", "Labels"),
        ("ports", "Ports"),
    )
)


def status_text(state: TaskState, now_ns: int, health: str = "") -> str:
    """The STATUS column: "Up 2 minutes", "Exited (0) 3 hours ago", "Created".

    health: "starting", "healthy", "unhealthy", or "" for one without checks.
    """
    if state.status in ("running", "paused"):
        text = f"Up {human.duration(now_ns - state.started_ns)}" if state.started_ns else "Up"
        if state.status == "paused":
            text += " (Paused)"
        if not state.monitor_alive:
            text += " (monitor lost)"
        elif health and state.status == "running":
            text += " (health: starting)" if health == "starting" else f" ({health})"
        return text
    if state.status == "restarting":
        return f"Restarting ({state.exit_status}) {human.ago(state.exited_ns, now_ns)}"
    if state.status == "created":
        return "Created"
    if not state.exited_ns:
        return f"Exited ({state.exit_status})"
    return f"Exited ({state.exit_status}) {human.ago(state.exited_ns, now_ns)}"


def _command(config: dict[str, Any], spec: bytes, full: bool) -> str:
    """The COMMAND column. What was asked for is kept beside the specification, which is long to read."""
    if "cmd" in config:
        args = [*config.get("entrypoint", ()), *config["cmd"]]
    else:
        from ....base import jsonio

        args = jsonio.loads(spec).get("process", {}).get("args", []) if spec else []
    text = " ".join(args)
    if not full and len(text) > 20:
        text = text[:19] + "…"
    return human.quote(text)


def _health(container: Container, state: TaskState) -> str:
    """What its checks say; "" without checks, and when nobody carries them out now."""
    if not state.monitor_alive or "health" not in _config(container):
        return ""
    found = container.health()
    return found.status if found is not None else ""


def _ports(container: Container, state: TaskState) -> str:
    if "orlop.network" not in container.record.extensions or state.status not in ("running", "paused"):
        return ""
    from ....engine import networking

    return networking.ports_text(container.endpoints())


def _row(container: Container, state: TaskState, now_ns: int, full: bool, size: bool) -> dict[str, Any]:
    from ....engine import views

    record = container.record
    config = record.extensions.get("orlop.config", {})
    mounts = config.get("mount_points", ())
    row = {
        "ID": record.id if full else record.id[:12],
        "Image": views.familiar(record.image),
        "Command": _command(config, record.spec, full),
        "CreatedAt": human.time_text(record.created_ns),
        "RunningFor": human.ago(record.created_ns, now_ns),
        "Ports": _ports(container, state),
        "State": state.status,
        "Status": status_text(state, now_ns, _health(container, state)),
        "Names": record.name,
        "Labels": views.labels(record),
        "LocalVolumes": "0",
        "Mounts": ",".join(mounts if full else (tables.ellipsis(mount, 15) for mount in mounts)),
        "Networks": config.get("network", ""),
        "Size": "0B",
    }
    if size:
        own, total = container.sizes()
        row["Size"] = f"{human.size(own)} (virtual {human.size(total)})"
    return row


def _keep(found: list[Found], wanted: list[str], cli: Invocation) -> list[Found]:
    """Those that pass every filter; of several filters with one key any will do, but for labels."""
    from .. import filters

    for key, values in filters.grouped(wanted, FILTERS).items():
        test = _test(key, values, cli)
        found = [f for f in found if test(f)]
    return found


def _test(key: str, values: list[str], cli: Invocation) -> Callable[[Found], bool]:
    """The test that the filters of one key stand for."""
    from .. import filters

    if key == "id":
        return lambda f: any(f[0].id.startswith(value) for value in values)
    if key == "name":
        patterns = filters.patterns("name", values)
        return lambda f: any(p.search(f[0].name) or p.search(f"/{f[0].name}") for p in patterns)
    if key == "label":
        from ....engine import views

        return lambda f: filters.has_labels(views.labels(f[0].record), values)
    if key in ("status", "health"):
        known = STATUSES if key == "status" else HEALTHS
        for value in values:
            if value not in known:
                raise errors.UsageError(f"invalid filter '{key}={value}'", advice=f"use one of {', '.join(known)}")
        if key == "health":
            return lambda f: (_health(*f) or "none") in values
        return lambda f: f[1].status in values
    if key == "exited":
        try:
            codes = [int(value) for value in values]
        except ValueError:
            raise errors.UsageError(f"invalid filter 'exited={values[0]}': it is not a number") from None
        return lambda f: f[1].status == "exited" and f[1].exit_status in codes
    if key == "ancestor":
        return _by_ancestor(values, cli)
    if key == "network":
        return lambda f: _config(f[0]).get("network") in values
    if key == "volume":
        return lambda f: not _volumes(f[0]).isdisjoint(values)
    pivot = cli.engine.containers.get(values[0]).record.created_ns
    if key == "before":
        return lambda f: f[0].record.created_ns < pivot
    return lambda f: f[0].record.created_ns > pivot


def _by_ancestor(values: list[str], cli: Invocation) -> Callable[[Found], bool]:
    """Containers of an image, by its name, ID or digest; none when there is no such image."""
    names, digests = set(), set()
    for value in values:
        try:
            image = cli.engine.images.get(value)
        except (errors.NotFound, errors.InvalidArgument):
            continue
        names.add(image.name)
        digests.add(str(image.target.digest))
    return lambda f: f[0].record.image in names or f[0].record.image_digest in digests


def _config(container: Container) -> dict[str, Any]:
    found: dict[str, Any] = container.record.extensions.get("orlop.config", {})
    return found


def _volumes(container: Container) -> set[str]:
    """What is mounted, by its place in the container and on the host."""
    config = _config(container)
    return {*config.get("mount_points", ()), *(bind.split(":")[0] for bind in config.get("binds", ()))}


def main(cli: Invocation) -> int:
    flags = cli.flags
    filters = flags.get("filter", [])
    last = 1 if flags.get("latest") else flags.get("last", -1)
    everything = bool(flags.get("all")) or last > 0 or any(f.startswith(("status=", "exited=")) for f in filters)
    found = [(container, container.state()) for container in cli.engine.containers.list(all=True)]
    if not everything:
        found = [f for f in found if f[1].status in ("running", "paused", "restarting")]
    if filters:
        found = _keep(found, filters, cli)
    if last > 0:
        found = found[:last]
    full = bool(flags.get("no-trunc"))
    if flags.get("quiet"):
        for container, _ in found:
            cli.out(container.id if full else container.short_id)
        return 0
    now_ns, format, columns = time.time_ns(), flags.get("format", ""), list(_COLUMNS)
    size = bool(flags.get("size")) or ".Size" in format
    if flags.get("size"):
        columns.append("Size")
    rows = [_row(container, state, now_ns, full, size) for container, state in found]
    if format:
        from .. import template

        default = "\t".join(f"{{{{.{column}}}}}" for column in columns)
        raw = _RAW + ("size: {{.Size}}\n" if flags.get("size") else "")
        text = template.render_list(format, rows, HEADERS, table=default, raw=raw, what="container")
        if text:
            cli.out(text)
        return 0
    cells = [[row[c] for c in columns] for row in rows]
    width = None if full else tables.terminal_width()
    cli.out(tables.render([HEADERS[c] for c in columns], cells, width=width, keep=(0, columns.index("Names"))))
    return 0
