"""`orlop create`, and what `run` shares with it: from flags to a container."""

from __future__ import annotations

import os

from ....base import errors
from ....base.progress import Report, Sink
from .. import runflags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....engine.containers import Container
    from ..main import Invocation
    from ..progress import Display


def main(cli: Invocation) -> int:
    cli.out(make(cli).id)
    return 0


def key_values(items: list[str], flag: str) -> dict[str, str]:
    """["a=b", "c"] → {"a": "b", "c": ""}. UsageError for an empty key."""
    out = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key.strip():
            raise errors.UsageError(f"invalid argument {item!r} for --{flag}: it has no key")
        out[key] = value
    return out


def lines_of(path: str, flag: str) -> list[str]:
    """The lines of an env or label file: blank lines and comments are passed over."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip("\r\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.UsageError(f"open {path} (--{flag}): {reason}") from None
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def environment(flags: dict[str, Any]) -> tuple[str, ...]:
    """--env-file and --env as NAME=VALUE; a bare NAME takes the caller's value, and is left out if there is none."""
    items: list[str] = []
    for path in flags.get("env-file", ()):
        items.extend(lines_of(path, "env-file"))
    from_files = frozenset(items)
    items.extend(flags.get("env", ()))
    out = []
    for item in items:
        name, equals, _ = item.partition("=")
        if not name or (item in from_files and any(c.isspace() for c in name)):
            raise errors.UsageError(f"invalid environment variable: {item}", advice="use NAME=VALUE")
        if equals:
            out.append(item)
        elif name in os.environ:
            out.append(f"{name}={os.environ[name]}")
    return tuple(out)


def log_options(flags: dict[str, Any]) -> Any:
    """--log-driver and --log-opt."""
    from ....engine.containers import LogOptions

    given = key_values(flags.get("log-opt", []), "log-opt")
    max_size = max_file = ""
    for key, value in given.items():
        if key == "max-size":
            max_size = value
        elif key == "max-file":
            max_file = value
        else:
            raise errors.UsageError(f"unknown log opt '{key}'", advice="use max-size and max-file")
    from .. import human

    try:
        return LogOptions(
            flags.get("log-driver") or "json-file",
            human.parse_size(max_size) if max_size and max_size != "-1" else 0,
            int(max_file or 1),
        )
    except ValueError:
        raise errors.UsageError(f"invalid value for max-file: {max_file}") from None


class _LatePull(Sink):
    """Shows a pull's progress, loading the display only when a pull turns out to be needed."""

    def __init__(self, image: str, quiet: bool, policy: str) -> None:
        self._image = image
        self._quiet = quiet
        self._policy = policy
        self._display: Display | None = None

    def report(self, report: Report) -> None:
        if self._quiet:
            return
        if self._display is None:
            from ..progress import Display

            if self._policy == "missing":
                os.write(2, f"Unable to find image '{self._image}' locally\n".encode())
            self._display = Display("Pull complete")
            self._display.__enter__()
        self._display.report(report)

    def close(self) -> None:
        if self._display is not None:
            self._display.__exit__()


def make(cli: Invocation) -> Container:
    """Create the container that a `run` or `create` line asks for, pulling its image when that is wanted."""
    flags, image, args = cli.flags, cli.args[0], cli.args[1:]
    labels = {}
    for path in flags.get("label-file", ()):
        labels.update(key_values(lines_of(path, "label-file"), "label-file"))
    labels.update(key_values(flags.get("label", []), "label"))

    def warn(text: str) -> None:
        cli.warn(f"WARNING: {text}")

    options = runflags.options(flags, args, environment(flags), warn)
    log = log_options(flags) if "log-opt" in flags or "log-driver" in flags else None
    cidfile = flags.get("cidfile", "")
    if cidfile:
        _take(cidfile)
    made = ""
    display = _LatePull(image, bool(flags.get("quiet")), flags.get("pull", "missing"))
    try:
        container = cli.engine.containers.create(
            image,
            args,
            name=flags.get("name", ""),
            options=options,
            network=runflags.network_options(flags),
            log=log,
            remove=bool(flags.get("rm")),
            interactive=bool(flags.get("interactive")),
            stop_timeout=flags.get("stop-timeout"),
            platform=flags.get("platform"),
            pull=flags.get("pull", "missing"),
            labels=labels,
            progress=display,
            warn=warn,
        )
        made = container.id
    finally:
        display.close()
        if cidfile:
            _fill(cidfile, made)
    return container


def _take(cidfile: str) -> None:
    """Make the file before the container: where it cannot be made, there must be no container either."""
    try:
        os.close(os.open(cidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        raise errors.UsageError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        ) from None
    except OSError as error:
        raise errors.from_os(error, "create the container ID file") from error


def _fill(cidfile: str, id: str) -> None:
    """Write the ID into it, or remove it when there is no container."""
    if not id:
        os.unlink(cidfile)
        return
    with open(cidfile, "w", encoding="ascii") as file:
        file.write(id)
