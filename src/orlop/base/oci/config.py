"""Image configurations: a typed view of raw bytes, chain IDs, and a writer for new images.

OCI image specification 1.1 (config.md), read as leniently as Docker writes: any member may be null or missing. On the
hot path (`run` reads one); pure data.
"""

from __future__ import annotations

from .. import errors, jsonio
from ..record import Record
from . import digest as _digest
from .platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .digest import Digest

MAX_CONFIG_BYTES = 8 << 20


class Healthcheck(Record):
    """How Docker asks whether a container is well. Times are in nanoseconds; 0 means the default."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class RunConfig(Record):
    """The `config` section: what a container of the image starts with. () and "" where the image says nothing.

    env: "NAME=value" in order. exposed_ports: "80/tcp". volumes: paths. stop_timeout: seconds, or None.
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


class History(Record):
    """One step of how the image was made; created is RFC 3339 text or ""."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Record):
    """An image's configuration.

    created: RFC 3339 text or "". diff_ids: digests of the uncompressed layers, lowest first. raw: the bytes it was
    read from, b"" for a new one; after `replace` they are those of the original.
    """

    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    created: str = ""
    author: str = ""
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    config: RunConfig = RunConfig()
    raw: bytes = b""

    @property
    def platform(self) -> Platform:
        """The platform, as written (see `platform.normalize`)."""
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)


def parse(raw: bytes) -> ImageConfig:
    """The view of an image configuration's bytes. Raises InvalidArgument naming the bad member."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise errors.InvalidArgument(f"image config has {len(raw)} bytes; at most {MAX_CONFIG_BYTES} are read")
    try:
        value = jsonio.loads(raw)
    except ValueError as error:
        raise errors.InvalidArgument(f"image config is not JSON: {error}") from error
    top = _object(value, "image config")
    rootfs = _object(top.get("rootfs"), "rootfs")
    if rootfs.get("type") not in (None, "", "layers"):
        raise _bad("rootfs.type", rootfs["type"])
    return ImageConfig(
        architecture=_text(top, "architecture"),
        os=_text(top, "os"),
        variant=_text(top, "variant"),
        os_version=_text(top, "os.version"),
        os_features=_texts(top, "os.features"),
        created=_text(top, "created"),
        author=_text(top, "author"),
        diff_ids=tuple(_digest.parse(text) for text in _texts(rootfs, "diff_ids")),
        history=tuple(_history(item) for item in _list(top, "history")),
        config=_run_config(_object(top.get("config"), "config")),
        raw=raw,
    )


def _run_config(value: dict[str, Any]) -> RunConfig:
    stop_timeout = value.get("StopTimeout")
    health = value.get("Healthcheck")
    return RunConfig(
        user=_text(value, "User"),
        exposed_ports=_keys(value, "ExposedPorts"),
        env=_texts(value, "Env"),
        entrypoint=_texts(value, "Entrypoint"),
        cmd=_texts(value, "Cmd"),
        volumes=_keys(value, "Volumes"),
        working_dir=_text(value, "WorkingDir"),
        labels={k: _string(v, f"Labels.{k}") for k, v in _object(value.get("Labels"), "Labels").items()},
        stop_signal=_text(value, "StopSignal"),
        stop_timeout=None if stop_timeout is None else _int(value, "StopTimeout"),
        healthcheck=None if health is None else _health(_object(health, "Healthcheck")),
        args_escaped=value.get("ArgsEscaped") is True,
        shell=_texts(value, "Shell"),
        on_build=_texts(value, "OnBuild"),
    )


def _health(value: dict[str, Any]) -> Healthcheck:
    return Healthcheck(
        test=_texts(value, "Test"),
        interval=_int(value, "Interval"),
        timeout=_int(value, "Timeout"),
        start_period=_int(value, "StartPeriod"),
        start_interval=_int(value, "StartInterval"),
        retries=_int(value, "Retries"),
    )


def _history(item: Any) -> History:
    value = _object(item, "history")
    return History(
        created=_text(value, "created"),
        created_by=_text(value, "created_by"),
        author=_text(value, "author"),
        comment=_text(value, "comment"),
        empty_layer=value.get("empty_layer") is True,
    )


