"""CDI: names, files of vendors, edits of a specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.services.runtime import cdi


def spec() -> dict[str, Any]:
    return {
        "process": {"env": ["PATH=/bin", "A=1"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}],
        "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}},
    }


def write(directory: Path, name: str, **values: Any) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps({"cdiVersion": "0.6.0", **values}))


@pytest.mark.parametrize("text", ["vendor.com/gpu=0", "v/c=d", "a-b.c/net-1=eth0:1.2_3"])
def test_a_qualified_name_is_one(text: str) -> None:
    assert cdi.is_name(text)


@pytest.mark.parametrize("text", ["", "/dev/null", "a=b", "a/b", "/b=c", "a/=c", "a/b=", "1a/b=c", "a/b=c-", "a/b=/x"])
def test_anything_else_is_not(text: str) -> None:
    assert not cdi.is_name(text)


def test_edits_are_applied_once_for_the_file_and_for_each_device(tmp_path: Path) -> None:
    write(
        tmp_path / "a",
        "v.json",
        kind="v/c",
        containerEdits={"env": ["A=2"], "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["t"]}]},
        devices=[
            {
                "name": name,
                "containerEdits": {
                    "deviceNodes": [{"path": f"/dev/{name}", "type": "c", "major": 10, "minor": 5, "permissions": "r"}],
                    "mounts": [{"hostPath": "/h", "containerPath": "/proc", "options": ["ro"]}],
                    "additionalGids": [0, 44, 44],
                },
            }
            for name in ("x", "y")
        ],
    )
    made = spec()
    cdi.apply(made, ["v/c=x", "v/c=y"], [str(tmp_path / "a")])
    assert made["process"]["env"] == ["PATH=/bin", "A=2"]
    assert made["process"]["user"]["additionalGids"] == [44]
    assert [node["path"] for node in made["linux"]["devices"]] == ["/dev/x", "/dev/y"]
    assert made["linux"]["resources"]["devices"][1] == {
        "allow": True, "type": "c", "major": 10, "minor": 5, "access": "r",
    }  # fmt: skip
    assert made["mounts"] == [{"destination": "/proc", "type": "bind", "source": "/h", "options": ["rbind", "ro"]}]
    assert made["hooks"] == {"createContainer": [{"path": "/bin/true", "args": ["t"]}]}
    assert next(reversed(made)) == "linux"


def test_a_later_directory_overrides_an_earlier_one(tmp_path: Path) -> None:
    for name in ("etc", "run"):
        edits = {"env": [f"FROM={name}"]}
        write(tmp_path / name, "v.json", kind="v/c", devices=[{"name": "x", "containerEdits": edits}])
    made = spec()
    cdi.apply(made, ["v/c=x"], [str(tmp_path / "etc"), str(tmp_path / "run"), str(tmp_path / "missing")])
    assert "FROM=run" in made["process"]["env"]
    assert "FROM=etc" not in made["process"]["env"]


def test_a_device_nobody_describes_is_refused_and_a_broken_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", "v.json", kind="v/c", devices=[])
    (tmp_path / "a" / "broken.json").write_text("{")
    (tmp_path / "a" / "broken.yaml").write_text("a: [")
    with pytest.raises(errors.UsageError, match=r"unresolvable CDI device .*broken\.json"):
        cdi.apply(spec(), ["v/c=x"], [str(tmp_path / "a")])


@pytest.mark.parametrize(
    "edits",
    [
        {"netDevices": [{"hostInterfaceName": "eth0"}]},
        {"mounts": [{"hostPath": "relative", "containerPath": "/x"}]},
        {"hooks": [{"hookName": "whenever", "path": "/bin/true"}]},
        {"deviceNodes": [{"path": "/dev/x", "hostPath": "/nonesuch"}]},
        {"deviceNodes": [{}]},
        {"additionalGids": ["many"]},
    ],
)
def test_edits_that_cannot_be_applied_fail_closed(tmp_path: Path, edits: dict[str, Any]) -> None:
    write(tmp_path / "a", "v.json", kind="v/c", devices=[{"name": "x", "containerEdits": edits}])
    with pytest.raises(errors.FailedPrecondition):
        cdi.apply(spec(), ["v/c=x"], [str(tmp_path / "a")])
