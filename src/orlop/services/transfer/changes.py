"""`--change`: Dockerfile instructions applied to an image's config (`import` now, `commit` later).

The grammar is the Dockerfile reference's for these instructions, one to a string. Pure.
"""

from __future__ import annotations

from ...base import errors, jsonio, times
from ...base.oci.config import Healthcheck, RunConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_KNOWN = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR"
_SHELL = ("/bin/sh", "-c")


def apply(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """The config with the instructions carried out in order. InvalidArgument names the one that is wrong."""
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        config = _apply(config, word.upper(), rest.strip(), change)
    return config


def _apply(config: RunConfig, word: str, rest: str, change: str) -> RunConfig:
    if not rest and word != "CMD" and word != "ENTRYPOINT":
        raise _bad(change, f"{word or 'an instruction'} needs a value")
    if word == "CMD":
        return config.replace(cmd=_command(rest, config, change))
    if word == "ENTRYPOINT":
        return config.replace(entrypoint=_command(rest, config, change))
    if word == "ENV":
        env = dict(item.partition("=")[::2] for item in config.env)
        env.update(_pairs(rest, change))
        return config.replace(env=tuple(f"{key}={value}" for key, value in env.items()))
    if word == "LABEL":
        return config.replace(labels={**config.labels, **_pairs(rest, change)})
    if word == "EXPOSE":
        ports = [_port(text, change) for text in _words(rest, change)]
        return config.replace(exposed_ports=tuple(dict.fromkeys([*config.exposed_ports, *ports])))
    if word == "VOLUME":
        paths = _json_list(rest) or _words(rest, change)
        return config.replace(volumes=tuple(dict.fromkeys([*config.volumes, *paths])))
    if word == "USER":
        return config.replace(user=rest)
    if word == "WORKDIR":
        import posixpath

        path = posixpath.normpath(posixpath.join(config.working_dir or "/", rest))
        return config.replace(working_dir="/" + path.lstrip("/"))
    if word == "STOPSIGNAL":
        from ...base import signals

        signals.parse(rest)
        return config.replace(stop_signal=rest)
    if word == "SHELL":
        shell = _json_list(rest)
        if not shell:
            raise _bad(change, "SHELL takes a JSON list of strings")
        return config.replace(shell=tuple(shell))
    if word == "ONBUILD":
        return config.replace(on_build=(*config.on_build, rest))
    if word == "HEALTHCHECK":
        return config.replace(healthcheck=_health(rest, change))
    raise _bad(change, f"{word} is not one of {_KNOWN}")


def _bad(change: str, why: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"invalid change {change!r}: {why}")


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = jsonio.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _command(text: str, config: RunConfig, change: str) -> tuple[str, ...]:
    listed = _json_list(text)
    if listed is not None:
        return tuple(listed)
    if text.startswith("[") and text.endswith("]"):
        raise _bad(change, "it looks like a JSON list but is not one of strings")
    return (*(config.shell or _SHELL), text) if text else ()


def _words(text: str, change: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise _bad(change, str(error).lower()) from None


def _pairs(text: str, change: str) -> dict[str, str]:
    words = _words(text, change)
    if not words:
        raise _bad(change, "it names nothing")
    if "=" not in words[0]:  # the old form: ENV NAME the rest is the value
        name, _, value = text.partition(" ")
        if not value.strip():
            raise _bad(change, f"{name!r} has no value")
        return {name: value.strip()}
    out = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise _bad(change, f"{word!r} is not NAME=VALUE")
        out[name] = value
    return out


def _port(text: str, change: str) -> str:
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    first, dash, last = number.partition("-")
    ends = (first, last) if dash else (first, first)
    if (
        protocol not in ("tcp", "udp", "sctp")
        or not all(end.isascii() and end.isdigit() and len(end) <= 5 and 0 < int(end) < 65536 for end in ends)
        or int(ends[0]) > int(ends[1])
    ):
        raise _bad(change, f"{text!r} is not a port")
    return f"{number}/{protocol}"


def _health(text: str, change: str) -> Healthcheck:
    if text.upper() == "NONE":
        return Healthcheck(test=("NONE",))
    times: dict[str, int] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        text = text.strip()
        name, equals, value = option[2:].partition("=")
        field = name.replace("-", "_")
        if not equals or field not in ("interval", "timeout", "start_period", "start_interval", "retries"):
            raise _bad(change, f"unknown option {option}")
        times[field] = _count(value, change) if field == "retries" else _duration(value, change)
    word, _, rest = text.partition(" ")
    if word.upper() != "CMD" or not rest.strip():
        raise _bad(change, "HEALTHCHECK takes NONE or CMD and a command")
    listed = _json_list(rest.strip())
    test = ("CMD", *listed) if listed is not None else ("CMD-SHELL", rest.strip())
    return Healthcheck(test=test, **times)


def _count(text: str, change: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _bad(change, f"{text!r} is not a number of retries")
    return int(text)


def _duration(text: str, change: str) -> int:
    try:
        return times.parse_duration(text)
    except errors.InvalidArgument as error:
        raise _bad(change, error.message) from None