def _bad(member: str, value: Any) -> errors.InvalidArgument:
    shown = repr(value)
    return errors.InvalidArgument(f"image config: {member} is {shown if len(shown) < 80 else shown[:80] + '…'}")


def _object(value: Any, member: str) -> dict[str, Any]:
    if value is None and member != "image config":
        return {}
    if not isinstance(value, dict):
        raise _bad(member, value)
    return value


def _string(value: Any, member: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _bad(member, value)
    return value


def _text(value: dict[str, Any], member: str) -> str:
    return _string(value.get(member), member)


def _int(value: dict[str, Any], member: str) -> int:
    number = value.get(member)
    if number is None:
        return 0
    if not isinstance(number, int) or isinstance(number, bool):
        raise _bad(member, number)
    return number


def _list(value: dict[str, Any], member: str) -> list[Any]:
    items = value.get(member)
    if items is None:
        return []
    if not isinstance(items, list):
        raise _bad(member, items)
    return items


def _texts(value: dict[str, Any], member: str) -> tuple[str, ...]:
    items = _list(value, member)
    for item in items:
        if not isinstance(item, str):
            raise _bad(member, items)
    return tuple(items)


def _keys(value: dict[str, Any], member: str) -> tuple[str, ...]:
    """The keys of a set written as an object of empty objects, as Go does, in order."""
    return tuple(_object(value.get(member), member))


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain ID of each layer with all below it (config.md, "Layer ChainID"): the names of snapshots.

    The lowest is its diff ID itself; each further one the sha256 of "chain diff".
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(_digest.of_bytes(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


_STALE = ("container", "container_config", "docker_version", "id", "parent")
"""Members old Dockers wrote about the container an image was committed from; untrue of anything made from it."""


def config_bytes(image: ImageConfig) -> bytes:
    """The configuration of a new image; equal arguments give equal bytes.

    Members of `image.raw` this module does not know are kept, so an image derived with `replace` loses nothing.
    """
    known = _to_json(image)
    out: dict[str, Any] = {}
    for member in ("created", "author", "architecture", "variant", "os", "os.version", "os.features"):
        if known[member] or member in ("architecture", "os"):
            out[member] = known[member]
    config = _run_to_json(image.config)
    original = jsonio.loads(image.raw) if image.raw else {}
    for member, value in (original.get("config") or {}).items():
        if member not in _RUN_MEMBERS and value is not None:
            config[member] = value
    out["config"] = config
    out["rootfs"] = {"type": "layers", "diff_ids": list(image.diff_ids)}
    out["history"] = [_history_to_json(step) for step in image.history]
    for member, value in original.items():
        if member not in out and member not in known and member not in _STALE and value is not None:
            out[member] = value
    return jsonio.dump_bytes(out)


def _to_json(image: ImageConfig) -> dict[str, Any]:
    return {
        "created": image.created,
        "author": image.author,
        "architecture": image.architecture,
        "variant": image.variant,
        "os": image.os,
        "os.version": image.os_version,
        "os.features": list(image.os_features),
    }


_RUN_MEMBERS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "ArgsEscaped", "Volumes", "WorkingDir",
    "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip


def _run_to_json(config: RunConfig) -> dict[str, Any]:
    out: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in sorted(config.exposed_ports)},
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Healthcheck": None if config.healthcheck is None else _health_to_json(config.healthcheck),
        "ArgsEscaped": config.args_escaped,
        "Volumes": {path: {} for path in sorted(config.volumes)},
        "WorkingDir": config.working_dir,
        "OnBuild": list(config.on_build),
        "Labels": dict(sorted(config.labels.items())),
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
        "Shell": list(config.shell),
    }
    return {
        member: value
        for member, value in out.items()
        if value or (member == "StopTimeout" and value is not None) or (member == "Healthcheck" and value is not None)
    }


def _health_to_json(health: Healthcheck) -> dict[str, Any]:
    out: dict[str, Any] = {
        "Test": list(health.test),
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
        "Retries": health.retries,
    }
    return {member: value for member, value in out.items() if value}


def _history_to_json(step: History) -> dict[str, Any]:
    out: dict[str, Any] = {
        "created": step.created,
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "empty_layer": step.empty_layer,
    }
    return {member: value for member, value in out.items() if value}
