"""Every flag of run with values that make no sense: exit 125, one line that names the flag, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop

MALFORMED = [
    ("--annotation", "x"),
    ("--annotation", "=x"),
    ("--blkio-weight", "5"),
    ("--blkio-weight", "1001"),
    ("--blkio-weight", "heavy"),
    ("--blkio-weight-device", "/dev/null:100"),
    ("--blkio-weight-device", "/dev/none:100"),
    ("--blkio-weight-device", "vda:100"),
    ("--cap-add", "FLY"),
    ("--cap-drop", ""),
    ("--cgroup-parent", "../x"),
    ("--cgroup-parent", "system.slice"),
    ("--cgroupns", "mars"),
    ("--cgroupns", "container:"),
    ("--cpu-period", "10"),
    ("--cpu-quota", "5"),
    ("--cpu-rt-period", "-1"),
    ("--cpu-rt-runtime", "2000000"),
    ("--cpu-shares", "1"),
    ("--cpu-shares", "-5"),
    ("--cpus", "1000000"),
    ("--cpus", "-1"),
    ("--cpus", "nan"),
    ("--cpuset-cpus", "a-b"),
    ("--cpuset-cpus", "3-1"),
    ("--cpuset-mems", "0,"),
    ("--device", "/dev/none"),
    ("--device", "dev/null"),
    ("--device", "/dev/null:/x:abc"),
    ("--device", "/etc/passwd"),
    ("--device", "vendor.com/none=x"),
    ("--device-cgroup-rule", "c 1"),
    ("--device-cgroup-rule", "x 1:1 rwm"),
    ("--device-read-bps", "/dev/null:1mb"),
    ("--device-read-bps", "1mb"),
    ("--device-read-bps", "/dev/null:-1"),
    ("--device-write-bps", "/dev/null:1xb"),
    ("--device-read-iops", "/dev/null:1k"),
    ("--device-write-iops", ""),
    ("--gpus", "some"),
    ("--gpus", "0"),
    ("--gpus", "driver=amd"),
    ("--group-add", "nobody-here"),
    ("--health-interval", "soon"),
    ("--health-interval", "1us"),
    ("--health-timeout", "-1s"),
    ("--health-retries", "-1"),
    ("--hostname", "-x"),
    ("--hostname", "a/b"),
    ("--init-binary", "tini"),
    ("--init-binary", "/etc/passwd"),
    ("--ipc", "mars"),
    ("--ipc", "container:"),
    ("--kernel-memory", "much"),
    ("--label-file", "/none"),
    ("--memory", "1k"),
    ("--memory", "-1"),
    ("--memory-reservation", "x"),
    ("--memory-swap", "x"),
    ("--memory-swap", "64m"),
    ("--memory-swappiness", "101"),
    ("--memory-swappiness", "-2"),
    ("--mount", "type=bind,target=/x"),
    ("--mount", "type=bind,src=/tmp,dst=x"),
    ("--mount", "type=bind,src=/tmp,dst=/"),
    ("--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=far"),
    ("--mount", "type=bind,src=/tmp,dst=/x,bind-recursive=readonly"),
    ("--mount", "type=bind,src=/tmp,dst=/x,volume-subpath=a"),
    ("--mount", "type=bind,src=/tmp,dst=/x,frobnicate=1"),
    ("--mount", "type=image,dst=/x"),
    ("--mount", "type=image,src=busybox:test,dst=/x,image-subpath=../x"),
    ("--mount", "type=image,src=no/such:image,dst=/x"),
    ("--mount", "type=volume,src=../x,dst=/x"),
    ("--mount", "type=volume,src=v,dst=/x,volume-subpath=/abs"),
    ("--mount", "type=volume,src=v,dst=/x,volume-driver=nfs"),
    ("--mount", "type=volume,src=v,dst=/x,volume-opt=size=1"),
    ("--mount", "type=tmpfs,dst=/x,tmpfs-size=big"),
    ("--mount", "type=nfs,dst=/x"),
    ("--mount", 'type=tmpfs,dst="/x'),
    ("--network", "container:"),
    ("--oom-score-adj", "1001"),
    ("--pid", "mars"),
    ("--pids-limit", "-2"),
    ("--restart", "sometimes"),
    ("--restart", "always:3"),
    ("--restart", "on-failure:x"),
    ("--restart", "always"),
    ("--security-opt", "frobnicate"),
    ("--security-opt", "seccomp=/none"),
    ("--security-opt", "no-new-privileges=maybe"),
    ("--security-opt", "label=type:x"),
    ("--shm-size", "-1"),
    ("--shm-size", "x"),
    ("--stop-signal", "SIGFROB"),
    ("--storage-opt", "size=1g"),
    ("--sysctl", "kernel.panic=1"),
    ("--sysctl", "x"),
    ("--tmpfs", "x"),
    ("--tmpfs", "/x:frob"),
    ("--ulimit", "nofile"),
    ("--ulimit", "nofile=2:1"),
    ("--ulimit", "sails=1"),
    ("--umask", "9"),
    ("--user", "nobody-here"),
    ("--userns", "mars"),
    ("--uts", "mars"),
    ("--volume", "a:b:c:d"),
    ("--volume", "/tmp:relative"),
    ("--volume", "/tmp:/x:frob"),
    ("--volume", "bad/name:/x"),
    ("--volume", "/tmp:/x:ro,rw"),
    ("--volume-driver", "nfs"),
    ("--volumes-from", "nobody"),
    ("--volumes-from", "nobody:rx"),
    ("--workdir", "relative"),
]


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "flags-malformed") as opened:
        opened.import_busybox()
        yield opened


@pytest.mark.parametrize(("flag", "value"), MALFORMED, ids=[f"{flag[2:]}={value}" for flag, value in MALFORMED])
def test_a_malformed_value_is_refused_in_one_line_that_names_the_flag(orlop: Orlop, flag: str, value: str) -> None:
    done = orlop.run("run", "--rm", flag, value, IMAGE, "true", code=125)
    first, *rest = done.stderr.decode().splitlines()
    assert first.startswith("orlop: ")
    assert len(rest) <= 2
    assert "Traceback" not in done.stderr.decode()
    assert flag in first
    assert done.stdout == b""


def test_nothing_is_left_of_what_was_refused(orlop: Orlop) -> None:
    for flag, value in (("--user", "nobody-here"), ("--mount", "type=image,src=no/such:image,dst=/x")):
        orlop.run("create", "-v", "/anonymous", flag, value, IMAGE, "true", code=125)
    assert orlop.out("ps", "-aq") == ""
    assert orlop.out("volume", "ls", "-q", "--filter", "dangling=true").split("\n") in ([""], ["v"])
    assert not list((orlop.root / "containers").rglob("hostname"))
