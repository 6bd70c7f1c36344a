"""Block I/O of a container: weights and rate limits of devices, as `linux.resources.blockIO`.

Looks at the host's device nodes through a `stat` function that is handed in. A weight that the kernel cannot apply is
warned about (it only shares out), a limit is refused. Sources: runtime-spec config-linux.md, docker run(1), the
kernel's cgroup-v1/blkio-controller.rst. Loaded only when one of these flags is given.
"""

from __future__ import annotations

import os
import stat as _stat

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .environment import HostFacts
    from .options import RunOptions

    Stat = Callable[[str], os.stat_result]

MIN_WEIGHT, MAX_WEIGHT = 10, 1000

_LIMITS = (
    ("device-read-bps", "device_read_bps", "throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("device-write-bps", "device_write_bps", "throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("device-read-iops", "device_read_iops", "throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("device-write-iops", "device_write_iops", "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)
"""Flag, field of RunOptions, member of the specification, file of cgroup v1."""

_UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "m": 20, "mb": 20, "g": 30, "gb": 30, "t": 40, "tb": 40}


def to_spec(options: RunOptions, host: HostFacts, stat: Stat = os.stat) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`linux.resources.blockIO` (empty for nothing) and warnings.

    Raises UsageError for what is malformed, FailedPrecondition for a limit this machine cannot apply.
    """
    made: dict[str, Any] = {}
    if options.blkio_weight and not MIN_WEIGHT <= options.blkio_weight <= MAX_WEIGHT:
        raise errors.UsageError(
            f"invalid --blkio-weight {options.blkio_weight}: the range is {MIN_WEIGHT} to {MAX_WEIGHT}"
        )
    weights = [_weight(text, stat) for text in options.blkio_weight_device]
    warnings: tuple[str, ...] = ()
    if options.blkio_weight or weights:
        if _has_weights(host):
            if options.blkio_weight:
                made["weight"] = options.blkio_weight
            if weights:
                made["weightDevice"] = weights
        else:
            flag = "--blkio-weight" if options.blkio_weight else "--blkio-weight-device"
            warnings = (f"{flag} has no effect: there are no block I/O weights that can be set here",)
    for flag, field, member, file in _LIMITS:
        wanted = getattr(options, field)
        if not wanted:
            continue
        made[member] = [_limit(flag, text, stat) for text in wanted]
        if "blkio" not in host.controllers or (host.cgroup_mode != "v2" and not host.has_cgroup_file("blkio", file)):
            raise errors.FailedPrecondition(
                f"--{flag} cannot be applied: this kernel does not limit block I/O here",
                advice="start without the flag, or enable the blkio (io) cgroup controller",
            )
    return made, warnings


def _has_weights(host: HostFacts) -> bool:
    if "blkio" not in host.controllers:
        return False
    if host.cgroup_mode == "v2":
        return True
    return host.has_cgroup_file("blkio", "blkio.weight")  # crun 1.8 does not know blkio.bfq.weight


def _weight(text: str, stat: Stat) -> dict[str, Any]:
    device, number = _split("blkio-weight-device", text, "/DEVICE:WEIGHT")
    if not _is_number(number) or not MIN_WEIGHT <= int(number) <= MAX_WEIGHT:
        raise errors.UsageError(f"invalid --blkio-weight-device {text!r}: the weight is {MIN_WEIGHT} to {MAX_WEIGHT}")
    return {**_numbers("blkio-weight-device", text, device, stat), "weight": int(number)}


def _limit(flag: str, text: str, stat: Stat) -> dict[str, Any]:
    bytes_ = flag.endswith("bps")
    device, rate = _split(flag, text, "/DEVICE:RATE[kb|mb|gb]" if bytes_ else "/DEVICE:RATE")
    digits = rate.rstrip("bkmgtBKMGT") if bytes_ else rate
    unit = rate[len(digits) :].lower()
    if not _is_number(digits) or unit not in _UNITS or int(digits) << _UNITS[unit] >= 1 << 63:
        raise errors.UsageError(f"invalid --{flag} {text!r}: the rate is a positive number")
    return {**_numbers(flag, text, device, stat), "rate": int(digits) << _UNITS[unit]}


def _split(flag: str, text: str, form: str) -> tuple[str, str]:
    device, colon, value = text.rpartition(":")
    if not colon or not device.startswith("/"):
        raise errors.UsageError(f"invalid --{flag} {text!r}: the form is {form}")
    return device, value


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 20


def _numbers(flag: str, text: str, device: str, stat: Stat) -> dict[str, int]:
    try:
        status = stat(device)
    except OSError as error:
        raise errors.UsageError(f"invalid --{flag} {text!r}: {device}: {error.strerror}") from error
    if not _stat.S_ISBLK(status.st_mode):
        raise errors.UsageError(f"invalid --{flag} {text!r}: {device} is not a block device")
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
