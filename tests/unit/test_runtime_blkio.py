"""Block I/O flags: parsed, checked against device nodes, refused or warned about where the kernel cannot."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.runtime import blkio
from orlop.services.runtime.environment import HostFacts
from orlop.services.runtime.options import RunOptions

V2 = HostFacts(cgroup_mode="v2")
FILES = ("blkio.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
         "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device")  # fmt: skip
V1 = HostFacts(cgroup_mode="v1", cgroup_files=FILES)
BLOCK = 0o060660


def stat(path: str) -> os.stat_result:
    if path != "/dev/sda":
        raise FileNotFoundError(2, "No such file or directory", path)
    values: Any = (BLOCK, 1, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, os.makedev(8, 3))
    return os.stat_result(values[:10], {"st_rdev": os.makedev(8, 3)})


@pytest.mark.parametrize("host", [V1, V2])
def test_weights_and_limits_name_the_device_by_number(host: HostFacts) -> None:
    options = RunOptions(
        blkio_weight=500,
        blkio_weight_device=("/dev/sda:10",),
        device_read_bps=("/dev/sda:2mb",),
        device_write_bps=("/dev/sda:7",),
        device_read_iops=("/dev/sda:9",),
        device_write_iops=("/dev/sda:0",),
    )
    number = {"major": 8, "minor": 3}
    made, warnings = blkio.to_spec(options, host, stat)
    assert warnings == ()
    assert made == {
        "weight": 500,
        "weightDevice": [{**number, "weight": 10}],
        "throttleReadBpsDevice": [{**number, "rate": 2 << 20}],
        "throttleWriteBpsDevice": [{**number, "rate": 7}],
        "throttleReadIOPSDevice": [{**number, "rate": 9}],
        "throttleWriteIOPSDevice": [{**number, "rate": 0}],
    }


def test_a_weight_that_cannot_be_applied_is_warned_about_and_left_out() -> None:
    made, warnings = blkio.to_spec(RunOptions(blkio_weight=500), V1.replace(cgroup_files=()), stat)
    assert made == {}
    assert "--blkio-weight has no effect" in warnings[0]


@pytest.mark.parametrize("field", ["device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops"])
@pytest.mark.parametrize("host", [V1.replace(cgroup_files=()), V2.replace(controllers=("memory",))])
def test_a_limit_that_cannot_be_applied_fails_closed(field: str, host: HostFacts) -> None:
    options = RunOptions(**{field: ("/dev/sda:10",)})  # type: ignore[arg-type]
    with pytest.raises(errors.FailedPrecondition, match=f"--{field.replace('_', '-')} cannot be applied"):
        blkio.to_spec(options, host, stat)


@settings(max_examples=100)
@given(st.text(alphabet="0123456789kmgtb:/-. dev", max_size=20))
def test_any_text_is_a_rate_or_a_usage_error(text: str) -> None:
    try:
        made, _ = blkio.to_spec(RunOptions(device_read_bps=(text,)), V2, stat)
    except errors.UsageError:
        return
    assert 0 <= made["throttleReadBpsDevice"][0]["rate"] < 1 << 63
