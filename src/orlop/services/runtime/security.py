"""`--security-opt`: parsed, and a seccomp profile's file put inline.

`parse` is pure; `inline_files` reads the files named. Source: docker run(1). On the hot path.
"""

from __future__ import annotations

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_PROFILE_BYTES = 4 << 20


class Security(Record):
    """What the options say. seccomp: "" (the default profile), "unconfined", or a profile's JSON.

    no_new_privileges: None when nothing is said. apparmor: "" for the default, "unconfined" or a profile's name.
    """

    seccomp: str = ""
    no_new_privileges: bool | None = None
    apparmor: str = ""
    selinux: tuple[str, ...] = ()
    system_paths_unconfined: bool = False
    writable_cgroups: bool = False
    without_host_devices: bool = False


DEFAULT = Security()


def _split(option: str) -> tuple[str, str, bool]:
    """Key and value of "key=value", "key:value" (Docker's old form) or "key"."""
    equals, colon = option.find("="), option.find(":")
    if equals >= 0 and (colon < 0 or equals < colon):
        return option[:equals], option[equals + 1 :], True
    if colon >= 0:
        return option[:colon], option[colon + 1 :], True
    return option, "", False


def _switch(option: str, value: str, given: bool) -> bool:
    if not given or value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise errors.UsageError(f"invalid --security-opt {option!r}: the value is true or false")


def parse(options: Iterable[str]) -> Security:
    """What `--security-opt` options mean; the later of two for one thing counts. Raises UsageError for unknown ones."""
    changes: dict[str, object] = {}
    labels: list[str] = []
    for option in options:
        key, value, given = _split(option)
        if key == "seccomp" and value:
            changes["seccomp"] = "" if value in ("builtin", "default") else value
        elif key == "no-new-privileges":
            changes["no_new_privileges"] = _switch(option, value, given)
        elif key == "apparmor" and value:
            changes["apparmor"] = value
        elif key == "label" and value:
            labels.append(value)
        elif key == "systempaths" and value == "unconfined":
            changes["system_paths_unconfined"] = True
        elif key == "writable-cgroups":
            changes["writable_cgroups"] = _switch(option, value, given)
        elif key == "privileged-without-host-devices":
            changes["without_host_devices"] = _switch(option, value, given)
        else:
            raise errors.UsageError(
                f"invalid --security-opt {option[:80]!r}",
                advice="known: seccomp=FILE|unconfined, no-new-privileges[=BOOL], apparmor=NAME, label=disable, "
                "systempaths=unconfined, writable-cgroups[=BOOL], privileged-without-host-devices[=BOOL]",
            )
    if labels:
        changes["selinux"] = tuple(labels)
    return DEFAULT.replace(**changes) if changes else DEFAULT


def inline_files(options: Iterable[str]) -> tuple[str, ...]:
    """The options with "seccomp=FILE" replaced by the file's JSON, as Docker's client sends it.

    Raises UsageError for a file that cannot be read or is not UTF-8.
    """
    from ...base import fsio

    found = []
    for option in options:
        key, value, _ = _split(option)
        if key == "seccomp" and value not in ("", "unconfined", "builtin", "default") and not value.startswith("{"):
            try:
                value = fsio.read_file(value, _MAX_PROFILE_BYTES).decode()
            except OSError as error:
                raise errors.UsageError(
                    f"--security-opt: opening seccomp profile {value} failed: {error.strerror}"
                ) from error
            except UnicodeDecodeError:
                raise errors.UsageError(f"--security-opt: seccomp profile {value} is not UTF-8") from None
            option = f"seccomp={value.strip()}"
        found.append(option)
    return tuple(found)
