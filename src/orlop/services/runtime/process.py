"""The process of a container: command line, environment, working directory, OOM score.

Pure. Sources: image-spec config.md, docker run(1) for how flags and image combine. On the hot path.
"""

from __future__ import annotations

import os

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...base.oci.config import RunConfig
    from .environment import HostFacts
    from .options import RunOptions
    from .users import User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

INIT_INSIDE = "/dev/init"
"""Where `--init`'s program is bound: in the container's own /dev, so that the image is not written to."""


def command(image: RunConfig, options: RunOptions) -> list[str]:
    """What is executed. An entrypoint of the caller's drops the image's command. Raises UsageError for nothing."""
    if options.entrypoint is None:
        found = [*image.entrypoint, *(options.args or image.cmd)]
    else:
        found = [*(word for word in options.entrypoint[:1] if word), *options.entrypoint[1:], *options.args]
    if not found:
        raise errors.UsageError("no command specified", advice="give a command after the image, or an --entrypoint")
    if not found[0]:
        raise errors.UsageError("the command is an empty string")
    return [INIT_INSIDE, "--", *found] if options.init else found


def environment(
    image: RunConfig, options: RunOptions, caller: Mapping[str, str], hostname: str, user: User
) -> list[str]:
    """Entries "NAME=value": defaults, the image's, the caller's.

    HOME comes first when neither sets it (and never otherwise), so that `exec` as another user can tell.
    """
    found = {"PATH": DEFAULT_PATH}
    if hostname:
        found["HOSTNAME"] = hostname
    if options.terminal:
        found["TERM"] = "xterm"
    for entry in image.env:
        name, equals, value = entry.partition("=")
        if name and equals:
            found[name] = value
    merge(found, options.env, caller)
    if not found.get("HOME"):
        found.pop("HOME", None)
        found = {"HOME": user.home, **found}
    return [f"{name}={value}" for name, value in found.items()]


def merge(into: dict[str, str], entries: Iterable[str], caller: Mapping[str, str]) -> None:
    """Apply `-e` flags: "NAME=value" sets, "NAME" hands on the caller's value or unsets. Raises UsageError."""
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name:
            raise errors.UsageError(f"invalid environment variable: {entry!r}")
        if equals:
            into[name] = value
        elif name in caller:
            into[name] = caller[name]
        else:
            into.pop(name, None)


def working_directory(wanted: str, fallback: str) -> str:
    """Where the process starts. wanted must be absolute (Docker's rule); the image's may be relative to "/"."""
    if wanted:
        if not wanted.startswith("/"):
            raise errors.UsageError(
                f"--workdir: the working directory {wanted!r} is invalid, it needs to be an absolute path"
            )
        path = wanted
    else:
        path = f"/{fallback}"
    clean = os.path.normpath(path)
    return clean[1:] if clean.startswith("//") else clean


def oom_score(wanted: int | None, host: HostFacts) -> tuple[int | None, tuple[str, ...]]:
    """`process.oomScoreAdj` and warnings: what we may not lower stays at our own. Raises UsageError."""
    if wanted is None:
        return None, ()
    if not -1000 <= wanted <= 1000:
        raise errors.UsageError(f"invalid --oom-score-adj {wanted}: the range is -1000 to 1000")
    if wanted < host.oom_score_adj and not host.may_raise_limits:
        return host.oom_score_adj, (
            f"--oom-score-adj raised from {wanted} to {host.oom_score_adj}: this process may not lower it",
        )
    return wanted, ()


def umask(text: str) -> int | None:
    """A umask in octal text. Raises UsageError."""
    if not text:
        return None
    if len(text) > 4 or any(c not in "01234567" for c in text) or int(text, 8) > 0o777:
        raise errors.UsageError(f"invalid --umask {text!r}: octal, 0000 to 0777")
    return int(text, 8)
